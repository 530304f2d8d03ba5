"""The magic numbers: phone numbers that cause errors without configuration.

All lie in 442079460900 to 442079460999, of a range that Ofcom reserves for drama, so none is assigned.
An e-mail address with a magic number as its local part, such as 442079460950@example.com, is magic too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from otpqueue.simulator.faults import FaultBody
from otpqueue.simulator.receipts import ReceiptRuleBody

PREFIX: Final = "4420794609"

NcStatus = Literal[
    "NC_DESTINATION_REACHABLE",
    "NC_DESTINATION_NOT_REACHABLE",
    "NC_NOT_REACHABLE",
    "NC_NOT_CONFIGURED",
    "NC_DESTINATION_UNKNOWN",
]
Operation = Literal["send", "resend", "verify"]

_SENDS: Final[frozenset[Operation]] = frozenset({"send", "resend"})
_HOLD_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class MagicNumber:
    """One magic number; `fault` applies to the operations `on`; the other fields change a send.

    With a number look-up the answer has `nc_status`; `sent` is false where nothing is sent then.
    `receipts` are the delivery reports of a tracked message.
    """

    number: str
    meaning: str
    fault: FaultBody | None = None
    on: frozenset[Operation] = _SENDS
    nc_status: NcStatus = "NC_DESTINATION_REACHABLE"
    sent: bool = True
    receipts: ReceiptRuleBody | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row that tables show."""
        return {"number": self.number, "meaning": self.meaning}


def _fault(last_two: str, meaning: str, *on: Operation, **fault: Any) -> MagicNumber:
    return MagicNumber(PREFIX + last_two, meaning, FaultBody(**fault), frozenset(on) or _SENDS)


def _receipts(last_two: str, meaning: str, **rule: Any) -> MagicNumber:
    return MagicNumber(PREFIX + last_two, meaning, receipts=ReceiptRuleBody(**rule))


def _look_up(last_two: str, meaning: str, nc_status: NcStatus, *, sent: bool = True) -> MagicNumber:
    return MagicNumber(PREFIX + last_two, meaning, nc_status=nc_status, sent=sent)


MAGIC_NUMBERS: Final[Sequence[MagicNumber]] = (
    _look_up(
        "00",
        "look-up: NC_DESTINATION_NOT_REACHABLE, MESSAGE_NOT_SENT",
        "NC_DESTINATION_NOT_REACHABLE",
        sent=False,
    ),
    _look_up("01", "look-up: NC_NOT_REACHABLE, MESSAGE_NOT_SENT", "NC_NOT_REACHABLE", sent=False),
    _look_up("02", "look-up: NC_NOT_CONFIGURED, sent", "NC_NOT_CONFIGURED"),
    _look_up("03", "look-up: NC_DESTINATION_UNKNOWN, sent", "NC_DESTINATION_UNKNOWN"),
    _look_up(
        "04",
        "look-up: NC_DESTINATION_REACHABLE, but MESSAGE_NOT_SENT",
        "NC_DESTINATION_REACHABLE",
        sent=False,
    ),
    _receipts("20", "report: undelivered (UNDELIVERABLE_NOT_DELIVERED)", outcome="undelivered"),
    _receipts("21", "report: rejected (REJECTED_FLOODING_FILTER)", outcome="rejected"),
    _receipts("22", "report: expired (EXPIRED_EXPIRED)", outcome="expired"),
    _receipts("23", "report: delivered, 60 s late", delay_ms=60_000),
    _receipts("24", "report: delivered, an hour late", delay_ms=3_600_000),
    _receipts("25", "report: none at all", outcome="none"),
    _receipts("26", "report: DELIVERED_TO_OPERATOR, and nothing final", outcome="operator"),
    _receipts("27", "report: delivered, each report pushed three times", duplicate=2),
    _receipts("28", "report: delivered, the final report before the earlier ones", reorder=True),
    _receipts("29", "report: delivered, pushed before the send is answered", delay_ms=0, before_answer=True),
    _receipts("30", "report: undelivered, then delivered", outcome="undelivered", then="delivered"),
    _fault("40", "400 BAD_REQUEST", status=400),
    _fault("41", "401 UNAUTHORIZED", status=401),
    _fault("43", "403 FORBIDDEN", status=403),
    _fault("44", "404 NOT_FOUND", status=404),
    _fault("45", "404 NOT_FOUND on resend and verify", "resend", "verify", status=404),
    _fault("48", "429 TOO_MANY_REQUESTS, Retry-After: 2", status=429, headers={"Retry-After": "2"}),
    _fault("49", "429 TOO_MANY_REQUESTS", status=429),
    _fault("50", "500 GENERAL_ERROR", status=500),
    _fault("51", "500 without a body", status=500, envelope="empty"),
    _fault("52", "502 with an HTML page", status=502, envelope="html"),
    _fault("53", "503 SERVICE_UNAVAILABLE", status=503),
    _fault("54", "500 in the new envelope, E500", status=500, envelope="new"),
    _fault("55", "429 on verify", "verify", status=429),
    _fault("56", "500 on verify", "verify", status=500),
    _fault(
        "60",
        "time-out before sending: nothing is sent, the connection breaks after 30 s",
        drop="before",
        latency_ms=_HOLD_MS,
    ),
    _fault(
        "61",
        "time-out after sending: sent, the connection breaks after 30 s",
        drop="after",
        latency_ms=_HOLD_MS,
    ),
    _fault("62", "connection cut before sending", drop="before"),
    _fault("63", "connection cut after sending", drop="after"),
    _fault("64", "sent, answered after 3 s", latency_ms=3000),
    _fault(
        "65", "verify: checked, the connection breaks after 30 s", "verify", drop="after", latency_ms=_HOLD_MS
    ),
    _fault("70", "sent, answered with 200 and an HTML page", form="html"),
    _fault("71", "sent, answered with 200 and an empty body", form="empty"),
    _fault("72", "sent, answered with half a JSON document", form="broken"),
    _fault("73", "sent, connection cut in the middle of the answer", form="truncated"),
    _fault("74", "sent, answered with 10 MB", form="huge"),
    _fault("75", "sent, answered with one byte a second", form="slow"),
)

_BY_NUMBER: Final[Mapping[str, MagicNumber]] = {magic.number: magic for magic in MAGIC_NUMBERS}


def find_magic_number(to: str) -> MagicNumber | None:
    """Return the magic number that a number in digits or an e-mail address holds, or None."""
    return _BY_NUMBER.get(to.partition("@")[0])


def format_magic_numbers() -> str:
    """Return all magic numbers, a line each."""
    return "\n".join(f"{magic.number}  {magic.meaning}" for magic in MAGIC_NUMBERS)
