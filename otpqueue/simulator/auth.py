"""Who may call the imitated API."""

import base64
import binascii
import hmac
from collections.abc import Iterable

from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.options import Options


def authorize(header: str | None, options: Options) -> None:
    """Check an Authorization header; raises `ApiError` 401 when it is missing or wrong.

    `App KEY` is the documented form for an API key (Infobip OpenAPI 3.210.0). A key behind `Bearer`,
    which is for OAuth access tokens, is refused like any other stranger.
    """
    scheme, _, credentials = (header or "").partition(" ")
    if scheme == "App" and _known(credentials, options.api_keys):
        return
    if scheme == "Basic" and _known(_basic(credentials), options.basic_users):
        return
    raise ApiError(401, text=options.unauthorized_text)


def _known(candidate: str, known: Iterable[str]) -> bool:
    given = candidate.encode()
    return any(hmac.compare_digest(given, entry.encode()) for entry in known)


def _basic(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
