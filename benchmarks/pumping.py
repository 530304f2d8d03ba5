"""What an attack of artificially inflated traffic costs without the pumping guard and with it.

    python -m benchmarks pumping [--variant hidden] [--daily 20000] ...
    python -m benchmarks pumping --all --enforce-only

Replays 24 hours at speed. Real: Postgres, the guard, the request's row, the trigger that counts what is
verified, and in shadow mode the claims of a worker, after which the guard decides; `now` is the replay's. Not
real: numbers are taken as parsed, no code is sent (a statement marks the row as sent) and none compared
(another marks it as verified); the limits are modelled here: 3 per number per 15 minutes, 10 a day, 10 per
address per 15 minutes. The 14 days before are put in as tallies.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine, insert, text
from uuid_utils.compat import uuid7

from benchmarks.pumping_traffic import DAY_S, Attack, Try, World
from otpqueue.domain.errors import DestinationPaused
from otpqueue.domain.guard import CountedAs, GuardMode, GuardPolicy
from otpqueue.domain.limits import GuessPolicy, WrongShare
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.request import Channel
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.operations.admission.applicant import Applicant
from otpqueue.operations.guard.pumping_guard import GuardClaims, PumpingGuard
from otpqueue.store import claims, clients, migrate
from otpqueue.store.accepting import NewRequest, NumberLookup, accept
from otpqueue.store.engine import connection, make_engine, run
from otpqueue.store.schema import guard_tallies, metadata, otp_requests
from otpqueue.store.vault import Vault

NO_GUESSES = GuessPolicy(
    number=None,
    client_ip=None,
    in_a_row=1000,
    max_checks=5,
    share=WrongShare(ceiling=1, window_s=60, min_checks=1),
)
MIDNIGHT = datetime(2026, 3, 15, tzinfo=UTC)
VAULT = Vault(sealing_keys={"k1": b"s" * 32}, hashing_key=b"h" * 32)
DAY, HOUR, SLOW = {"start_h": 0, "hours": 24}, {"start_h": 12, "hours": 1}, {"order": "sequential"}
VARIANTS = {
    "hidden": Attack(),
    "hidden, slow": Attack(**DAY),
    "hidden, burst": Attack(**HOUR),
    "hidden, slow, block by block": Attack(**DAY, **SLOW),
    "hidden, 10 % in people's blocks": Attack(populated=0.1),
    "hidden, 100 % in people's blocks": Attack(populated=1),
    "one empty country": Attack(where="empty"),
    "one small country, slow": Attack(where="small", **DAY),
    "one sparse country": Attack(where="sparse"),
    "one sparse country, slow, block by block": Attack(where="sparse", **DAY, **SLOW),
    "forty countries": Attack(where="many"),
    "forty countries, slow": Attack(where="many", **DAY),
    "forty countries, burst": Attack(where="many", **HOUR),
    "fifty countries, slow, block by block": Attack(where="mixed", **DAY, **SLOW),
    "forty countries, slow, no client_ip": Attack(where="many", sends_client_ip=False, **DAY),
}


@dataclass
class Outcome:
    """What became of the tries."""

    tries: Counter[bool] = field(default_factory=Counter)
    sent: Counter[bool] = field(default_factory=Counter)
    flagged: Counter[bool] = field(default_factory=Counter)
    """Refused by the guard, or in shadow mode what would have been."""
    limited: Counter[bool] = field(default_factory=Counter)

    def attack_share(self, sends: int) -> float:
        """Return this number of sends as a share of the attack's attempts."""
        return sends / max(self.tries[True], 1)

    @property
    def honest_lost(self) -> float:
        """Return the share of honest requests that the guard refused or would have."""
        return self.flagged[False] / self.tries[False]


class Limits:
    """The limits of the deployment's defaults, in memory."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def admit(self, one: Try) -> bool:
        """Return whether the limits let a request through, and count it if so."""
        rules = ((one.number, 900, 3), (one.number + " day", DAY_S, 10), (one.address, 900, 10))
        for key, window, most in rules:
            seen = self._seen[key]
            while seen and seen[0] <= one.at_s - window:
                seen.popleft()
            if len(seen) >= most:
                return False
        for key, _, _ in rules:
            self._seen[key].append(one.at_s)
        return True


class Replay:
    """A day over one database, which is emptied for each replay."""

    def __init__(self, engine: Engine, world: World, policy: GuardPolicy | None = None) -> None:
        self.engine, self.policy = engine, policy or GuardPolicy()
        self._guard_claims = GuardClaims(engine=engine, vault=VAULT, policy=self.policy)
        self.blocks, self.chances = world.history()
        self.honest = world.day()
        self.known = sorted({(iso, block) for (iso, block, _), (_, good) in self.blocks.items() if good})
        self.world = world

    def tries(self, attack: Attack | None) -> list[Try]:
        """Return the day's tries in order."""
        tries = self.honest + (self.world.attack(attack, self.known) if attack else [])
        return sorted(tries, key=lambda one: one.at_s)

    def limits_only(self, attack: Attack) -> Outcome:
        """Return what the limits alone let through."""
        outcome, limits = Outcome(), Limits()
        for one in self.tries(attack):
            outcome.tries[one.attack] += 1
            outcome.sent[one.attack] += limits.admit(one)
        return outcome

    def guarded(self, attack: Attack | None, mode: GuardMode, *, batch: int = 8) -> Outcome:
        """Return what limits and guard let through. In shadow mode `batch` requests are claimed at once."""
        client_id = self._reset()
        guard = PumpingGuard(engine=self.engine, mode=mode, policy=self.policy)
        outcome, limits = Outcome(), Limits()
        due: dict[UUID, Try] = {}
        typed: list[tuple[float, UUID]] = []
        reported = attack is None or attack.sends_client_ip
        for one in self.tries(attack):
            while typed and typed[0][0] <= one.at_s:
                self._verify(heapq.heappop(typed))
            outcome.tries[one.attack] += 1
            if not limits.admit(one):
                outcome.limited[one.attack] += 1
                continue
            request_id = self._accept(guard, client_id, one, address=one.address if reported else None)
            if request_id is None:
                outcome.flagged[one.attack] += 1
                continue
            if mode is GuardMode.ENFORCE:
                self._sent({request_id: one}, one.at_s, outcome, typed)
                continue
            due[request_id] = one
            if len(due) == batch:
                self._send(due, one.at_s, outcome, typed)
        self._send(due, DAY_S, outcome, typed)
        return outcome

    def _send(
        self, due: dict[UUID, Try], at_s: float, outcome: Outcome, typed: list[tuple[float, UUID]]
    ) -> None:
        """Claim all that is due, and send what was claimed."""
        now = MIDNIGHT + timedelta(seconds=at_s)
        claim = partial(claims.claim, slots=len(due), lease_s=60, worker="replay", now=now, vault=VAULT)
        while found := run(self.engine, claim):
            self._guard_claims.decide(found, now)
            self._sent({one.request_id: due[one.request_id] for one in found}, at_s, outcome, typed)
        # What is left was replaced by a newer request for the same number.
        due.clear()

    def _sent(
        self, tries: dict[UUID, Try], at_s: float, outcome: Outcome, typed: list[tuple[float, UUID]]
    ) -> None:
        """Mark requests as sent, and note when their codes will be typed."""
        with connection(self.engine) as conn:
            rows = conn.execute(_SENT, {"ids": list(tries), "at": MIDNIGHT + timedelta(seconds=at_s)}).all()
        for row in rows:
            one = tries[row.id]
            outcome.sent[one.attack] += 1
            outcome.flagged[one.attack] += row.guard_as == CountedAs.REFUSED
            if one.verified_after_s is not None:
                heapq.heappush(typed, (at_s + one.verified_after_s, row.id))

    def _accept(self, guard: PumpingGuard, client_id: UUID, one: Try, *, address: str | None) -> UUID | None:
        """Store a request and return its id; None if the guard refuses it."""
        now = MIDNIGHT + timedelta(seconds=one.at_s)
        number = PhoneNumber(one.number, one.country, "mobile")
        applicant = Applicant(
            client_id=client_id,
            number=number,
            number_hashes=VAULT.number_hashes(one.number),
            client_ip_hashes=VAULT.address_hashes(address),
            language=None,
            resend=False,
            is_test=False,
            now=now,
        )
        new = NewRequest(
            id=uuid7(),
            client_id=client_id,
            phone=number,
            session_id=None,
            client_ip=address,
            client_reference=None,
            channel=Channel.SMS,
            language=None,
            checks_allowed=5,
            created_at=now,
            send_by=now + timedelta(days=1),
            guard_block=guard.block(applicant),
        )
        lookup = NumberLookup(
            client_id=client_id,
            number_hashes=applicant.number_hashes,
            client_ip_hashes=applicant.client_ip_hashes,
            guesses=NO_GUESSES,
            now=now,
        )
        question = guard.question(applicant)
        try:
            while True:
                result = accept(
                    self.engine, new, lookup, most_wrong_in_a_row=100, vault=VAULT, guard=question
                )
                if result.accepted or question is None or result.guard is None:
                    return new.id
                question = guard.ask_again(applicant, question, result.guard)
        except DestinationPaused:
            return None

    def _verify(self, due: tuple[float, UUID]) -> None:
        with connection(self.engine) as conn:
            conn.execute(_VERIFIED, {"id": due[1], "at": MIDNIGHT + timedelta(seconds=due[0])})

    def _reset(self) -> UUID:
        with connection(self.engine) as conn:
            # The audit trail refuses it.
            tables = [name for name in metadata.tables if name != "audit_entries"]
            conn.execute(text("TRUNCATE " + ", ".join(tables)))
            client_id = clients.ensure_client(conn, "replay", now=MIDNIGHT)
            rows = [(iso, block, hour, counts) for (iso, block, hour), counts in self.blocks.items()]
            rows += [("ZZ" if of == "*" else of, of, hour, n) for (of, hour), n in self.chances.items()]
            conn.execute(
                insert(guard_tallies),
                [
                    {
                        "subject": subject,
                        "hour": MIDNIGHT + timedelta(hours=hour),
                        "country": iso,
                        "sent": sent,
                        "verified": verified,
                    }
                    for iso, subject, hour, (sent, verified) in rows
                ],
            )
            conn.execute(insert(otp_requests), [_verified_before(client_id, n) for n in self._returning()])
            conn.execute(text("ANALYZE"))
        return client_id

    def _returning(self) -> set[str]:
        return {one.number for one in self.honest if one.returning}


_SENT = text(
    "UPDATE otp_requests SET status = 'sent', sent_at = :at, send_state = 'idle', next_attempt_at = NULL, "
    "lease_until = NULL WHERE id = ANY(:ids) RETURNING id, guard_as"
)
_VERIFIED = text(
    "UPDATE otp_requests SET status = 'verified', verified_at = :at, finished_at = :at "
    "WHERE id = :id AND status = 'sent'"
)


def _verified_before(client_id: UUID, number: str) -> dict[str, Any]:
    then = MIDNIGHT - timedelta(days=5)
    return {
        "id": uuid7(),
        "client_id": client_id,
        "number_sealed": b"",
        "seal_key_id": "k1",
        "number_hash": VAULT.number_hash(number),
        "channel": "sms",
        "status": "verified",
        "send_state": "idle",
        "checks_allowed": 5,
        "created_at": then,
        "updated_at": then,
        "send_by": then,
        "verified_at": then,
        "finished_at": then,
    }


def report(replay: Replay, name: str, attack: Attack, *, shadow: bool) -> None:
    """Print what one attack costs."""
    start = time.monotonic()
    limited = replay.limits_only(attack)
    print(f"\n{name}: {limited.tries[True]} tries of the attack, {limited.tries[False]} honest ones")
    print(f"  {'':<22}{'attack sent':>12}{'of its tries':>14}{'honest lost':>13}{'of theirs':>11}")
    lost = limited.tries[False] - limited.sent[False]
    _line("limits only", limited, limited.sent[True], lost)
    if shadow:
        seen = replay.guarded(attack, GuardMode.SHADOW)
        _line("guard, shadow: would", seen, seen.sent[True] - seen.flagged[True], seen.flagged[False])
    held = replay.guarded(attack, GuardMode.ENFORCE)
    _line("guard, enforce", held, held.sent[True], held.flagged[False])
    good = held.attack_share(held.sent[True]) <= 0.01 and held.honest_lost <= 0.005
    print(f"  {'holds' if good else 'MISSES'} 1 % and 0.5 %   ({time.monotonic() - start:.0f} s)", flush=True)


def _line(name: str, outcome: Outcome, sent: int, lost: int) -> None:
    shares = f"{outcome.attack_share(sent):>13.2%}{lost:>14}{lost / outcome.tries[False]:>11.3%}"
    print(f"  {name:<22}{sent:>12} {shares}", flush=True)


def main() -> None:
    """Start Postgres, replay, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), action="append", help="may be given again")
    parser.add_argument("--all", action="store_true", help="every variant")
    parser.add_argument("--enforce-only", action="store_true", help="leave shadow mode out: half the time")
    parser.add_argument("--calm", action="store_true", help="first a day without an attack")
    parser.add_argument("--daily", type=int, default=20_000, help="honest requests a day")
    parser.add_argument("--numbers", type=int, default=10_000)
    parser.add_argument("--prefixes", type=int, default=200)
    parser.add_argument("--addresses", type=int, default=500)
    parser.add_argument(
        "--populated", type=float, help="share of attacked blocks that people have numbers in"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    own = {name: getattr(given, name) for name in ("numbers", "prefixes", "addresses")}
    if given.populated is not None:
        own["populated"] = given.populated
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres", durable=False) as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=2)
        migrate.upgrade(engine)
        replay = Replay(engine, World(daily=given.daily, seed=given.seed))
        if given.calm:
            nothing = replay.guarded(None, GuardMode.ENFORCE)
            print(f"no attack: {nothing.flagged[False]} honest lost, {nothing.honest_lost:.3%}", flush=True)
        for name in VARIANTS if given.all else given.variant or ["hidden"]:
            report(replay, name, replace(VARIANTS[name], **own), shadow=not given.enforce_only)
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
