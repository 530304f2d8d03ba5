"""Resends of the same code: permissions, limits, and failed resends, which change nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import RowMapping

from otpqueue import clock
from otpqueue.domain.errors import (
    AlreadyVerified,
    CodeExpired,
    CodeIncorrect,
    NotSentYet,
    OtpqueueError,
    RequestCancelled,
    RequestFailed,
    RequestLocked,
    RequestNotFound,
    ResendInProgress,
    ResendsExhausted,
    ResendTooLate,
    ResendTooSoon,
)
from otpqueue.domain.request import Channel, OtpRequest, SendState, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import running
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import INFOBIP_KEY, NO_LIMITS, NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, numbers, until

RESEND = "/resend"


@dataclass(frozen=True)
class Resends:
    """Helpers for resends, over any parts."""

    parts: Parts
    rows: Rows

    def ready(self, request: OtpRequest) -> None:
        """Move the cool-down into the past."""
        self.rows.change(request.id, resend_after=clock.now() - timedelta(milliseconds=1))

    def ask(self, request: OtpRequest, channel: Channel | None = None) -> OtpRequest:
        """Request a resend after the cool-down."""
        self.ready(request)
        return self.parts.resend(request.id, client_id=request.client_id, channel=channel, now=clock.now())

    def __call__(self, request: OtpRequest, channel: Channel | None = None) -> RowMapping:
        """Have the code sent again, and return the row."""
        self.ask(request, channel)
        self.parts.pump.run()
        return self.rows.request(request.id)

    def verify(self, request: OtpRequest, code: str) -> Status:
        """Verify a code."""
        return self.parts.verify(
            request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now()
        ).status

    def status(self, request: OtpRequest) -> OtpRequest:
        """Return the current request."""
        return self.parts.status(request.id, client_id=request.client_id)


MakeResends = Callable[..., Resends]


@pytest.fixture
def resends(parts: Parts, rows: Rows) -> Resends:
    """Return helpers for resends."""
    return Resends(parts, rows)


@pytest.fixture
def make_resends(make_parts: MakeParts, rows: Rows) -> MakeResends:
    """Return a function that creates the helpers over parts with other settings."""
    return lambda **differing: Resends(make_parts(**differing), rows)


def kept(row: RowMapping) -> dict[str, Any]:
    """Return the columns that a failed resend must not change."""
    names = ("status", "reason", "pin_id", "sent_at", "expires_at", "finished_at")
    return {name: row[name] for name in names}


def test_same_code_arrives_again(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """The same code is sent again with the same pin, and verifies."""
    request = ask_sent()

    row = resends(request)

    second, first = provider.messages(NUMBER)
    assert (second["pin"], second["pinId"]) == (first["pin"], first["pinId"])
    assert second["externalMessageId"] != first["externalMessageId"]
    assert (row["status"], row["send_state"], row["sends"]) == ("sent", "idle", 2)
    assert (row["resend"], row["resend_channel"], row["resend_reason"]) == ("sent", "sms", None)
    assert resends.verify(request, first["pin"]) is Status.VERIFIED


def test_expiry_does_not_move(resends: Resends, ask_sent: AskSent) -> None:
    """A resend changes neither the expiry of the code nor the time of its first send."""
    request = ask_sent()
    before = resends.rows.request(request.id)

    after = resends(request)

    assert kept(after) == kept(before)


def test_every_send_is_an_attempt(resends: Resends, ask_sent: AskSent) -> None:
    """Each send has a row with its kind, channel and message id."""
    request = ask_sent()
    resends(request)
    resends(request, Channel.VOICE)

    rows = resends.rows.attempts(request.id)

    assert [(row["number"], row["kind"], row["channel"], row["outcome"]) for row in rows] == [
        (1, "fresh", "sms", "accepted"),
        (2, "resend", "sms", "accepted"),
        (3, "resend", "voice", "accepted"),
    ]
    assert len({row["external_message_id"] for row in rows} - {None}) == 3
    assert len({row["pin_id"] for row in rows}) == 1


def test_resend_by_voice(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A resend by voice calls the person with the same code. The next one defaults to SMS again."""
    request = ask_sent()

    row = resends(request, Channel.VOICE)
    assert (row["resend_channel"], row["channel"]) == ("voice", "sms")
    resends(request)

    messages = provider.messages(NUMBER)
    assert [message["channel"] for message in messages] == ["SMS", "VOICE", "SMS"]
    assert len({message["pin"] for message in messages}) == 1
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_voice_as_first_channel(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A voice request is sent as a call, and so is its resend."""
    request = ask_sent(channel=Channel.VOICE)
    resends(request)

    assert request.channel is Channel.VOICE
    assert [message["channel"] for message in provider.messages(NUMBER)] == ["VOICE", "VOICE"]
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_first_call_then_sms(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """After a call the same code may be resent by SMS."""
    request = ask_sent(channel=Channel.VOICE)
    resends(request, Channel.SMS)

    assert [message["channel"] for message in provider.messages(NUMBER)] == ["SMS", "VOICE"]


def test_cool_downs_double(resends: Resends, ask_sent: AskSent) -> None:
    """The first resend is allowed after 30 s, the next after 60, 120 and 240 s."""
    request = ask_sent()
    waits = []
    for _ in range(5):
        finished = resends.rows.attempts(request.id)[-1]["finished_at"]
        waits.append((resends.rows.request(request.id)["resend_after"] - finished).total_seconds())
        if len(waits) < 5:
            resends(request)

    assert waits[:4] == [30, 60, 120, 240]


def test_five_sends_in_all(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """The fifth send is the last, after any time."""
    request = ask_sent()
    for _ in range(4):
        resends(request)

    with pytest.raises(ResendsExhausted):
        resends.ask(request)

    assert len(provider.messages(NUMBER)) == 5
    assert resends.rows.request(request.id)["sends"] == 5
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_failed_resends_count_too(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A failed resend is one of the five sends, so the cost is bounded."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, status=400)
    for _ in range(4):
        resends(request)

    with pytest.raises(ResendsExhausted):
        resends.ask(request)


def test_too_soon_says_how_long_to_wait(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """During the cool-down a resend is refused with the remaining whole seconds, and nothing changes."""
    request = ask_sent()
    before = rows.request(request.id)
    assert request.resend_after is not None
    for before_s, retry_after_s in ((30, 30), (12.3, 13), (1, 1), (0.001, 1)):
        now = request.resend_after - timedelta(seconds=before_s)

        with pytest.raises(ResendTooSoon) as refusal:
            parts.resend(request.id, client_id=request.client_id, channel=None, now=now)

        assert (before_s, refusal.value.retry_after_s) == (before_s, retry_after_s)
        assert rows.request(request.id) == before


def test_allowed_to_the_moment(parts: Parts, ask_sent: AskSent) -> None:
    """A caller that waits exactly as long as the error says is served."""
    request = ask_sent()
    assert request.resend_after is not None

    taken = parts.resend(request.id, client_id=request.client_id, channel=None, now=request.resend_after)

    assert (taken.send_state, taken.sends) == (SendState.DUE, 2)


def test_in_progress(resends: Resends, ask_sent: AskSent) -> None:
    """While one resend is due or claimed another is refused, and does not count."""
    request = ask_sent()
    resends.ask(request)

    with pytest.raises(ResendInProgress):
        resends.ask(request)
    hold(resends, request)
    with pytest.raises(ResendInProgress):
        resends.ask(request)

    assert resends.rows.request(request.id)["sends"] == 2


def hold(resends: Resends, request: OtpRequest) -> None:
    """Claim the request and never finish."""
    resends.rows.change(
        request.id,
        send_state="claimed",
        next_attempt_at=None,
        attempt=2,
        lease_until=clock.now() + timedelta(seconds=60),
    )


def test_not_sent_yet(parts: Parts, ask: Ask) -> None:
    """A code that was not sent yet cannot be resent."""
    request = ask()

    with pytest.raises(NotSentYet) as refusal:
        parts.resend(request.id, client_id=request.client_id, channel=None, now=clock.now())

    assert refusal.value.retry_after_s == 1


ENDS: dict[str, type[OtpqueueError]] = {
    "verified": AlreadyVerified,
    "expired": CodeExpired,
    "locked": RequestLocked,
    "cancelled": RequestCancelled,
    "failed": RequestFailed,
}


def test_ended_request(resends: Resends, ask_sent: AskSent) -> None:
    """A request that has ended is not resent, and the refusal says how it ended."""
    request = ask_sent()
    for status, error in ENDS.items():
        resends.rows.change(request.id, status=status, finished_at=clock.now())

        with pytest.raises(error):
            resends.ask(request)

        assert resends.rows.request(request.id)["send_state"] == "idle", status


def test_code_that_expired_before_anybody_noticed(parts: Parts, ask_sent: AskSent) -> None:
    """An expired code is not resent, even before a sweep has run."""
    request = ask_sent()
    assert request.expires_at is not None

    with pytest.raises(CodeExpired):
        parts.resend(request.id, client_id=request.client_id, channel=None, now=request.expires_at)


def test_request_of_another_client(parts: Parts, ask_sent: AskSent) -> None:
    """Another client's request is not found, like an unknown one."""
    request = ask_sent()
    with connection(parts.engine) as conn:
        stranger = clients.ensure_client(conn, "stranger", now=clock.now())

    with pytest.raises(RequestNotFound):
        parts.resend(request.id, client_id=stranger, channel=None, now=clock.now())
    with pytest.raises(RequestNotFound):
        parts.resend(uuid4(), client_id=request.client_id, channel=None, now=clock.now())


def test_send_by_leaves_time_to_type_the_code(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A resend must be sent within the usual 90 s, and 20 s before the code expires."""
    cases = [(400, 90), (110, 90), (60, 40), (20.5, 0.5)]
    for number, (left_s, within_s) in zip(numbers(len(cases)), cases, strict=True):
        request = ask_sent(number)
        now = clock.now() + timedelta(seconds=100)
        rows.change(request.id, expires_at=now + timedelta(seconds=left_s))

        taken = parts.resend(request.id, client_id=request.client_id, channel=None, now=now)

        assert taken.send_by == now + timedelta(seconds=within_s), left_s
        assert taken.expires_at == now + timedelta(seconds=left_s), left_s


def test_code_that_is_about_to_expire(resends: Resends, ask_sent: AskSent) -> None:
    """A code that would expire before a user can type it is not resent."""
    request = ask_sent()
    for left_s in (0.001, 2, 19.9, 20):
        now = clock.now() + timedelta(seconds=100)
        resends.rows.change(request.id, expires_at=now + timedelta(seconds=left_s))

        with pytest.raises(ResendTooLate):
            resends.parts.resend(request.id, client_id=request.client_id, channel=None, now=now)

        row = resends.rows.request(request.id)
        assert (row["send_state"], row["sends"], row["resend"]) == ("idle", 1, None), left_s


def test_resend_that_waits_until_the_code_is_about_to_expire(
    resends: Resends, ask_sent: AskSent, provider: Provider
) -> None:
    """A resend that could not be sent in time is dropped, also if a worker comes before the code expires."""
    request = ask_sent()
    resends.rows.change(request.id, expires_at=clock.now() + timedelta(seconds=20.3))
    resends.ask(request)
    until(lambda: clock.now() >= resends.rows.request(request.id)["send_by"])

    resends.parts.pump.run()
    resends.parts.sweep(now=clock.now())

    row = resends.rows.request(request.id)
    assert (row["status"], row["resend"], row["resend_reason"]) == ("sent", "failed", "send_deadline")
    assert len(provider.messages(NUMBER)) == 1


def test_code_in_hand_while_a_resend_is_due(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """The code verifies while a resend is due. The resend is then not sent, and does not stay pending."""
    request = ask_sent()
    resends.ask(request)

    assert resends.verify(request, provider.code()) is Status.VERIFIED
    resends.parts.pump.run()

    row = resends.rows.request(request.id)
    assert (row["status"], row["send_state"], row["next_attempt_at"]) == ("verified", "idle", None)
    assert row["resend"] == "failed"
    assert len(provider.messages(NUMBER)) == 1


def test_code_in_hand_while_a_resend_is_claimed(
    resends: Resends, ask_sent: AskSent, provider: Provider, background: ThreadPoolExecutor
) -> None:
    """The code verifies while the resend is at the provider. The late outcome is only recorded."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, latency_ms=500)
    resends.ask(request)
    pump = background.submit(resends.parts.pump.run)
    until(lambda: resends.status(request).send_state is SendState.CLAIMED)

    assert resends.verify(request, provider.code()) is Status.VERIFIED
    pump.result(20)

    row = resends.rows.request(request.id)
    assert (row["status"], row["send_state"], row["resend"]) == ("verified", "idle", "sent")
    assert resends.rows.outcomes(request.id) == ["accepted", "accepted"]


def test_wrong_code_while_a_resend_is_due(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A wrong code costs a check during a resend too, and the resend stays due."""
    request = ask_sent()
    resends.ask(request)

    with pytest.raises(CodeIncorrect):
        resends.verify(request, f"{(int(provider.code()) + 1) % 1_000_000:06}")

    row = resends.rows.request(request.id)
    assert (row["send_state"], row["checks_used"]) == ("due", 1)


def test_resending_gives_no_checks_back(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """Guesses are counted per request, not per send."""
    request = ask_sent()
    for _ in range(2):
        with pytest.raises(CodeIncorrect):
            resends.verify(request, f"{(int(provider.code()) + 1) % 1_000_000:06}")

    resends(request)

    assert resends.status(request).checks_left == request.checks_left - 2


def test_refused_resend(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A permanent refusal of a resend only changes `resend`, and the code still verifies."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=400)

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["send_state"], row["resend"], row["resend_reason"]) == ("idle", "failed", "provider_refused")
    assert resends.rows.outcomes(request.id) == ["accepted", "refused"]
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_resend_until_attempts_run_out(
    make_resends: MakeResends, ask_sent: AskSent, provider: Provider
) -> None:
    """A resend has as many attempts as a first send, and then fails. The status does not change."""
    resends = make_resends(OTPQUEUE_TUNING_MAX_ATTEMPTS="3")
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=503)

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["resend"], row["resend_reason"]) == ("failed", "attempts_exhausted")
    assert resends.rows.outcomes(request.id) == ["accepted", "refused", "refused", "refused"]


def test_resend_that_succeeds_at_the_second_try(
    resends: Resends, ask_sent: AskSent, provider: Provider
) -> None:
    """A refusal that can be retried is. The same code arrives again, once."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, status=503, times=1)

    row = resends(request)

    assert (row["resend"], row["resend_reason"], row["sends"]) == ("sent", None, 2)
    assert len({message["pin"] for message in provider.messages(NUMBER)}) == 1
    assert [attempt["kind"] for attempt in resends.rows.attempts(request.id)] == ["fresh", "resend", "resend"]


@pytest.mark.parametrize(("allowed", "times"), [("0", 1), ("1", 2)])
def test_resend_with_unknown_outcome(
    make_resends: MakeResends, ask_sent: AskSent, provider: Provider, allowed: str, times: int
) -> None:
    """An unknown outcome is retried as the policy says, and then fails. The code stays valid."""
    resends = make_resends(OTPQUEUE_UNKNOWN_RESENDS=allowed)
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, drop="after")

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["resend"], row["resend_reason"]) == ("failed", "outcome_unknown")
    assert resends.rows.outcomes(request.id) == ["accepted"] + ["unknown"] * times
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_unknowns_of_the_first_send_do_not_count_against_a_resend(
    resends: Resends, ask: Ask, provider: Provider
) -> None:
    """Each send has its own attempts and unknown outcomes."""
    provider.fault(drop="after", times=1, match={"path": "/2fa/2/pin"})
    request = ask()
    resends.parts.pump.run()
    assert resends.rows.outcomes(request.id) == ["unknown", "accepted"]
    provider.fault(drop="after", times=1, match={"path": RESEND})

    row = resends(request)

    assert resends.rows.outcomes(request.id)[2:] == ["unknown", "accepted"]
    assert row["resend"] == "sent"


def test_resend_that_was_not_sent_in_time(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """The sweep ends only the resend if it was not sent by its deadline."""
    request = ask_sent()
    resends.ask(request)
    before = resends.rows.request(request.id)
    resends.rows.change(request.id, send_by=clock.now())

    swept = resends.parts.sweep(now=clock.now())
    resends.parts.pump.run()

    row = resends.rows.request(request.id)
    assert (swept.resends, swept.unsent) == (1, 0)
    assert kept(row) == kept(before)
    assert (row["send_state"], row["next_attempt_at"]) == ("idle", None)
    assert (row["resend"], row["resend_reason"]) == ("failed", "send_deadline")
    assert len(provider.messages(NUMBER)) == 1
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_retry_after_past_the_deadline(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A Retry-After past the deadline ends the resend at once, but not the request."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=429, headers={"Retry-After": "3600"})

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["resend"], row["resend_reason"]) == ("failed", "send_deadline")


def test_worker_that_died_over_a_resend(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A resend with an expired lease is unknown: the sweep makes it due again, and the status stays."""
    request = ask_sent()
    resends.ask(request)
    before = resends.rows.request(request.id)
    # Claimed by a killed worker.
    with connection(resends.parts.engine) as conn:
        conn.exec_driver_sql(
            "UPDATE otp_requests SET send_state = 'claimed', next_attempt_at = NULL, attempt = 2, tries = 1,"
            " lease_until = clock_timestamp() - interval '1 s'"
        )
        conn.exec_driver_sql(
            "INSERT INTO send_attempts (request_id, number, worker, claimed_at, kind, channel)"
            " SELECT id, 2, 'dead', now(), 'resend', 'sms' FROM otp_requests"
        )

    swept = resends.parts.sweep(now=clock.now())
    resends.parts.pump.run()

    row = resends.rows.request(request.id)
    assert swept.leases == 1
    assert resends.rows.outcomes(request.id) == ["accepted", "unknown", "accepted"]
    assert kept(row) == kept(before)
    assert row["resend"] == "sent"


@pytest.fixture(scope="module")
def renaming_url() -> Iterator[str]:
    """Yield a simulator that gives a code another pinId with each resend."""
    with running(Options(api_keys=(INFOBIP_KEY,), resend_new_pin_id=True)) as simulator:
        yield simulator.url


def test_pin_id_that_changes_is_the_one_checked(
    make_parts: MakeParts, client_id: UUID, rows: Rows, renaming_url: str
) -> None:
    """A new pinId of a resend is stored, and the code verifies only with it."""
    parts = make_parts(INFOBIP_BASE_URL=renaming_url)
    parts.provision(parts.transport, now=clock.now())
    provider, resends = Provider(renaming_url), Resends(parts, rows)
    request = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())
    parts.pump.run()
    before = rows.request(request.id)

    row = resends(request)

    assert row["pin_id"] != before["pin_id"]
    assert row["pin_id"] == rows.attempts(request.id)[-1]["pin_id"] == provider.messages(NUMBER)[0]["pinId"]
    assert row["expires_at"] == before["expires_at"]
    assert resends.verify(request, provider.code()) is Status.VERIFIED
    provider.close()


@pytest.mark.parametrize(
    "body", [{"smsStatus": "MESSAGE_SENT"}, {"smsStatus": "MESSAGE_SENT", "pinId": None}], ids=str
)
def test_answer_without_a_pin_id_keeps_the_old_one(
    resends: Resends, ask_sent: AskSent, provider: Provider, body: dict[str, Any]
) -> None:
    """A resend with a response without a pinId keeps the old one, and counts as sent."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=200, body=body)

    row = resends(request)

    assert (row["resend"], row["pin_id"]) == ("sent", before["pin_id"])
    assert resends.verify(request, provider.code()) is Status.VERIFIED


def test_answer_that_says_nothing_was_sent(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A 200 with MESSAGE_NOT_SENT is a failed resend, and its pinId is not stored."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=200, body={"pinId": "X", "smsStatus": "MESSAGE_NOT_SENT"})

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["resend"], row["resend_reason"]) == ("failed", "provider_refused")


def test_code_the_provider_forgot(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A 404 on a resend sends a new code, which alone verifies and has its own expiry."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=404, times=1)

    row = resends(request)

    fresh, old = provider.messages(NUMBER)
    assert row["pin_id"] == fresh["pinId"] != old["pinId"]
    attempts = resends.rows.attempts(request.id)
    assert [(one["kind"], one["outcome"]) for one in attempts] == [
        ("fresh", "accepted"),
        ("resend", "refused"),
        ("fresh", "accepted"),
    ]
    assert row["expires_at"] == attempts[-1]["started_at"] + timedelta(
        seconds=resends.parts.settings.code_lifetime_s
    )
    assert row["expires_at"] > before["expires_at"]
    assert (row["status"], row["resend"], row["sends"]) == ("sent", "sent", 2)
    assert resends.verify(request, fresh["pin"]) is Status.VERIFIED


def test_fresh_code_goes_by_the_channel_asked_for(
    resends: Resends, ask_sent: AskSent, provider: Provider
) -> None:
    """A new code after a 404 uses the requested channel, and so does the next resend."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, status=404, times=1)

    resends(request, Channel.VOICE)
    resends(request)

    last, fresh, _ = provider.messages(NUMBER)
    assert (fresh["channel"], last["channel"]) == ("VOICE", "SMS")
    assert last["pin"] == fresh["pin"]


def test_unknown_code_past_the_deadline(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """If the deadline has passed by the time of the 404, no new code is sent."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, status=404, latency_ms=600)
    resends.ask(request)
    resends.rows.change(request.id, send_by=clock.now() + timedelta(seconds=0.4))

    resends.parts.pump.run()

    row = resends.rows.request(request.id)
    assert (row["status"], row["resend"], row["resend_reason"]) == ("sent", "failed", "send_deadline")
    assert len(provider.messages(NUMBER)) == 1


def test_fresh_code_that_is_refused(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """If the new code cannot be sent either, the old one stays, and the resend has failed."""
    request = ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, status=404, times=1)
    provider.fault(match={"path": "/2fa/2/pin"}, status=400, times=1)

    row = resends(request)

    assert kept(row) == kept(before)
    assert (row["resend"], row["resend_reason"]) == ("failed", "provider_refused")


def test_gateway_gives_up_no_code(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """A gateway's refusal is retried with the same code."""
    for number, status in zip(numbers(3), [400, 403, 404], strict=True):
        request = ask_sent(number)
        before = resends.rows.request(request.id)
        provider.fault(match={"path": RESEND}, status=status, envelope="html", times=1)

        row = resends(request)

        assert row["resend"] == "sent", status
        assert (row["pin_id"], row["expires_at"]) == (before["pin_id"], before["expires_at"]), status
        second, first = provider.messages(number)
        assert second["pin"] == first["pin"], status


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_key_fails_no_resend(
    resends: Resends, ask_sent: AskSent, provider: Provider, status: int
) -> None:
    """While the provider refuses our key, the resend stays due. It is sent once the key works."""
    request = ask_sent()
    provider.fault(match={"path": RESEND}, status=status, times=2)

    with structlog.testing.capture_logs() as logs:
        row = resends(request)

    assert row["resend"] == "sent"
    assert [entry["event"] for entry in logs].count("provider_misconfigured") == 2


@pytest.mark.parametrize("how", ["cancel", "replace"])
def test_ended_while_a_resend_is_claimed(
    make_resends: MakeResends,
    ask: Ask,
    ask_sent: AskSent,
    provider: Provider,
    background: ThreadPoolExecutor,
    how: str,
) -> None:
    """A request that ends during its resend stays ended. The attempt is recorded."""
    resends, request = make_resends(OTPQUEUE_TUNING_SEND_LEASE_S="30"), ask_sent()
    before = resends.rows.request(request.id)
    provider.fault(match={"path": RESEND}, latency_ms=500)
    resends.ask(request)
    pump = background.submit(resends.parts.pump.run)
    until(lambda: resends.status(request).send_state is SendState.CLAIMED)

    if how == "cancel":
        resends.parts.cancel(request.id, client_id=request.client_id, now=clock.now())
    else:
        ask()
    pump.result(20)

    row = resends.rows.request(request.id)
    assert (row["status"], row["send_state"], row["lease_until"]) == ("cancelled", "idle", None)
    assert row["pin_id"] == before["pin_id"]
    assert row["resend"] == "sent"
    assert resends.rows.outcomes(request.id) == ["accepted", "accepted"]
    with pytest.raises(RequestCancelled):
        resends.verify(request, provider.code())


@pytest.mark.parametrize("how", ["cancel", "replace", "expire"])
def test_ended_while_a_resend_is_due(
    resends: Resends, ask: Ask, ask_sent: AskSent, provider: Provider, how: str
) -> None:
    """A request that ends before its resend was sent is not sent again, and no resend stays pending."""
    request = ask_sent()
    resends.ask(request)

    if how == "cancel":
        resends.parts.cancel(request.id, client_id=request.client_id, now=clock.now())
    elif how == "replace":
        ask()
    else:
        resends.rows.change(request.id, expires_at=clock.now())
        resends.parts.expire(now=clock.now())
    resends.parts.pump.run()

    row = resends.rows.request(request.id)
    assert (row["send_state"], row["next_attempt_at"]) == ("idle", None)
    assert (row["resend"], row["resend_reason"]) == ("failed", row["reason"])
    assert resends.rows.outcomes(request.id) == ["accepted"]


def test_sixteen_at_once(
    resends: Resends, ask_sent: AskSent, make_parts: MakeParts, provider: Provider
) -> None:
    """Of sixteen concurrent resends one is accepted, and the code is sent again once."""
    request = ask_sent()
    resends.ready(request)
    unlimited = make_parts(**NO_LIMITS)

    def ask() -> OtpRequest:
        return unlimited.resend(request.id, client_id=request.client_id, channel=None, now=clock.now())

    answers = at_once([ask] * 16)
    resends.parts.pump.run()

    assert Counter(type(answer).__name__ for answer in answers) == {"OtpRequest": 1, "ResendInProgress": 15}
    assert resends.rows.request(request.id)["sends"] == 2
    assert len(provider.messages(NUMBER)) == 2


def test_delivered_request_may_be_resent(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """Reports can be wrong: a delivered or undelivered code can be resent, and keeps its status."""
    for number, status in (("+447700900001", "delivered"), ("+447700900002", "undelivered")):
        request = ask_sent(number)
        resends.rows.change(request.id, status=status)

        row = resends(request)

        assert (row["status"], row["resend"]) == (status, "sent")
        assert resends.verify(request, provider.code(number)) is Status.VERIFIED


def test_wakes_a_worker(resends: Resends, ask_sent: AskSent) -> None:
    """A resend is asynchronous: it becomes due, and a worker is woken."""
    request = ask_sent()
    resends.parts.redis.flushall()

    taken = resends.ask(request)

    assert (taken.status, taken.send_state, taken.resend) == (Status.SENT, SendState.DUE, "pending")
    assert resends.parts.redis.exists("otpqueue:wake:send_codes")


def test_log_names_no_code_and_no_number(resends: Resends, ask_sent: AskSent, provider: Provider) -> None:
    """The log of a resend has the request's id, and neither number nor code."""
    request = ask_sent()

    with structlog.testing.capture_logs() as logs:
        resends(request)

    (entry,) = [entry for entry in logs if entry["event"] == "otp_resend_requested"]
    assert entry["otp_id"] == str(request.id)
    assert provider.code() not in str(logs)
    assert NUMBER[1:] not in str(logs)
