"""The parameters in the paths of calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from otpqueue.domain import errors
from otpqueue.domain.errors import OtpqueueError
from otpqueue.telemetry import logs


@dataclass(frozen=True, kw_only=True)
class PathParameter:
    """A parameter in a path."""

    description: str
    not_found: type[OtpqueueError]
    parse: Callable[[str], UUID]
    """Raises `not_found` for a text that is not an id."""


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _parse_request_id(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise errors.RequestNotFound(
            "The id in the path is not a UUID. Use the `id` of the 202 response to `POST /v1/otp-requests`."
        )
    request_id = UUID(text)
    logs.bind_fields(otp_id=str(request_id))
    return request_id


def _parse_alert_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise errors.AlertNotFound("The id in the path is not a UUID. Use the `id` of an alert.") from None


PATH_PARAMETERS = {
    "request_id": PathParameter(
        description="the `id` of the request, from the 202 response",
        not_found=errors.RequestNotFound,
        parse=_parse_request_id,
    ),
    "alert_id": PathParameter(
        description="the `id` of an alert", not_found=errors.AlertNotFound, parse=_parse_alert_id
    ),
}
