"""Callers of the API: each executes one story, chosen by the seed, and records all answers.

A call that was not answered, or answered with 5xx, is made again, through another API, only where that is
safe: asking (the newest request wins), polling, cancelling. A check that was not answered stays open: typing
the code once more is a check of its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.faults import chaos, web
from tests.faults.cluster import NUMBER_QUOTA, Simulator
from tests.faults.history import FINAL_STATUSES, Call

STORIES: Mapping[str, int] = {
    "right": 28,
    "wrong_then_right": 14,
    "twice_at_once": 14,
    "exhaust": 8,
    "stranger": 6,
    "replace": 10,
    "two_sessions": 6,
    "cancel": 6,
    "leave": 6,
    "greedy": 1,
    "resend": 1,
    "expire": 1,
}
"""The stories of callers, with their frequency in per cent."""

LONG_STORIES = frozenset({"resend", "expire"})
"""The stories that wait for a cool-down or an expiry: half a minute and more."""

_CALL_S = 8.0
"""How long a caller waits for an answer: longer than a check at a provider that does not answer."""

_PATIENCE_S = 40.0
_WAIT_S = 2
_GREEDY = NUMBER_QUOTA + 4
"""How many codes a greedy caller requests for one number: more than the limit."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """The actions of one caller."""

    number: int
    at: float
    """When it begins, in seconds from the start of the run."""
    story: str
    seed: str

    flood: bool = False
    """Whether it is part of the flood: another client asks once, for a number of another block."""

    @property
    def phone_number(self) -> str:
        """A number that no other script uses."""
        return f"+447400{self.number + (_FLOOD_FROM if self.flood else 0):06d}"

    @property
    def name(self) -> str:
        """The prefix of its `client_reference`."""
        return f"{'f' if self.flood else ''}{self.number}"


_FLOOD_FROM = 500_000
_WARM_UP = 9_999
"""The number of the script that makes a block of numbers known to the pumping guard."""


def warm_up(*, flood: bool) -> Script:
    """Return the script that makes the block of the callers' numbers known to the guard, or the flood's."""
    return Script(number=_WARM_UP, at=0.0, story="right", seed="warm-up", flood=flood)


def scripts(
    seed: int, *, count: int, duration_s: float, long: bool, only: Sequence[str] | None = None
) -> list[Script]:
    """Return what callers will do, evenly spread over a run.

    `long` allows stories that wait; `only` names the stories to include.
    """
    draw = random.Random(f"{seed}/scripts")
    allowed = only or [name for name in STORIES if long or name not in LONG_STORIES]
    stories = {name: STORIES[name] for name in allowed}
    return [
        Script(
            number=number,
            at=number / count * duration_s,
            story=draw.choices(list(stories), list(stories.values()))[0],
            seed=f"{seed}/script/{number}",
        )
        for number in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The services that a caller uses."""

    api_urls: Sequence[str]
    key: str
    stranger_key: str
    flood_key: str
    simulator: Simulator
    send_within_s: float
    note: Callable[[Call], None]
    provider: Sequence[str] | None = None
    """What may go wrong at the provider with single numbers, of `chaos.PROVIDER_FAULTS`; all unless given."""


@dataclass
class Caller:
    """Executes one script; `run` returns at its end."""

    script: Script
    reach: Reach
    _asks: int = 0
    _api: int = 0
    _draw: random.Random = field(default_factory=random.Random)

    def run(self) -> None:
        """Execute the script."""
        draw = self._draw = random.Random(self.script.seed)
        self._api = draw.randrange(len(self.reach.api_urls))
        if self.script.flood:
            self._ask("a")
            return
        for fault in chaos.provider_faults(draw, self.script.phone_number, only=self.reach.provider):
            self.reach.simulator.fault(**fault)
        rule = chaos.receipts_rule(draw, self.script.phone_number)
        if rule:
            self.reach.simulator.receipts(**rule)
        request = self._ask("a")
        if request is not None:
            getattr(self, f"_{self.script.story}")(request)
            self._poll(request)

    def be_verified(self) -> None:
        """Request and verify a code, without faults. Raises AssertionError if that fails."""
        request = self._ask("a")
        code = self._sent(request) if request else None
        assert request, self.script
        assert code, self.script
        assert self._verify(request, code).status == 200, self.script

    # Stories.

    def _right(self, request: str) -> None:
        code = self._sent(request)
        if code:
            self._verify_until_judged(request, code)

    def _wrong_then_right(self, request: str) -> None:
        code = self._sent(request)
        if code:
            for _ in range(self._draw.randint(1, 4)):
                self._verify(request, _wrong(code, self._draw))
            self._verify_until_judged(request, code)
            self._verify(request, code)

    def _twice_at_once(self, request: str) -> None:
        code = self._sent(request)
        if code:
            count = self._draw.choice((2, 2, 3))
            barrier = threading.Barrier(count)

            def verify(api: int) -> None:
                barrier.wait()
                self._verify(request, code, api=api)

            threads = [threading.Thread(target=verify, args=(self._api + place,)) for place in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _exhaust(self, request: str) -> None:
        code = self._sent(request)
        if code:
            for _ in range(9):
                if self._verify(request, _wrong(code, self._draw)).status == 410:
                    break
            self._verify(request, code)

    def _stranger(self, request: str) -> None:
        code = self._sent(request)
        if code:
            self._verify(request, code, stranger=True)
            self._call("poll", "GET", f"/v1/otp-requests/{request}", request=request, stranger=True)
            self._call("cancel", "DELETE", f"/v1/otp-requests/{request}", request=request, stranger=True)
            self._verify_until_judged(request, code)

    def _replace(self, request: str) -> None:
        old = self._sent(request) if self._draw.random() < 0.7 else None
        newer = self._ask("a")
        if newer is None:
            return
        code = self._sent(newer)
        if old:
            self._verify(request, old)
            if code:
                self._verify(newer, old)
        if code:
            self._verify(request, code)
            self._verify_until_judged(newer, code)
        self._poll(newer)

    def _two_sessions(self, request: str) -> None:
        first = self._sent(request)
        other = self._ask("b")
        second = self._sent(other) if other else None
        if first and other and second:
            self._verify(request, second)
            self._verify(other, first, session="b")
            self._verify(request, first, session="b")
            self._verify_until_judged(other, second, session="b")
            self._verify_until_judged(request, first)
            self._poll(other)

    def _cancel(self, request: str) -> None:
        code = self._sent(request) if self._draw.random() < 0.7 else None
        self._call("cancel", "DELETE", f"/v1/otp-requests/{request}", request=request, safe=True)
        if code:
            self._verify(request, code)

    def _leave(self, request: str) -> None:
        self._sent(request)

    def _greedy(self, request: str) -> None:
        self._sent(request)
        for _ in range(_GREEDY):
            self._ask_once("a")

    def _resend(self, request: str) -> None:
        code = self._sent(request)
        if not code:
            return
        for _ in range(3):
            answer = self._call("resend", "POST", f"/v1/otp-requests/{request}/resend", request=request)
            if answer.status == 202 or answer.status is None:
                break
            if answer.status != 429:
                return
            after = self._poll(request).body.get("resend_after")
            time.sleep(min(40, max(0.1, _seconds_until(after) if after else 1)))
        time.sleep(2)
        code = self._newest_code()
        if code:
            self._verify_until_judged(request, code)

    def _expire(self, request: str) -> None:
        code = self._sent(request)
        if code:
            expires_at = self._poll(request).body.get("expires_at")
            if expires_at:
                time.sleep(max(0, _seconds_until(expires_at)) + self._draw.choice((0.05, 1, 4)))
                self._verify(request, code)

    # What a caller can do.

    def _ask(self, session: str) -> str | None:
        """Request a code until it is accepted, and return the id; None if it was not accepted in time."""
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up:
            answer = self._ask_once(session)
            if answer.status == 202:
                return str(answer.body["id"])
            if answer.status == 429:
                return None  # It is so for minutes.
            time.sleep(0.3)
        return None

    def _ask_once(self, session: str) -> Call:
        self._asks += 1
        reference = f"{self.script.name}.{self._asks}"
        body = {
            "phone_number": self.script.phone_number,
            "session_id": self._session(session),
            "client_reference": reference,
        }
        # A new reference each time: an unanswered request may have been stored.
        return self._call("ask", "POST", "/v1/otp-requests", body, reference=reference, session=session)

    def _sent(self, request: str) -> str | None:
        """Poll until the code was sent, and return the newest one; None if the request ended before."""
        give_up = time.monotonic() + self.reach.send_within_s + _PATIENCE_S
        while time.monotonic() < give_up:
            status = self._poll(request, wait=True).body.get("status")
            if status in FINAL_STATUSES:
                return None
            if status in {"sent", "delivered", "undelivered"}:
                return self._newest_code()
            time.sleep(0.3)  # An API without free slots for waiting calls answers at once.
        return None

    def _newest_code(self) -> str | None:
        messages = self.reach.simulator.messages(self.script.phone_number)
        return str(messages[0]["pin"]) if messages else None

    def _poll(self, request: str, *, wait: bool = False) -> Call:
        path = f"/v1/otp-requests/{request}" + (f"?wait={_WAIT_S}" if wait else "")
        return self._call("poll", "GET", path, request=request, safe=True)

    def _verify_until_judged(self, request: str, code: str, *, session: str = "a") -> None:
        """Verify a code, and retry when the answer asks for it. Each call is a check of its own."""
        for _ in range(4):
            answer = self._verify(request, code, session=session)
            if answer.status is not None and answer.status < 500 and answer.problem != "check_in_progress":
                return
            time.sleep(0.5 + self._draw.random())

    def _verify(
        self,
        request: str,
        code: str,
        *,
        session: str = "a",
        stranger: bool = False,
        api: int | None = None,
    ) -> Call:
        body = {"code": code, "session_id": self._session(session)}
        path = f"/v1/otp-requests/{request}/verify"
        return self._call(
            "verify",
            "POST",
            path,
            body,
            request=request,
            code=code,
            session=session,
            stranger=stranger,
            api=api,
        )

    def _session(self, session: str) -> str:
        return f"session-{self.script.name}-{session}"

    def _call(
        self,
        kind: str,
        method: str,
        path: str,
        body: object = None,
        *,
        request: str | None = None,
        safe: bool = False,
        stranger: bool = False,
        code: str | None = None,
        session: str | None = None,
        reference: str | None = None,
        api: int | None = None,
    ) -> Call:
        """Make a call and note it; a safe one until it is answered by something under 500."""
        own = self.reach.flood_key if self.script.flood else self.reach.key
        headers = {"Authorization": f"Bearer {self.reach.stranger_key if stranger else own}"}
        give_up = time.monotonic() + _PATIENCE_S
        turn = self._api if api is None else api
        while True:
            url = self.reach.api_urls[turn % len(self.reach.api_urls)]
            began = time.time()
            status, answered, retry_after, connected = None, {}, None, True
            try:
                answer = web.call(method, url + path, body, headers=headers, timeout_s=_CALL_S)
                retry_after = answer.retry_after
                status, answered = answer.status, answer.body if isinstance(answer.body, dict) else {}
            except web.NotConnected:
                connected = False
            except web.NoAnswer:
                pass
            call = Call(
                script=-1 - self.script.number if self.script.flood else self.script.number,
                kind=kind,
                began=began,
                ended=time.time(),
                request=request or answered.get("id"),
                status=status,
                body=answered,
                code=code,
                session=session,
                reference=reference,
                stranger=stranger,
                flood=self.script.flood and self.script.number != _WARM_UP,
                retry_after=retry_after,
            )
            if connected:
                self.reach.note(call)
            again = not connected or (safe and (status is None or status >= 500))
            if not again or time.monotonic() > give_up:
                return call
            turn += 1
            self._api = turn
            time.sleep(0.1 + 0.2 * self._draw.random())


def _wrong(code: str, draw: random.Random) -> str:
    return f"{(int(code) + draw.randrange(1, 1_000_000)) % 1_000_000:06d}"


def _seconds_until(moment: Any) -> float:
    return datetime.fromisoformat(str(moment)).timestamp() - time.time()
