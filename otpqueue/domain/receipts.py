"""Delivery reports: what one says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class DeliveryState(StrEnum):
    """What a report says of a message."""

    PENDING = "pending"
    """On its way: an operator has it, or it waits. Not final."""
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One delivery report."""

    message_id: str
    """What the send's answer called `externalMessageId`."""
    delivery: DeliveryState
    status: str
    """The provider's status name, e.g. DELIVERED_TO_HANDSET."""
    error: str | None
    done_at: datetime | None
    price: Decimal | None
    currency: str | None
