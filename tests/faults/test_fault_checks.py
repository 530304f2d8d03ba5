"""Each check of the fault harness, on a small history that keeps its promise and on ones that break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults import checks
from tests.faults.history import (
    AttemptRow,
    Call,
    Disruption,
    History,
    LockedRows,
    RequestRow,
    Seen,
    Sent,
)

ID, OTHER = "id-1", "id-2"
NUMBER = "+447400000001"
WORKER = 42


def ask(at: float = 100.0, *, request: str = ID, session: str = "a", script: int = 1) -> Call:
    """Return an ask that was accepted."""
    body = {"id": request, "status": "queued"}
    return Call(
        script=script,
        kind="ask",
        began=at,
        ended=at + 0.1,
        request=request,
        status=202,
        body=body,
        session=session,
    )


def poll(at: float, status: str, *, request: str = ID, reason: str | None = None) -> Call:
    """Return a poll and its answer."""
    body = {"status": status, "reason": reason}
    return Call(script=1, kind="poll", began=at, ended=at + 0.1, request=request, status=200, body=body)


def verify(at: float, code: str, status: int | None, problem: str | None = None, **more: Any) -> Call:
    """Return a check of a code and how it was answered."""
    values: dict[str, Any] = {"session": "a", "request": ID, "script": 1, "ended": at + 0.1} | more
    body = (
        {"code": problem}
        if problem
        else {"status": "verified", "reason": "code_correct"}
        if status == 200
        else {}
    )
    return Call(kind="verify", began=at, status=status, body=body, code=code, **values)


def row(**more: Any) -> RequestRow:
    """Return a request that was sent at 101 and verified at 103."""
    values: dict[str, Any] = {
        "id": ID,
        "number": NUMBER,
        "status": "verified",
        "reason": "code_correct",
        "send_state": "idle",
        "created_at": 100.0,
        "send_by": 160.0,
        "pin_id": "p1",
        "expires_at": 220.0,
        "finished_at": 103.0,
    }
    return RequestRow(**values | more)


def attempt(number: int = 1, claimed_at: float = 101.0, **more: Any) -> AttemptRow:
    """Return an attempt that was accepted."""
    values: dict[str, Any] = {
        "request": ID,
        "worker": f"host:{WORKER}",
        "outcome": "accepted",
        "code": "MESSAGE_SENT",
        "pin_id": f"p{number}",
        "started_at": claimed_at + 0.01,
        "finished_at": claimed_at + 0.2,
    }
    return AttemptRow(number=number, claimed_at=claimed_at, **values | more)


def lost(number: int = 1, claimed_at: float = 101.0, *, finished_at: float = 108.0) -> AttemptRow:
    """Return an attempt with an expired lease."""
    return attempt(
        number,
        claimed_at,
        outcome="unknown",
        code="lease_ran_out",
        pin_id=None,
        started_at=None,
        finished_at=finished_at,
    )


def sent(at: float = 101.1, pin: str = "111111", pin_id: str = "p1", number: str = NUMBER) -> Sent:
    """Return a message."""
    return Sent(number=number, at=at, pin=pin, pin_id=pin_id)


def killed(at: float = 101.2, *, role: str = "send", how: str = "killed", until: float = 105.0) -> Disruption:
    """Return a kill."""
    return Disruption(node=f"{role}-1", role=role, how=how, pid=WORKER, began=at, ended=until)


GOOD = History(
    calls=(
        ask(),
        poll(102.0, "sent"),
        verify(103.0, "111111", 200),
        poll(104.0, "verified", reason="code_correct"),
    ),
    sent=(sent(),),
    requests=(row(),),
    attempts=(attempt(),),
    ended=200.0,
)
"""A request as it should be."""

CRASHED = replace(
    GOOD,
    sent=(sent(pin_id="p0"), sent(110.0, "222222", "p2")),
    attempts=(lost(), attempt(2, 109.0)),
    requests=(row(pin_id="p2"),),
    calls=(ask(), poll(111.0, "sent"), verify(112.0, "222222", 200)),
    disruptions=(killed(),),
)
"""A request that was sent again, after its worker was killed between send and record."""


@pytest.mark.parametrize("history", [GOOD, CRASHED, History()], ids=["good", "crashed", "empty"])
def test_good_history_passes(history: History) -> None:
    """A history in which all promises are kept breaks no check."""
    assert checks.violations(history) == []


def texts(check: Any, history: History) -> list[str]:
    """Return what a check complains about."""
    return [violation.text for violation in check(history)]


def live(**more: Any) -> RequestRow:
    """Return a request that has not ended."""
    return row(
        **{"status": "queued", "reason": None, "finished_at": None, "pin_id": None, "expires_at": None} | more
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((), "in no table"),
        ((row(reason=None),), "without a reason"),
        ((live(send_state="due"),), "past its deadline"),
        ((live(send_state="idle", send_by=300.0),), "no worker will send it"),
        ((live(send_state="claimed", lease_until=150.0),), "held by a worker"),
        ((row(send_state="claimed", lease_until=150.0),), "held by a worker"),
        ((live(status="sent", expires_at=150.0),), "past its lifetime"),
        ((live(status="sent", expires_at=300.0, check_lease_until=150.0),), "still blocks checks"),
    ],
)
def test_lost_request_is_found(rows: tuple[RequestRow, ...], complaint: str) -> None:
    """A request that is gone, stuck, or ended without a reason is lost."""
    found = texts(checks.nothing_lost, replace(GOOD, requests=rows))

    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    "request_row",
    [
        live(send_state="due", send_by=199.0),
        live(send_state="claimed", lease_until=199.0, send_by=150.0),
        live(status="sent", expires_at=198.0),
        live(status="delivered", expires_at=260.0),
    ],
)
def test_live_request_within_its_deadline_is_not_lost(request_row: RequestRow) -> None:
    """What is live may be so until a sweep can have seen its deadline."""
    assert texts(checks.nothing_lost, replace(GOOD, requests=(request_row,))) == []


UNSURE = attempt(1, outcome="unknown", code="timeout", pin_id=None)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (
            # Three messages where one unknown outcome allows two.
            {
                "attempts": (UNSURE, replace(UNSURE, number=2, claimed_at=104.0), attempt(3, 106.0)),
                "sent": (sent(pin_id="x"), sent(104.1, pin_id="y"), sent(106.1, pin_id="p3")),
            },
            "was sent 3 times",
        ),
        (
            {
                "attempts": tuple(replace(UNSURE, number=n, claimed_at=100.0 + n) for n in (1, 2, 3)),
                "sent": (),
            },
            "3 unknown attempts",
        ),
        (
            {"attempts": (attempt(), attempt(2, 102.0)), "sent": (sent(), sent(102.1, pin_id="p2"))},
            "sent again after attempt 1",
        ),
        ({"attempts": (attempt(1, 161.0),), "sent": (sent(161.1),)}, "after send_by"),
        (
            {
                "attempts": (lost(1, 159.0, finished_at=166.0),),
                "sent": (sent(165.0),),
                "disruptions": (killed(166),),
            },
            "after send_by",
        ),
    ],
)
def test_send_too_many_is_found(changed: dict[str, Any], complaint: str) -> None:
    """More sends than unknown outcomes allow, one after an accepted one, or one after the deadline."""
    found = texts(checks.sends_bounded, replace(GOOD, **changed))

    assert any(complaint in text for text in found), found


def test_send_of_a_process_that_stood_still_is_excused() -> None:
    """A process stopped between its last look at the clock and the call sends late, and may."""
    history = replace(
        GOOD,
        attempts=(lost(1, 159.0, finished_at=166.0),),
        sent=(sent(165.0),),
        disruptions=(killed(159.5, how="paused", until=164.9),),
    )

    assert texts(checks.sends_bounded, history) == []


def test_attempt_accepted_late_may_have_been_sent_again() -> None:
    """Its lease had expired before its answer was recorded, so its outcome was unknown."""
    history = replace(GOOD, attempts=(attempt(), attempt(2, 108.0)), sent=(sent(), sent(108.1, pin_id="p2")))

    assert texts(checks.sends_bounded, history) == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"sent": (sent(), sent(105.0, pin_id="stray"))}, "no attempt says so"),
        ({"attempts": (attempt(outcome="refused", pin_id=None),)}, "no attempt says so"),
        ({"attempts": (), "requests": (row(pin_id=None),)}, "no attempt says so"),
        ({"sent": ()}, "never sent"),
        ({"requests": (row(pin_id="p0"),)}, "newest accepted attempt"),
        ({"attempts": (attempt(2, pin_id="p1"),)}, "has attempts [2]"),
    ],
)
def test_send_without_its_record_is_found(changed: dict[str, Any], complaint: str) -> None:
    """A message that no attempt accounts for, or an accepted attempt without a message."""
    found = texts(checks.sends_recorded, replace(GOOD, **changed))

    assert any(complaint in text for text in found), found


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ((ask(), verify(103.0, "999999", 200)), "a wrong code"),
        ((ask(), verify(103.0, "111111", 200), verify(104.0, "111111", 200)), "accepted 2 times"),
        ((ask(), verify(103.0, "111111", 200, stranger=True)), "another client"),
        ((ask(), verify(103.0, "111111", 200, session="b")), "another session"),
        ((ask(), verify(221.0, "111111", 200)), "expired"),
        ((ask(), poll(102.0, "cancelled"), verify(103.0, "111111", 200)), "was over"),
        ((ask(), ask(102.0, request=OTHER), verify(103.0, "111111", 200)), "had been replaced"),
        (
            (ask(), *(verify(102.0 + n, "9", 422) for n in range(5)), verify(109.0, "111111", 200)),
            "five wrong",
        ),
        ((ask(), poll(102.0, "sent"), verify(103.0, "999999", 422)), "without a call with its code"),
    ],
)
def test_code_wrongly_accepted_is_found(calls: tuple[Call, ...], complaint: str) -> None:
    """No code is accepted that is wrong, used, expired, replaced, or of another request."""
    history = replace(
        GOOD, calls=calls, requests=(row(), row(id=OTHER, pin_id=None, status="sent", expires_at=300.0))
    )

    found = texts(checks.codes_judged_rightly, history)

    assert any(complaint in text for text in found), found


REFUSED = verify(103.0, "111111", 422, "code_incorrect")
UNVERIFIED = live(status="sent", pin_id="p1", expires_at=220.0)


def test_right_code_refused_is_found() -> None:
    """The right code of a request that was sent must be accepted when nothing else goes on."""
    history = replace(GOOD, calls=(ask(), poll(102.0, "sent"), REFUSED), requests=(UNVERIFIED,))

    assert "refused the right code" in texts(checks.codes_judged_rightly, history)[0]


@pytest.mark.parametrize(
    "before",
    [
        (verify(102.5, "111111", None, ended=102.9),),
        (verify(102.5, "111111", 503, "database_unavailable", ended=102.9),),
        (verify(102.95, "999999", 422, "code_incorrect", ended=103.05),),
        tuple(verify(102.2 + n / 9, "999999", 422, "code_incorrect", ended=102.25 + n / 9) for n in range(5)),
        (ask(102.5, request=OTHER),),
    ],
    ids=["unanswered", "outage", "at once", "exhausted", "replaced"],
)
def test_right_code_may_be_refused_when_something_else_goes_on(before: tuple[Call, ...]) -> None:
    """A check without an answer, a concurrent check, five wrong codes, a newer request."""
    history = replace(GOOD, calls=(ask(), poll(102.0, "sent"), *before, REFUSED), requests=(UNVERIFIED,))

    assert texts(checks.codes_judged_rightly, history) == []


def test_unanswered_check_may_have_verified() -> None:
    """A check that was never answered may be the one that counted; the next call gets that answer."""
    calls = (
        ask(),
        poll(102.0, "sent"),
        verify(103.0, "111111", None),
        verify(105.0, "111111", 409, "already_verified"),
    )

    assert texts(checks.codes_judged_rightly, replace(GOOD, calls=calls)) == []


@pytest.mark.parametrize(
    ("calls", "seen"),
    [
        ((poll(102.0, "verified"), poll(104.0, "expired")), ()),
        ((poll(102.0, "delivered"), poll(103.0, "sent")), ()),
        ((poll(102.0, "delivered"),), (Seen(request=ID, began=105.0, ended=105.1, status="undelivered"),)),
        (
            (
                poll(102.0, "failed", reason="outcome_unknown"),
                poll(103.0, "failed", reason="provider_refused"),
            ),
            (),
        ),
        ((poll(102.0, "cancelled"),), ()),
        ((verify(102.0, "1", 409, "already_verified"), poll(103.0, "sent")), ()),
    ],
)
def test_state_that_moves_back_is_found(calls: tuple[Call, ...], seen: tuple[Seen, ...]) -> None:
    """A final state that changes, or a receipt that takes a step back, up to what the table says at last."""
    assert len(texts(checks.states_move_forward, replace(GOOD, calls=calls, seen=seen))) == 1


def test_views_at_the_same_time_have_no_order() -> None:
    """Of two that overlap, the one that began first may have read last."""
    slow = replace(poll(102.0, "sent"), ended=106.0)
    quick = poll(103.0, "delivered")

    assert texts(checks.states_move_forward, replace(GOOD, calls=(slow, quick))) == []


def test_slow_recovery_is_found() -> None:
    """What a killed worker held must be taken up within its lease and ten seconds."""
    late = replace(CRASHED, attempts=(lost(), attempt(2, 119.0)))

    assert "taken up again after 17.8 s" in texts(checks.crashes_recovered, late)[0]


def test_attempt_never_taken_up_is_found() -> None:
    """An attempt without an outcome counts until the end of the run."""
    held = replace(CRASHED, attempts=(replace(lost(), outcome=None, code=None, finished_at=None),))

    assert "after 98.8 s" in texts(checks.crashes_recovered, held)[0]


@pytest.mark.parametrize(
    "outage",
    [
        (killed(103.0, role="postgres", until=113.0),),
        (killed(103.0, role="periodic", until=109.0), killed(107.0, role="beat", until=113.0)),
        (killed(102.0, until=115.0), replace(killed(103.0, until=114.0), pid=43)),
    ],
    ids=["postgres", "overlapping", "all senders"],
)
def test_recovery_waits_for_what_it_needs(outage: tuple[Disruption, ...]) -> None:
    """Times in which nothing could have been taken up are taken off, overlaps once."""
    late = replace(CRASHED, attempts=(lost(), attempt(2, 119.0)))

    assert texts(checks.crashes_recovered, replace(late, disruptions=(killed(until=101.3), *outage))) == []


def test_recovery_waits_for_the_circuit_breaker() -> None:
    """A storm of errors keeps it open for as long as probes meet the storm."""
    late = replace(CRASHED, attempts=(lost(), attempt(2, 119.0)))

    assert texts(checks.crashes_recovered, replace(late, open_circuit=((90.0, 104.0), (104.0, 112.0)))) == []
    assert texts(checks.crashes_recovered, replace(late, open_circuit=((90.0, 101.0), (119.0, 130.0)))) != []


def test_miscounted_statistics() -> None:
    """Each sum that differs from the rows is reported."""
    off = replace(GOOD, miscounted=("stats_minutes sent says 1, the rows say 2",))

    assert texts(checks.statistics_exact, off) == ["stats_minutes sent says 1, the rows say 2"]


LOST = replace(CRASHED, disruptions=())
"""The same without a kill: nothing explains why the attempt was taken for lost."""


@pytest.mark.parametrize(
    "changed",
    [
        {},
        # Another worker was killed, and a foreign session locked another request.
        {"disruptions": (replace(killed(), pid=WORKER + 1),)},
        {"locks": (LockedRows(began=101.0, ended=109.0, requests=(OTHER,)),)},
        # Postgres was away, but the worker had heard of its claim: it sent the code.
        {"disruptions": (replace(killed(101.1, role="postgres", until=109.0), pid=1),)},
        # The outcome was recorded in the end, after the request had been sent again.
        {"attempts": (attempt(1, pin_id="p0"), attempt(2, 109.0))},
    ],
)
def test_outcome_that_was_not_kept_is_found(changed: dict[str, Any]) -> None:
    """An undisturbed attempt was declared lost: a user got a needless second code."""
    found = texts(checks.outcomes_kept, replace(LOST, **changed))

    assert len(found) == 1
    assert "taken for lost" in found[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"disruptions": (killed(),)},
        {"disruptions": (killed(102.0, how="paused", until=110.0),)},
        {
            "disruptions": (replace(killed(101.1, role="postgres", until=103.0), pid=1),),
            "sent": (sent(110.0, "222222", "p2"),),
        },
        {"locks": (LockedRows(began=101.0, ended=109.0, requests=(ID,)),)},
    ],
    ids=["killed", "paused", "claim unheard", "locked"],
)
def test_attempt_that_was_struck_may_be_lost(changed: dict[str, Any]) -> None:
    """A fault of its worker, its claim or its row explains an unknown outcome."""
    assert texts(checks.outcomes_kept, replace(LOST, **changed)) == []


UNTOLD = replace(GOOD, calls=(ask(), verify(103.0, "111111", 503, "database_unavailable", ended=103.5)))


def test_unreported_correct_code_is_found() -> None:
    """The request is verified, and its caller got an answer to retry."""
    found = texts(checks.right_codes_told, UNTOLD)

    assert len(found) == 1
    assert "none with 200" in found[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"calls": (ask(), verify(103.0, "111111", None))},
        {"disruptions": (killed(103.0, role="postgres", until=109.0),)},
        {"requests": (row(status="expired"),)},
    ],
    ids=["no answer", "long outage", "not verified"],
)
def test_correct_code_with_a_failed_response(changed: dict[str, Any]) -> None:
    """The call was cut, Postgres was away for longer than the API waits, or no code was accepted."""
    calls = (ask(), verify(103.0, "111111", 503, "database_unavailable", ended=106.5))

    assert texts(checks.right_codes_told, replace(UNTOLD, **{"calls": calls} | changed)) == []


FLOOD = replace(ask(99.0, request=OTHER, script=-1), flood=True)
BESIDE = replace(GOOD, calls=(FLOOD, *GOOD.calls), requests=(row(), row(id=OTHER, flood=True)))


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 0),
        ({"attempts": (attempt(1, 120.0),)}, 1),
        ({"attempts": ()}, 0),
        (
            {
                "attempts": (),
                "requests": (live(send_state="due", send_by=300.0), row(id=OTHER, flood=True)),
            },
            1,
        ),
        ({"attempts": (attempt(1, 120.0),), "disruptions": (killed(101.0, role="redis", until=112.0),)}, 0),
        (
            {
                "attempts": (attempt(1, 120.0),),
                "locks": (LockedRows(began=101.0, ended=119.0, requests=(ID,)),),
            },
            0,
        ),
        ({"attempts": (attempt(1, 120.0),), "calls": GOOD.calls}, 0),
    ],
    ids=["soon", "late", "ended before", "never", "outage", "locked", "no flood"],
)
def test_waits_beside_a_flood(changed: dict[str, Any], count: int) -> None:
    """A late first attempt is found while the flood gets the claims, and nothing else explains the wait."""
    flood = tuple(attempt(n, 101.0 + n / 100, request=OTHER) for n in range(1, 50))
    changed["attempts"] = (*changed.get("attempts", BESIDE.attempts), *flood)

    assert len(texts(checks.clients_take_turns, replace(BESIDE, **changed))) == count


def test_wait_that_the_flood_shares() -> None:
    """If the flood gets no claims either, the wait has another cause: an open circuit breaker."""
    late = replace(BESIDE, attempts=(attempt(1, 120.0), attempt(1, 121.0, request=OTHER)))

    assert texts(checks.clients_take_turns, late) == []


def refused(at: float, status: int, problem: str, *, number: int = 1, retry_after: str | None = "3") -> Call:
    """Return an ask that was refused."""
    return Call(
        script=1,
        kind="ask",
        began=at,
        ended=at + 0.1,
        status=status,
        body={"code": problem},
        reference=f"1.{number}",
        retry_after=retry_after,
    )


def admitted(count: int) -> tuple[Call, ...]:
    """Return asks for one number that were all accepted."""
    return tuple(replace(ask(100.0 + n, request=f"id-{n}"), reference=f"1.{n}") for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ((refused(100.0, 500, "internal_error"),), "answered 500 internal_error"),
        ((refused(100.0, 429, "destination_paused"),), "answered 429 destination_paused"),
        ((refused(100.0, 503, "too_busy", retry_after=None),), "without Retry-After"),
        ((*admitted(19), refused(130.0, 429, "limit_exceeded")), "only 19 requests"),
        (admitted(21), "21 requests were admitted"),
    ],
)
def test_refusal_that_is_not_documented_is_found(calls: tuple[Call, ...], complaint: str) -> None:
    """A refusal without a cause or `Retry-After`, one that came too early, or one that never came."""
    found = texts(checks.refusals_documented, replace(GOOD, calls=calls))

    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("calls", "emptied"),
    [
        ((*admitted(20), refused(130.0, 429, "limit_exceeded")), ()),
        ((refused(100.0, 503, "limits_unavailable"),), ()),
        (admitted(40), (110.0,)),
    ],
    ids=["full", "Redis away", "Redis emptied"],
)
def test_refusals_as_documented(calls: tuple[Call, ...], emptied: tuple[float, ...]) -> None:
    """A full limit, and a Redis that cannot count or has forgotten what it counted."""
    assert texts(checks.refusals_documented, replace(GOOD, calls=calls, emptied=emptied)) == []


def test_caps_and_processes() -> None:
    """Differing counts and unexpected ends of processes are reported as recorded."""
    off = replace(
        GOOD, miscapped=("all: counted 3, the rows say 2",), misbehaved=("send-1 ended unexpectedly",)
    )

    assert texts(checks.caps_exact, off) == ["all: counted 3, the rows say 2"]
    assert texts(checks.processes_end_only_when_stopped, off) == ["send-1 ended unexpectedly"]
