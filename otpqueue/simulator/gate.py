"""What every request passes on its way in and out: faults, authorization, counting."""

import asyncio
import json
import re
from typing import Any, Final

import falcon
import falcon.asgi

from otpqueue.simulator.auth import authorize
from otpqueue.simulator.errors import ApiError, documented, envelope, is_api_path
from otpqueue.simulator.faults import Fault
from otpqueue.simulator.state import State
from otpqueue.simulator.wire import digits, loads, raw_body

# The ASGI extension by which the server lets an application cut the connection: {"cut": callable}.
CUT_EXTENSION: Final = "simulator.cut"

_OF_PIN = re.compile(r"/2fa/2/pin/([^/]+)/(?:verify|resend(?:/[a-z]+)?)")


class Gate:
    """Falcon middleware; a fault strikes before authorization is looked at, as a broken network would."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Let a routed request of the API pass, or complete the response in its place."""
        if is_api_path(req.path):
            await self.admit(req, resp)

    async def admit(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Apply the fault meant for a request, or check who asks; raises `ApiError` 401."""
        fault = await self._fault_for(req)
        req.context.fault = fault
        if fault is None or not fault.has_no_effect:
            authorize(req.get_header("Authorization"), self._state.options)
            return
        if fault.body.status is not None:
            _answer(resp, fault, fault.body.status)
        resp.complete = True

    async def unknown(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **_params: str
    ) -> None:
        """Answer a path that the API does not have; a Falcon sink."""
        if resp is None:
            # Falcon gives no response for a WebSocket, which the server does not speak anyway.
            return
        await self.admit(req, resp)
        if not resp.complete:
            raise ApiError(404)

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Count the request, then hold back its answer or cut it off if a fault says so."""
        if not is_api_path(req.path):
            if req.method == "GET" and req.path.startswith("/_simulator/"):
                resp.set_header("Access-Control-Allow-Origin", "*")
            return
        fault: Fault | None = getattr(req.context, "fault", None)
        dropped = fault is not None and fault.body.drop is not None
        operation = f"{req.method} {req.uri_template}" if req.uri_template else "unknown"
        with self._state.lock:
            self._state.requests[operation, "dropped" if dropped else str(resp.status_code)] += 1
        if fault is not None and fault.body.latency_ms:
            try:
                await asyncio.sleep(fault.body.latency_ms / 1000)
            except asyncio.CancelledError:
                # The server is stopping: nobody will wait for the rest of the delay.
                dropped = True
        if dropped:
            await _cut(req)

    async def _fault_for(self, req: falcon.asgi.Request) -> Fault | None:
        faults = self._state.faults
        number = await self._number(req) if faults.any_needs_number(req.path) else None
        with self._state.lock:
            return faults.take(req.path, number)

    async def _number(self, req: falcon.asgi.Request) -> str | None:
        """Return the digits of the number a request concerns, None where there is none."""
        of_pin = _OF_PIN.fullmatch(req.path)
        if of_pin is not None:
            pin = self._state.pins.get(of_pin[1])
            return pin.to if pin is not None else None
        number: object = req.get_param("msisdn")
        if number is None and req.method == "POST":
            try:
                data = loads(await raw_body(req))
            except (ApiError, ValueError):
                return None
            number = data.get("to") if isinstance(data, dict) else None
        return digits(number) if isinstance(number, str) else None


def _answer(resp: falcon.asgi.Response, fault: Fault, status: int) -> None:
    resp.status = status
    body = fault.body.body
    if "body" not in fault.body.model_fields_set:
        body = envelope(*documented(status)) if status >= 400 else ""
    if isinstance(body, str):
        resp.text = body
        resp.content_type = "text/plain; charset=utf-8"
    else:
        resp.text = json.dumps(body)
        resp.content_type = falcon.MEDIA_JSON
    for name, value in (fault.body.headers or {}).items():
        # Falcon wants cookies appended, and would add to a content type where this is to replace it.
        (resp.append_header if name.lower() == "set-cookie" else resp.set_header)(name, value)


async def _cut(req: falcon.asgi.Request) -> None:
    """Cut the connection; what is sent afterwards goes nowhere.

    Raises RuntimeError under a server that is not the simulator's own.
    """
    extension = (req.scope.get("extensions") or {}).get(CUT_EXTENSION)
    if extension is None:
        raise RuntimeError("this server cannot cut connections; use otpqueue.simulator.server")
    extension["cut"]()
    # The server learns of the loss in the next turn of the loop, and drops the answer from then on.
    await asyncio.sleep(0)
