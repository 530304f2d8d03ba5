"""Status and error codes of delivery reports, as far as the simulator uses them.

Source: Infobip's page "Response status and error codes". Ids are unique only within their group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

StatusName = Literal[
    "PENDING_ENROUTE",
    "DELIVERED_TO_OPERATOR",
    "DELIVERED_TO_HANDSET",
    "UNDELIVERABLE_NOT_DELIVERED",
    "EXPIRED_EXPIRED",
    "REJECTED_FLOODING_FILTER",
]


@dataclass(frozen=True, slots=True)
class ReportStatus:
    """The status of a message, with its error."""

    group_id: int
    group_name: str
    id: int
    name: StatusName
    description: str
    error: "Error"

    def as_json(self) -> dict[str, Any]:
        """Return the `status` of a report."""
        return {
            "groupId": self.group_id,
            "groupName": self.group_name,
            "id": self.id,
            "name": self.name,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Error:
    """Why a message was not delivered; `permanent` errors are not worth a retry."""

    group_id: int
    group_name: str
    id: int
    name: str
    description: str
    permanent: bool

    def as_json(self, *, legacy: bool) -> dict[str, Any]:
        """Return the `error` of a report; the legacy shape writes `Ok` for `OK`."""
        return {
            "groupId": self.group_id,
            "groupName": "Ok" if legacy and self.group_id == 0 else self.group_name,
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "permanent": self.permanent,
        }


_NONE = Error(0, "OK", 0, "NO_ERROR", "No Error", permanent=False)
_ABSENT = Error(1, "HANDSET_ERRORS", 27, "EC_ABSENT_SUBSCRIBER", "Absent Subscriber", permanent=False)
_EXPIRED = Error(3, "OPERATOR_ERRORS", 4098, "EC_VP_EXPIRED", "Validity Period Expired", permanent=False)
_FLOODING = Error(2, "USER_ERRORS", 4103, "EC_DESTINATION_FLOODING", "Destination Flooding", permanent=True)

STATUSES: Mapping[StatusName, ReportStatus] = {
    status.name: status
    for status in (
        ReportStatus(1, "PENDING", 7, "PENDING_ENROUTE", "Message sent to next instance", _NONE),
        ReportStatus(3, "DELIVERED", 2, "DELIVERED_TO_OPERATOR", "Message delivered to operator", _NONE),
        ReportStatus(3, "DELIVERED", 5, "DELIVERED_TO_HANDSET", "Message delivered to handset", _NONE),
        ReportStatus(
            2, "UNDELIVERABLE", 9, "UNDELIVERABLE_NOT_DELIVERED", "Message sent not delivered", _ABSENT
        ),
        ReportStatus(4, "EXPIRED", 15, "EXPIRED_EXPIRED", "Message expired", _EXPIRED),
        ReportStatus(5, "REJECTED", 20, "REJECTED_FLOODING_FILTER", "Rejected by flooding filter", _FLOODING),
    )
}
