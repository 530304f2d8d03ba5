"""`/v1/phone-numbers/erase`: for operators, since it concerns every client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import falcon

from otpqueue import clock
from otpqueue.api import bodies
from otpqueue.api.auth import Door
from otpqueue.operations.privacy.erase import EraseNumber
from otpqueue.store.privacy.erasing import COUNTED


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """`/v1/phone-numbers/erase`."""

    door: Door
    erase: EraseNumber

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Erase all that concerns a number; answer how much that was."""
        client_id = self.door.enter(req, "admin")
        body = bodies.read(req, bodies.NumberToErase)
        counts = self.erase(body.phone_number, country=body.country, client_id=client_id, now=clock.now())
        resp.text = json.dumps(dict(counts))


def schema() -> dict[str, Any]:
    """Return the JSON schema of the answer."""
    rows = {"type": "integer", "minimum": 0}
    return {"type": "object", "properties": dict.fromkeys(COUNTED, rows), "required": list(COUNTED)}
