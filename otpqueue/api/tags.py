"""The groups of API calls, which are tags in the OpenAPI document and modules in generated clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperationTag:
    """A group of calls."""

    name: str
    description: str


CODES = OperationTag("Codes", "Send a code, follow it, verify what the person typed, resend it, cancel it.")
PAGES = OperationTag(
    "Verification pages",
    "Send the person to a ready-made page, and redeem the result: "
    "[docs/verification-page.md](/docs/verification-page).",
)
GUIDE = OperationTag(
    "Guide",
    "The two calls of the public guide, with its field names, for front ends that were written for it.",
)
WEBHOOKS = OperationTag(
    "Webhooks",
    "Events that otpqueue posts to your application when a request changes its status, signed as Standard "
    "Webhooks specifies: [docs/webhooks.md](/docs/webhooks).",
)
REQUESTS = OperationTag("Requests", "Find requests of all clients and read their history. For operators.")
STATISTICS = OperationTag("Statistics", "Counts and figures of a time window. For operators.")
ALERTS = OperationTag("Alerts", "List, acknowledge and silence alerts. For operators.")
AUDIT = OperationTag("Audit", "What operators did, and which numbers were erased. For operators.")
PRIVACY = OperationTag("Privacy", "Erase all data about a phone number. For operators.")
INFOBIP = OperationTag("Infobip", "The call that Infobip makes.")
MONITORING = OperationTag("Monitoring", "Health checks and metrics.")

ALL = (CODES, PAGES, WEBHOOKS, GUIDE, REQUESTS, STATISTICS, ALERTS, AUDIT, PRIVACY, INFOBIP, MONITORING)
"""In the order of the documents."""
