"""Parsing of Infobip's delivery reports, valid and invalid."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpqueue.domain.receipts import DeliveryState
from otpqueue.infobip.receipts import is_batch, parse_reports

# Infobip's OpenAPI document for SMS, `receive-outbound-sms-message-reports-v3`.
V3 = {
    "bulkId": "BULK-ID-123-xyz",
    "messageId": "c9823180-94d4-4ea0-9bf3-ec907e7534a6",
    "to": "41793026731",
    "sender": "InfoSMS",
    "sentAt": "2021-06-04T13:01:52.933+0000",
    "doneAt": "2021-06-04T13:02:00.134+0200",
    "messageCount": 1,
    "mccMnc": "null",
    "price": {"pricePerMessage": 0.0123, "currency": "EUR"},
    "status": {
        "groupId": 3,
        "groupName": "DELIVERED",
        "id": 5,
        "name": "DELIVERED_TO_HANDSET",
        "description": "Message delivered to handset",
    },
    "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": False},
    "platform": {"entityId": "x", "applicationId": "y"},
}
LEGACY = {
    "messageId": "legacy-1",
    "to": "41793026731",
    "from": "InfoSMS",
    "smsCount": 2,
    "sentAt": "2015-02-12T09:50:22.221+0100",
    "doneAt": "2015-02-12T09:50:22.232+0100",
    "price": {"pricePerMessage": 0.01, "currency": "USD"},
    "status": {"groupId": 2, "groupName": "UNDELIVERABLE", "id": 9, "name": "UNDELIVERABLE_NOT_DELIVERED"},
    "error": {"groupId": 1, "groupName": "HANDSET_ERRORS", "id": 27, "name": "EC_ABSENT_SUBSCRIBER"},
}


def one(**fields: Any) -> dict[str, Any]:
    """Return a batch of one report."""
    return {"results": [{"messageId": "m", "status": {"groupName": "DELIVERED"}} | fields]}


def delivery(**status: Any) -> DeliveryState:
    """Return what a report with this status says."""
    (receipt,) = parse_reports(one(status=status))
    return receipt.delivery


def test_current_shape() -> None:
    """Everything we keep is read from the current shape."""
    (receipt,) = parse_reports({"results": [V3]})

    assert receipt.message_id == "c9823180-94d4-4ea0-9bf3-ec907e7534a6"
    assert (receipt.delivery, receipt.status) == (DeliveryState.DELIVERED, "DELIVERED_TO_HANDSET")
    assert receipt.error is None
    assert receipt.done_at == datetime(2021, 6, 4, 11, 2, 0, 134000, UTC)
    assert (receipt.price, receipt.currency) == (Decimal("0.0123"), "EUR")


def test_legacy_shape() -> None:
    """The legacy shape says the same in other fields."""
    (receipt,) = parse_reports({"results": [LEGACY]})

    assert (receipt.message_id, receipt.delivery) == ("legacy-1", DeliveryState.UNDELIVERED)
    assert (receipt.status, receipt.error) == ("UNDELIVERABLE_NOT_DELIVERED", "EC_ABSENT_SUBSCRIBER")
    assert receipt.done_at == datetime(2015, 2, 12, 8, 50, 22, 232000, UTC)
    assert (receipt.price, receipt.currency) == (Decimal("0.01"), "USD")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"groupId": 0, "groupName": "ACCEPTED", "name": "MESSAGE_ACCEPTED"}, DeliveryState.PENDING),
        ({"groupId": 1, "groupName": "PENDING", "name": "PENDING_ENROUTE"}, DeliveryState.PENDING),
        ({"groupId": 3, "groupName": "DELIVERED", "name": "DELIVERED_TO_OPERATOR"}, DeliveryState.PENDING),
        ({"groupId": 3, "name": "DELIVERED_TO_OPERATOR"}, DeliveryState.PENDING),
        ({"groupId": 3, "groupName": "DELIVERED", "name": "DELIVERED_TO_HANDSET"}, DeliveryState.DELIVERED),
        ({"groupId": 3, "groupName": "DELIVERED", "name": "OF_TOMORROW"}, DeliveryState.DELIVERED),
        ({"groupName": "delivered", "name": "X"}, DeliveryState.DELIVERED),
        ({"groupId": 3}, DeliveryState.DELIVERED),
        ({"groupId": 2, "groupName": "UNDELIVERABLE", "name": "U"}, DeliveryState.UNDELIVERED),
        ({"groupId": 4, "groupName": "EXPIRED", "name": "EXPIRED_EXPIRED"}, DeliveryState.UNDELIVERED),
        ({"groupId": 5, "groupName": "REJECTED", "name": "REJECTED_DND"}, DeliveryState.UNDELIVERED),
        ({"groupId": 2}, DeliveryState.UNDELIVERED),
        ({"groupId": 4}, DeliveryState.UNDELIVERED),
        ({"groupId": 5}, DeliveryState.UNDELIVERED),
        ({"groupId": 99}, DeliveryState.PENDING),
        ({"groupName": "OF_TOMORROW", "name": "X"}, DeliveryState.PENDING),
        ({"name": "DELIVERED_TO_HANDSET"}, DeliveryState.DELIVERED),
        ({"name": "delivered_to_handset"}, DeliveryState.DELIVERED),
        ({"name": "DELIVERED_TO_OPERATOR"}, DeliveryState.PENDING),
        ({"name": "PENDING_ENROUTE"}, DeliveryState.PENDING),
        ({"name": "UNDELIVERABLE_NOT_DELIVERED"}, DeliveryState.UNDELIVERED),
        ({"name": "UNDELIVERABLE_REJECTED_OPERATOR", "groupId": None}, DeliveryState.UNDELIVERED),
        ({"name": "EXPIRED_DLR_UNKNOWN", "groupName": ""}, DeliveryState.UNDELIVERED),
        ({"name": "REJECTED_NETWORK"}, DeliveryState.UNDELIVERED),
        ({"name": "REJECTED"}, DeliveryState.UNDELIVERED),
        ({"name": "SIGNALS_BLOCKED"}, DeliveryState.UNDELIVERED),
        ({"name": "NO_ANSWER"}, DeliveryState.UNDELIVERED),
        ({"name": "OF_TOMORROW"}, DeliveryState.PENDING),
        ({"name": "UNDELIVERABLED"}, DeliveryState.PENDING),
        ({"groupName": "PENDING", "name": "DELIVERED_TO_HANDSET"}, DeliveryState.PENDING),
    ],
    ids=str,
)
def test_what_a_status_means(status: dict[str, Any], expected: DeliveryState) -> None:
    """The group decides, or the name.

    Delivered to the operator is not final, and neither is an unknown status.
    """
    assert delivery(**status) is expected


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        [],
        {},
        {"messageId": "m"},
        {"status": {"groupName": "DELIVERED"}},
        {"messageId": "", "status": {"groupName": "DELIVERED"}},
        {"messageId": 7, "status": {"groupName": "DELIVERED"}},
        {"messageId": "nul\x00", "status": {"groupName": "DELIVERED"}},
        {"messageId": "\ud800", "status": {"groupName": "DELIVERED"}},
        {"messageId": "m", "status": "DELIVERED"},
        {"messageId": "m", "status": {}},
        {"messageId": "m", "status": {"name": None, "groupId": "3"}},
    ],
    ids=repr,
)
def test_what_names_no_message_or_status_is_left_out(result: Any) -> None:
    """A report without a message or status is skipped, without its batch."""
    assert [receipt.message_id for receipt in parse_reports({"results": [result, V3]})] == [V3["messageId"]]


@pytest.mark.parametrize("body", [None, 1, "x", [], [V3], {}, {"results": None}, {"results": {"a": V3}}])
def test_invalid_batch(body: Any) -> None:
    """Anything but an object with a list of results is no batch, and parses to nothing."""
    assert not is_batch(body)
    assert parse_reports(body) == []


def test_empty_batch_is_one() -> None:
    """An empty list of results is a batch of none."""
    assert is_batch({"results": []})
    assert parse_reports({"results": []}) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "yesterday",
        "2021-06-04T13:02:00",
        "2021-06-04",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
    ids=repr,
)
def test_unusable_times(value: Any) -> None:
    """A time without a zone or out of range is ignored, and the report counts."""
    (receipt,) = parse_reports(one(doneAt=value))

    assert receipt.done_at is None


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"pricePerMessage": 0}, Decimal(0)),
        ({"pricePerMessage": 1.5}, Decimal("1.5")),
        ({"pricePerMessage": "0.0071"}, Decimal("0.0071")),
        ({"pricePerMessage": -1}, None),
        ({"pricePerMessage": True}, None),
        ({"pricePerMessage": "free"}, None),
        ({"pricePerMessage": "NaN"}, None),
        ({"pricePerMessage": float("inf")}, None),
        ({"pricePerMessage": 10**12}, None),
        ({"pricePerMessage": "1e-99999"}, Decimal(0)),
        ({"pricePerMessage": "0e99999"}, Decimal(0)),
        ({"pricePerMessage": [1]}, None),
        ("0.1", None),
        (None, None),
    ],
    ids=str,
)
def test_prices(price: Any, expected: Decimal | None) -> None:
    """A price is a number that a database can hold, or it is none."""
    (receipt,) = parse_reports(one(price=price))

    assert receipt.price == expected
    if expected is not None and receipt.price is not None:
        assert len(format(receipt.price, "f")) < 20


def test_words_are_bounded() -> None:
    """What is stored and logged is short, whatever is sent."""
    (receipt,) = parse_reports(
        one(
            messageId="m" * 100,
            status={"groupName": "DELIVERED", "name": "N" * 5000},
            error={"name": "E" * 5000},
            price={"pricePerMessage": 1, "currency": "EURO" * 99},
        )
    )

    assert [len(word or "") for word in (receipt.message_id, receipt.status, receipt.error)] == [100, 64, 64]
    assert receipt.currency is None


def test_id_that_is_too_long_is_no_other_id() -> None:
    """Cut short it could be that of another message."""
    assert parse_reports(one(messageId="m" * 101)) == []


@pytest.mark.parametrize(
    ("currency", "expected"),
    [
        ("EUR", "EUR"),
        ("usd", "USD"),
        ("UNKNOWN", None),
        ("", None),
        ("EU", None),
        ("€€€", None),
        ("E R", None),
        (978, None),
        (None, None),
    ],
)
def test_currencies(currency: Any, expected: str | None) -> None:
    """A currency has three letters, or it is none; the price counts all the same."""
    (receipt,) = parse_reports(one(price={"pricePerMessage": 1, "currency": currency}))

    assert (receipt.price, receipt.currency) == (1, expected)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["DELIVERED", "2021-06-04T13:02:00.134+0200", "1e400", "-0", "nan"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messageId",
                    "status",
                    "error",
                    "price",
                    "name",
                    "groupId",
                    "groupName",
                    "doneAt",
                    "pricePerMessage",
                    "currency",
                    "x",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(anything | st.fixed_dictionaries({"results": st.lists(anything, max_size=4)}))
def test_nothing_raises(body: Any) -> None:
    """Whatever JSON there is, a list of sound reports comes out."""
    for receipt in parse_reports(body):
        assert receipt.message_id.isprintable()
        assert receipt.status
        assert receipt.price is None or 0 <= receipt.price < 1_000_000
        assert receipt.done_at is None or receipt.done_at.tzinfo
    is_batch(body)


def test_both_shapes_in_one_batch() -> None:
    """Shapes may be mixed, and unknown fields are passed over, after a way through JSON."""
    body = json.loads(json.dumps({"results": [V3, LEGACY | {"unknown": {"a": [1]}}], "more": 1}))

    assert [receipt.delivery for receipt in parse_reports(body)] == [
        DeliveryState.DELIVERED,
        DeliveryState.UNDELIVERED,
    ]
