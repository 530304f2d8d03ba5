"""`GET /v1/stats`: for operators, counts of a window and what follows from them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from otpqueue import clock
from otpqueue.domain.receipts import DeliveryState, Receipt
from tests.api.conftest import Caller, MakeCaller, wrong

STATS = "/v1/stats"


@pytest.fixture
def operator(make_caller: MakeCaller) -> Caller:
    """Return a caller with all scopes."""
    caller = make_caller()
    caller.key = caller.new_key("send", "verify", "admin")
    return caller


def told(caller: Caller, **query: str) -> dict[str, Any]:
    """Add everything up and return what was counted of this caller."""
    caller.parts.roll_up()
    answer = caller.get(STATS, params={"client": caller.client, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def deliver(caller: Caller, path: str) -> None:
    """Report that the code has arrived, at a price."""
    message = path.rpartition("/")[2]
    caller.execute(
        "UPDATE send_attempts SET external_message_id = :message WHERE request_id = :id",
        message=message,
        id=message,
    )
    report = Receipt(
        message_id=message,
        delivery=DeliveryState.DELIVERED,
        status="DELIVERED_TO_HANDSET",
        error=None,
        done_at=clock.now(),
        price=Decimal("0.0500"),
        currency="EUR",
    )
    caller.parts.receipts([report], now=clock.now())


def test_counts_and_figures(operator: Caller) -> None:
    """What was counted of a client, and what follows from it; the contract holds every field."""
    path, code = operator.sent()
    deliver(operator, path)
    operator.verify(path, wrong(code))
    operator.verify(path, code)
    for _ in range(3):
        operator.post("/v1/otp-requests", json={"phone_number": operator.number})

    report = told(operator, by="country,channel")

    counts, figures = report["all"]["counts"], report["all"]["figures"]
    assert (counts["requested"], counts["sent"], counts["delivered"], counts["verified"]) == (3, 1, 1, 1)
    assert counts["checks"] == {"wrong": 1, "correct": 1}
    assert counts["refused"] == {"limit_number_15m": 1}
    assert counts["cancelled"] == {"replaced": 1}
    assert counts["cost"] == {"EUR": 1}
    assert (figures["success_share"], figures["delivered_share"], figures["wrong_share"]) == (1, 1, 0.5)
    assert (figures["finished_sends"], figures["reported"], figures["judged"]) == (1, 1, 2)
    assert figures["cost"] == figures["cost_per_verified"] == {"EUR": "0.05"}
    assert 0 < figures["accept_to_sent"]["p50_ms"] <= figures["accept_to_sent"]["p99_ms"]
    assert figures["provider_send_mean_ms"] >= 0
    assert report["by"] == ["country", "channel"]
    assert [group["key"] for group in report["groups"]] == [
        {"country": "GB", "channel": "sms"},
        {"country": "GB", "channel": "none"},
    ]
    assert report["groups"][1]["counts"]["refused"] == {"limit_number_15m": 1}
    assert (report["step_s"], report["left_out"], report["waiting_since"]) == (60, 0, None)


def test_nothing_counted(operator: Caller) -> None:
    """An idle client has no shares, and no groups."""
    report = told(operator, by="country")

    assert report["groups"] == []
    assert report["all"]["counts"]["requested"] == 0
    assert report["all"]["figures"]["success_share"] is None
    assert report["all"]["figures"]["accept_to_sent"] == dict.fromkeys(
        ("mean_ms", "p50_ms", "p95_ms", "p99_ms")
    )


def test_waiting_events_are_reported(operator: Caller) -> None:
    """A reader learns how far the statistics are behind."""
    operator.ask()

    answer = operator.get(STATS, params={"client": operator.client, "country": "gb", "window": "24h"})

    assert answer.json["all"]["counts"]["requested"] == 0
    assert answer.json["waiting_since"] is not None
    assert answer.json["step_s"] == 3600
    assert told(operator, country="gb")["all"]["counts"]["requested"] == 1
    assert told(operator, country="FR")["all"]["counts"]["requested"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("window", value) for value in ("", "0m", "1", "1s", "-1h", "1.5h", "31d", "99999d", "1h1m", "٣h")],
        *[("by", value) for value in ("", "number", "country,", "country,country", "country client")],
        *[("country", value) for value in ("", "GBR", "4", "447700900123")],
        *[("client", value) for value in ("", "nobody", "x" * 129)],
    ],
)
def test_bad_query(operator: Caller, field: str, value: str) -> None:
    """What cannot be told is refused with the name of what is wrong, and nothing of what was sent."""
    answer = operator.get(STATS, params={field: value})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    (error,) = answer.json["errors"]
    assert error["field"] == field
    assert "447700900123" not in answer.text


def test_query_given_twice(operator: Caller) -> None:
    """Nobody can know which one is meant."""
    answer = operator.get(STATS, query_string="window=1h&window=2h")

    assert answer.status_code == 400


def test_only_for_operators(caller: Caller) -> None:
    """Keys without the scope `admin` are refused, and so is who has no key."""
    forbidden = caller.get(STATS)
    caller.key = None

    assert (forbidden.status_code, forbidden.json["code"]) == (403, "missing_scope")
    assert caller.get(STATS).status_code == 401
