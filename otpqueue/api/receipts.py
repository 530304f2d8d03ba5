"""`/v1/infobip/receipts`: delivery reports that Infobip pushes, in batches, in either of its shapes."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass

import falcon

from otpqueue import clock
from otpqueue.api import bodies
from otpqueue.api.problems import Refused
from otpqueue.domain.errors import Unauthenticated
from otpqueue.infobip import receipts
from otpqueue.operations.receive_receipts import ReceiveReceipts

MAX_BODY_BYTES = 4 * 1024 * 1024
"""2000 reports, the largest batch that Infobip sends, with room."""

_CHALLENGE = 'Basic realm="delivery reports"'


@dataclass(frozen=True, kw_only=True)
class Receipts:
    """`/v1/infobip/receipts`."""

    receive: ReceiveReceipts
    user: str | None
    password: str | None

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take reports in. Answered with 200 whatever they speak of, so that none is pushed for ever."""
        self._enter(req, resp)
        batch = bodies.read_json(req, limit=MAX_BODY_BYTES)
        if not receipts.is_batch(batch):
            raise Refused("malformed_json", 'The body must be {"results": [...]}.')
        reports = receipts.parse(batch)
        new = self.receive(reports, now=clock.now())
        resp.text = json.dumps({"received": len(reports), "new": new})

    def _enter(self, req: falcon.Request, resp: falcon.Response) -> None:
        if self.user is None or self.password is None:
            resp.set_header("WWW-Authenticate", _CHALLENGE)
            raise Unauthenticated("Delivery reports are not taken: OTPQUEUE_RECEIPTS_USER is not set.")
        word, _, encoded = (req.get_header("Authorization") or "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if word.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if not hmac.compare_digest(given, f"{self.user}:{self.password}".encode()):
            resp.set_header("WWW-Authenticate", _CHALLENGE)
            raise Unauthenticated("The user or password for delivery reports is wrong.")
