"""`/v1/infobip/receipts`: delivery reports that Infobip pushes, in batches, in either of its shapes."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass, field
from typing import NoReturn

import falcon

from otpqueue import clock
from otpqueue.api import bodies
from otpqueue.api.http.errors import MalformedJson
from otpqueue.domain.errors import OtpqueueError, Unauthenticated
from otpqueue.infobip import receipts
from otpqueue.operations.receive_receipts import ReceiveReceipts
from otpqueue.settings import Settings

PATH = "/v1/infobip/receipts"

MAX_BODY_BYTES = 4 * 1024 * 1024
"""2000 reports, the largest batch that Infobip sends, with room."""

_CHALLENGE = 'Basic realm="delivery reports"'


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What Infobip authenticates with; None where no reports are taken."""

    user: str | None
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Credentials:
        """Return the credentials that the settings name."""
        password = settings.receipts_password
        return cls(user=settings.receipts_user, password=password.get_secret_value() if password else None)

    def refusal(self, authorization: str | None) -> str | None:
        """Return why a call with this `Authorization` header is not Infobip's, None if it is."""
        if self.user is None or self.password is None:
            return "Delivery reports are not taken: OTPQUEUE_RECEIPTS_USER is not set."
        word, _, encoded = (authorization or "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if word.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if hmac.compare_digest(given, f"{self.user}:{self.password}".encode()):
            return None
        return "The user or password for delivery reports is wrong."


@dataclass(frozen=True, kw_only=True)
class Receipts:
    """`/v1/infobip/receipts`."""

    receive: ReceiveReceipts
    credentials: Credentials

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take reports in. Answered with 200 whatever they speak of, so that none is pushed for ever."""
        refusal = self.credentials.refusal(req.get_header("Authorization"))
        if refusal is not None:
            self.refuse(resp, Unauthenticated(refusal))
        batch = bodies.read_json(req, limit=MAX_BODY_BYTES)
        if not receipts.is_batch(batch):
            raise MalformedJson('The body must be {"results": [...]}.')
        reports = receipts.parse(batch)
        new = self.receive(reports, now=clock.now())
        resp.text = json.dumps({"received": len(reports), "new": new})

    def refuse(self, resp: falcon.Response, error: OtpqueueError) -> NoReturn:
        """Raise a refusal, with the challenge of these credentials where they are missing or wrong."""
        if error.code == Unauthenticated.code:
            resp.set_header("WWW-Authenticate", _CHALLENGE)
        raise error
