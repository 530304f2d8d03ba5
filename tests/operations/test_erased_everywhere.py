"""After an erasure nothing leads to the number: in any table, in Redis or in the broker.

The number first has rows in every table that `holdings` lists, under both hash keys. A new table with numbers
makes this test fail until its rows are erased, or are listed below as exceptions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis as redis_lib
from cryptography.exceptions import InvalidTag
from sqlalchemy import select

from otpqueue import clock
from otpqueue.domain.alerts import derive_tag
from otpqueue.domain.errors import CodeIncorrect, OtpqueueError
from otpqueue.domain.limits import REQUEST_LIMITS
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verification_pages.create import WantedPage
from otpqueue.operations.verify import TypedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.store.privacy.holdings import HOLDINGS, OnErase
from otpqueue.store.schema import metadata
from otpqueue.wiring import Parts
from tests import leaks
from tests.conftest import MakeParts, Provider
from tests.operations.looking import Rows
from tests.operations.test_erasing import delivered
from tests.operations.test_rotating_hashes import NEW, OLD

PHONE = "+447700900187"
ANOTHER = "+447700900142"
MASKED = "+44********87"
SESSION, ADDRESS = "session of the erased", "203.0.113.87"

MAY_STAY = {
    ("do_not_send", "number_hash"): "the person asked not to be sent anything",
    ("do_not_send", "number_sealed"): "needed to rotate the hash key of the list",
    ("number_guesses", "number_hash"): "a lock protects the number's owner",
    (
        "erased_wrong_codes",
        "number_hash",
    ): "for an hour, or an erasure would reset the guessing limit",
}
"""Columns that may still lead to the number, and why. docs/privacy.md says the same."""

RULES = {
    "number_requests": {"threshold": 2, "opens_after": 1},
    "number_wrong_codes": {"threshold": 1, "opens_after": 9},
    "check_failures": {"threshold": 0.01, "min_sample": 1, "opens_after": 1},
    "client_wrong_codes": {"threshold": 0.01, "min_sample": 1, "opens_after": 1},
}
SETTINGS = {
    "OTPQUEUE_ALERT_RULES": json.dumps(RULES),
    "OTPQUEUE_GUARD": "shadow",
    "OTPQUEUE_LIMIT_NUMBER_15M": "12/15m",
    "OTPQUEUE_LIMIT_NUMBER_DAY": "40/d",
    "OTPQUEUE_LIMIT_NUMBER_DAY_ALL": "80/d",
}


@dataclass
class Needles:
    """Values that lead to a number and must not be found, by a name for the failure message."""

    texts: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, bytes] = field(default_factory=dict)

    def add_hashes(self, parts: Parts, client_ids: list[UUID], body: str) -> None:
        """Add all hashes of the number, under each hash key."""
        vault = parts.vault
        for nth, number in enumerate(vault.number_hashes(PHONE)):
            self.hashes[f"hash {nth}"] = number
            self.texts[f"tag {nth}"] = derive_tag(number)
            for scope in ((), *((client_id.bytes,) for client_id in client_ids)):
                self.texts[f"limit {nth} {len(self.texts)}"] = vault.limit_hash(*scope, number, nth=nth)
        for nth, fingerprint in enumerate(vault.body_hashes(body)):
            self.hashes[f"fingerprint {nth}"] = fingerprint

    def found_in(self, value: Any) -> Iterator[str]:
        """Yield the names of the needles in a value, in any form."""
        written = value if isinstance(value, bytes) else str(value).encode()
        for layer in (written, *leaks._unpacked(written)):
            for name, one in self.texts.items():
                if one.encode() in layer or one.encode().hex().encode() in layer:
                    yield name
            for name, hashed in self.hashes.items():
                if hashed in layer or hashed.hex().encode() in layer:
                    yield name


class Life:
    """The history of a number in two sets of processes, during a rotation of the hash key."""

    def __init__(self, before: Parts, parts: Parts, provider: Provider) -> None:
        self.before, self.parts, self.provider = before, parts, provider
        with connection(parts.engine) as conn:
            self.shop = clients.ensure_client(conn, "shop", now=clock.now())
            self.bank = clients.ensure_client(conn, "bank", now=clock.now())
        parts.clients.set("bank", "limits.number_15m", "9/15m")
        parts.webhooks.set("shop", "https://shop.example/", events=(), now=clock.now())
        self.asked: list[UUID] = []

    def ask(self, parts: Parts, number: str = PHONE, *, by: UUID | None = None, **wanted: Any) -> OtpRequest:
        """Request a code and have it sent."""
        wanted = {"client_ip": ADDRESS, "session_id": SESSION} | wanted
        request = parts.request(
            RequestedCode(phone_number=number, **wanted), client_id=by or self.shop, now=clock.now()
        )
        parts.pump.run()
        if number == PHONE:
            self.asked.append(request.id)
        return request

    def guess(self, request: OtpRequest) -> None:
        """Verify with a wrong code."""
        code = f"{(int(self.provider.code(PHONE)) + 1) % 1_000_000:06}"
        with pytest.raises(CodeIncorrect):
            self.parts.verify(
                request.id,
                TypedCode(code=code, session_id=SESSION),
                client_id=request.client_id,
                now=clock.now(),
            )

    def once(self, body: str) -> None:
        """Request a code with an Idempotency-Key."""
        self.parts.request.once(
            RequestedCode(phone_number=PHONE),
            call=IdempotentCall(name="POST /v1/otp-requests", key="order 5", body=body),
            answer=lambda made: StoredResponse(
                status=202, body=f'{{"id": "{made.id}", "to": "{made.phone_number}"}}'
            ),
            client_id=self.shop,
            now=clock.now(),
        )

    def live(self, rows: Rows, body: str) -> None:
        """Request, send, report, guess, refuse, alert on and block the number."""
        first = self.ask(self.before)
        self.guess(first)
        second = self.ask(self.parts)
        rows.change(second.id, resend_after=clock.now())
        self.parts.resend(second.id, client_id=self.shop, channel=None, now=clock.now())
        self.parts.pump.run()
        self.parts.receipts(
            [delivered(one["external_message_id"]) for one in rows.attempts(second.id)], now=clock.now()
        )
        self.guess(second)
        self.guess(second)
        self.parts.verify(
            second.id,
            TypedCode(code=self.provider.code(PHONE), session_id=SESSION),
            client_id=self.shop,
            now=clock.now(),
        )
        self.open_pages()
        third = self.ask(self.parts, by=self.bank)
        self.guess(third)
        self.ask(self.parts, ANOTHER)
        self.once(body)
        for _ in range(20):
            with suppress(OtpqueueError):
                self.ask(self.parts)
        self.alert()
        self.parts.blocklist.block(PHONE, reason="asked us to", until=None, now=clock.now())
        with suppress(OtpqueueError):
            self.ask(self.parts)
        self.parts.cancel.by_operator(third.id, reason="a test", now=clock.now())
        self.asked = [row["id"] for row in rows.requests() if row["number_hash"] in self.hashes()]

    def open_pages(self) -> None:
        """Create a page for the number, and one on which a person gives it."""
        self.parts.clients.set("shop", "page.return_urls", "https://shop.example/done")
        for number in (PHONE, None):
            wanted = WantedPage(return_url="https://shop.example/done", phone_number=number)
            created = self.before.create_page(wanted, client_id=self.shop, now=clock.now())
            visit = self.before.visit_page.open(
                created.link, browser=None, embedded=False, address=ADDRESS, now=clock.now()
            )
            if number is None:
                self.before.visit_page.send_code(
                    visit,
                    phone_number=PHONE,
                    country=None,
                    channel=Channel.SMS,
                    language="en",
                    address=ADDRESS,
                    now=clock.now(),
                )

    def alert(self) -> None:
        """Evaluate, notify, acknowledge and silence."""
        self.parts.roll_up()
        now = clock.now()
        self.parts.evaluate_alerts(now=now)
        self.parts.notify_alerts(now=now)
        (alert,) = self.parts.alert_admin.list(rule="number_requests")
        self.parts.alert_admin.ack(alert.id, by="anna")
        self.parts.alert_admin.silence_alert(
            alert.id, until=now + timedelta(hours=9), by="anna", reason="a test", every_subject=False
        )

    def hashes(self) -> list[bytes]:
        """Return the number's hashes under both keys."""
        return self.parts.vault.number_hashes(PHONE)


@pytest.fixture
def life(make_parts: MakeParts, parts: Parts, provider: Provider) -> Life:
    """Return a number's history during a rotation of the hash key."""
    both = f"{NEW},{OLD}"
    return Life(
        make_parts(**SETTINGS, OTPQUEUE_HASH_KEY=f"{OLD},{NEW}"),
        make_parts(**SETTINGS, OTPQUEUE_HASH_KEY=both),
        provider,
    )


def in_tables(parts: Parts, needles: Needles) -> dict[tuple[str, str], set[str]]:
    """Return the needles in each column of each table, and sealed values that open to PHONE."""
    found: dict[tuple[str, str], set[str]] = {}
    with connection(parts.engine) as conn:
        for table in metadata.tables.values():
            for row in conn.execute(select(table)).mappings():
                for column, value in row.items():
                    names = set(needles.found_in(value))
                    if isinstance(value, bytes) and opens(parts, row, value):
                        names.add("sealed")
                    if names:
                        found.setdefault((table.name, str(column)), set()).update(names)
    return found


def opens(parts: Parts, row: Any, value: bytes) -> bool:
    """Return whether bytes of a row are the sealed number."""
    with suppress(InvalidTag, KeyError, ValueError):
        return parts.vault.unseal(value, key_id=row["seal_key_id"], row_id=row["id"]) == PHONE
    return False


def in_redis(url: str, needles: Needles) -> set[tuple[str, str]]:
    """Return the keys of Redis, including the broker's, with a needle in their name or value."""
    with redis_lib.Redis.from_url(url) as client:
        return {
            (key.decode(), name)
            for key in client.scan_iter()
            for name in needles.found_in(key + b" " + everything_of(client, key))
        }


def everything_of(client: redis_lib.Redis, key: bytes) -> bytes:
    """Return the value of a key, whatever its type."""
    read = {
        b"string": client.get,
        b"list": lambda one: client.lrange(one, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda one: client.zrange(one, 0, -1),
        # It has expired since it was listed: the flag of a wake-up lasts for a second.
        b"none": lambda _: None,
    }
    return repr(read[client.type(key)](key)).encode()


def test_nothing_leads_to_an_erased_number(
    life: Life, rows: Rows, redis_url: str, provider: Provider
) -> None:
    """Number, hashes, masks, tags, request ids and Infobip's ids are found before, and not afterwards."""
    body = json.dumps({"phone_number": PHONE})
    life.live(rows, body)
    needles = Needles()
    needles.texts = {"number": PHONE[3:], "masked": MASKED, "answer": MASKED[:-2] + "??"}
    needles.texts |= {f"request {place}": str(one) for place, one in enumerate(life.asked)}
    for place, attempt in enumerate(rows.attempts()):
        if attempt["request_id"] in life.asked and attempt["external_message_id"]:
            needles.texts[f"message {place}"] = attempt["external_message_id"]
            needles.texts[f"pin {place}"] = attempt["pin_id"]
    needles.add_hashes(life.parts, [life.shop, life.bank], body)
    before, redis_before = in_tables(life.parts, needles), in_redis(redis_url, needles)
    queued = broker_messages(redis_url)

    life.parts.erase(PHONE, country=None, client_id=None, now=clock.now())

    # The history must cover each table and each needle, or the test would be too weak.
    assert {table for table, _ in before} == {
        one.table.name for one in HOLDINGS if one.on_erase is not OnErase.UNCONCERNED
    } - {"erased_wrong_codes"}
    seen = {name.split()[0] for names in before.values() for name in names} | {
        name.split()[0] for _, name in redis_before
    }
    stored = {name.split()[0] for name in (*needles.texts, *needles.hashes)} | {"sealed"}
    assert seen == stored - {"number", "masked"}, "these two must never be stored in clear"
    assert {limit.name for limit in REQUEST_LIMITS if limit.name.startswith("number")} == {
        key.split("/")[0].rpartition(":")[2] for key, _ in redis_before
    }
    assert queued > 0

    after = in_tables(life.parts, needles)
    assert set(after) == set(MAY_STAY)
    assert {table for table, _ in MAY_STAY} == {
        one.table.name for one in HOLDINGS if one.on_erase is OnErase.KEPT
    }
    assert not {name for names in after.values() for name in names} - {"hash 0", "hash 1", "sealed"}
    assert in_redis(redis_url, needles) == set()
    # All rows of the other number are unchanged.
    others = Needles(hashes={"hash": life.parts.vault.number_hash(ANOTHER)})
    assert ("otp_requests", "number_hash") in in_tables(life.parts, others)
    assert in_redis(redis_url, Needles(texts={"limit": life.parts.vault.limit_hash(others.hashes["hash"])}))


def broker_messages(url: str) -> int:
    """Return how many messages wait in the broker's queues."""
    with redis_lib.Redis.from_url(url) as client:
        return sum(client.llen(queue) for queue in ("send", "slow", "periodic"))


def test_what_may_stay_goes_when_its_time_is_over(life: Life, rows: Rows) -> None:
    """Wrong codes are deleted after their window or the retention, the entry when unblocked."""
    life.live(rows, "{}")
    life.parts.erase(PHONE, country=None, client_id=None, now=clock.now())
    needles = Needles()
    needles.add_hashes(life.parts, [], "")

    life.parts.blocklist.unblock(PHONE)
    life.parts.purge(now=clock.now() + timedelta(hours=1, minutes=1))
    an_hour_later = in_tables(life.parts, needles)
    life.parts.purge(now=clock.now() + timedelta(days=31))

    # Unblocking after the erasure is an action of its own. Its link is kept as long as requests are.
    assert set(an_hour_later) == {("number_guesses", "number_hash"), ("audit_subjects", "number_hash")}
    assert in_tables(life.parts, needles) == {}


def test_docs_say_what_may_stay(project: Any) -> None:
    """The tables that may keep rows are those that docs/privacy.md calls kept."""
    document = (project / "docs" / "privacy.md").read_text(encoding="utf-8")

    for table in {table for table, _ in MAY_STAY}:
        (row,) = [line for line in document.splitlines() if line.startswith(f"| `{table}` |")]
        assert "| kept |" in row
        assert "`number_hash`" in row


def test_base64_is_decoded() -> None:
    """Messages of the broker are base64; needles in them must be found."""
    needles = Needles(texts={"number": PHONE[3:]}, hashes={"hash": b"h" * 32})
    packed = base64.b64encode(f'{{"to": "{PHONE}"}}'.encode())

    assert list(needles.found_in(packed)) == ["number"]
    assert list(needles.found_in(b"x" + b"h" * 32)) == ["hash"]
    assert list(needles.found_in({"hash": ("h" * 32).encode().hex()})) == ["hash"]
