"""Delivery reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class DeliveryState(StrEnum):
    """The delivery state in a report."""

    PENDING = "pending"
    """In transit: with the mobile operator, or waiting. Not final."""
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One delivery report."""

    message_id: str
    """The `externalMessageId` of the send's answer."""
    delivery: DeliveryState
    status: str
    """The provider's status name, e.g. DELIVERED_TO_HANDSET."""
    error: str | None
    done_at: datetime | None
    price: Decimal | None
    currency: str | None
