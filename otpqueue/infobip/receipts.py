"""Parse Infobip's delivery reports. They have two shapes, and every field is optional.

Source: Infobip's OpenAPI document for SMS (`receive-outbound-sms-message-reports-v3`) and its page on message
status codes. The legacy shape differs only in fields that we do not read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.infobip.wire import clean_id, clean_word

_FINAL_GROUPS = {
    "UNDELIVERABLE": DeliveryState.UNDELIVERED,
    "DELIVERED": DeliveryState.DELIVERED,
    "EXPIRED": DeliveryState.UNDELIVERED,
    "REJECTED": DeliveryState.UNDELIVERED,
}
_GROUP_NAMES = {2: "UNDELIVERABLE", 3: "DELIVERED", 4: "EXPIRED", 5: "REJECTED"}
_NOT_FINAL = {"DELIVERED_TO_OPERATOR"}
_GROUPLESS = {
    "NO_ANSWER": "UNDELIVERABLE",
    "BUSY": "UNDELIVERABLE",
    "CANCELLED": "UNDELIVERABLE",
    "MISSING_TO": "REJECTED",
    "SIGNALS_BLOCKED": "REJECTED",
}
"""Final statuses with a name that does not start with that of their group."""
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_DEAREST = Decimal(1_000_000)
_FINEST = Decimal("0.000001")


def parse_reports(body: Any) -> list[Receipt]:
    """Return the reports in a body. Reports without a message id or a status are skipped."""
    results = body.get("results") if isinstance(body, dict) else None
    if not isinstance(results, list):
        return []
    return [receipt for receipt in map(_parse_receipt, results) if receipt is not None]


def is_batch(body: Any) -> bool:
    """Return whether a body has the form of a batch of delivery reports."""
    return isinstance(body, dict) and isinstance(body.get("results"), list)


def _parse_receipt(result: Any) -> Receipt | None:
    if not isinstance(result, dict):
        return None
    status, error, price = (_get_object(result.get(name)) for name in ("status", "error", "price"))
    message_id, name = clean_id(result.get("messageId"), length=100), clean_word(status.get("name"))
    group = clean_word(status.get("groupName")) or _get_group_name(status.get("groupId"))
    if message_id is None or (name is None and group is None):
        return None
    return Receipt(
        message_id=message_id,
        delivery=_classify_delivery(group, name),
        status=name or str(group),
        error=None if error.get("name") == "NO_ERROR" else clean_word(error.get("name")),
        done_at=_parse_time(result.get("doneAt")),
        price=_parse_price(price.get("pricePerMessage")),
        currency=_parse_currency(price.get("currency")),
    )


def _classify_delivery(group: str | None, name: str | None) -> DeliveryState:
    """Return the delivery state of a status: by its group, or by its name if it has no group."""
    name = (name or "").upper()
    if name in _NOT_FINAL:
        return DeliveryState.PENDING
    group = (group or _GROUPLESS.get(name) or name.partition("_")[0]).upper()
    return _FINAL_GROUPS.get(group, DeliveryState.PENDING)


def _parse_currency(value: Any) -> str | None:
    # Infobip sends UNKNOWN if there is no currency.
    return value.upper() if isinstance(value, str) and _CURRENCY.fullmatch(value) else None


def _get_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _get_group_name(number: Any) -> str | None:
    return _GROUP_NAMES.get(number, "PENDING") if isinstance(number, int) else None


def _parse_time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _parse_price(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        return None
    # Written out, 1e-99999 has more digits than a database column holds.
    return price.quantize(_FINEST) if price.is_finite() and 0 <= price < _DEAREST else None
