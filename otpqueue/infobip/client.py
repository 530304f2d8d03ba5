"""The calls of the 2FA API that a code's life needs."""

from __future__ import annotations

from urllib.parse import quote

from otpqueue.domain.checking import Judgement
from otpqueue.domain.sending import Outcome
from otpqueue.infobip import wire
from otpqueue.infobip.transport import Transport


class InfobipClient:
    """Sends and verifies codes; never raises for what the provider or the network can do. Thread-safe."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(self, *, to: str, application_id: str, message_id: str) -> Outcome:
        """Have Infobip make a code and send it to `to` (digits only).

        Without a number look-up (`ncNeeded=false`): it costs extra, takes time, and must be booked.
        """
        body = {"applicationId": application_id, "messageId": message_id, "to": to}
        return wire.send_outcome(self._transport.call("POST", "/2fa/2/pin?ncNeeded=false", body))

    def verify(self, *, pin_id: str, code: str) -> Judgement:
        """Ask Infobip whether `code` is the one it sent as `pin_id`."""
        path = f"/2fa/2/pin/{quote(pin_id, safe='')}/verify"
        return wire.judgement(self._transport.call("POST", path, {"pin": code}))

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()
