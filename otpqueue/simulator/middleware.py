"""Middleware that applies faults, authorization and throttles, and counts requests."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final

import falcon
import falcon.asgi

from otpqueue.simulator import magic
from otpqueue.simulator.auth import authorize
from otpqueue.simulator.distortion import distort_response
from otpqueue.simulator.errors import ApiError, ErrorResponder, is_api_path
from otpqueue.simulator.faults import Fault
from otpqueue.simulator.shapes import is_reshaped, reshape
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.throttles import count_request
from otpqueue.simulator.wire import parse_json, parse_recipient, read_body

# The ASGI extension by which the server lets an application cut the connection: {"cut": callable}.
CUT_EXTENSION: Final = "simulator.cut"

_SENDS = frozenset({"/2fa/2/pin", "/2fa/2/pin/voice", "/2fa/2/pin/email"})
_OF_PIN = re.compile(r"/2fa/2/pin/([^/]+)/(verify|resend)(?:/[a-z]+)?")
_MAGIC_BYTES = magic.PREFIX.encode()


class RequestMiddleware:
    """Falcon middleware. A fault applies before authorization is checked, as a network failure would."""

    def __init__(self, state: SimulatorState, refusals: ErrorResponder) -> None:
        self._state = state
        self._refusals = refusals
        self._reshaped = is_reshaped(state.options)

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Admit a request of the API, or complete the response without calling its resource."""
        if is_api_path(req.path):
            await self.admit(req, resp)

    async def admit(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Apply the fault that matches a request, and check its authorization.

        Raises `ApiError`: 401 and 403 without authorization, 429 over a published throttle.
        """
        fault = await self._take_configured_fault(req) if self._state.faults.in_force else None
        req.context.fault = fault
        if fault is None or not fault.has_no_effect:
            self._authorize(req)
            if fault is None and self._state.options.magic_numbers:
                fault = await self._find_magic_fault(req)
                req.context.fault = fault
        if fault is None or not fault.has_no_effect:
            return
        if fault.body.status is not None:
            self._write_fault_response(req, resp, fault, fault.body.status)
        resp.complete = True

    async def handle_unknown_path(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **_params: str
    ) -> None:
        """Handle a path that the API does not have; a Falcon sink."""
        if resp is None:
            # A WebSocket has no response; the server does not support it.
            return
        await self.admit(req, resp)
        if not resp.complete:
            raise ApiError(404)

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Count the request, then distort, delay or cut its response if a fault applies."""
        if not is_api_path(req.path):
            if req.method == "GET" and req.path.startswith("/_simulator/"):
                resp.set_header("Access-Control-Allow-Origin", "*")
            return
        fault: Fault | None = getattr(req.context, "fault", None)
        dropped = fault is not None and fault.body.drop is not None
        operation = f"{req.method} {req.uri_template}" if req.uri_template else "unknown"
        with self._state.lock:
            self._state.requests[operation, "dropped" if dropped else str(resp.status_code)] += 1
            self._state.changes += req.method != "GET"
        if self._reshaped and resp.media is not None and req.path.startswith("/2fa/"):
            resp.media = reshape(resp.media, self._state.options)
        if fault is not None:
            await _apply_fault(req, resp, fault)

    def _authorize(self, req: falcon.asgi.Request) -> None:
        state = self._state
        if req.path.startswith("/auth/"):
            return
        authorize(req.get_header("Authorization"), req.path, state.options, state.tokens, state.clock.now())
        if state.options.config_throttles and req.uri_template:
            count_request(state, req.method, req.uri_template)

    async def _take_configured_fault(self, req: falcon.asgi.Request) -> Fault | None:
        faults = self._state.faults
        to = await self._find_recipient(req) if faults.any_needs_number(req.method, req.path) else None
        with self._state.lock:
            return faults.take(req.method, req.path, to)

    async def _find_magic_fault(self, req: falcon.asgi.Request) -> Fault | None:
        if req.path in _SENDS:
            # This avoids parsing the bodies of nearly all sends twice.
            if _MAGIC_BYTES not in await read_body(req):
                return None
            operation = "send"
        else:
            of_pin = _OF_PIN.fullmatch(req.path)
            if of_pin is None:
                return None
            operation = of_pin[2]
        to = await self._find_recipient(req)
        found = magic.find_magic_number(to) if to is not None else None
        if found is None or found.fault is None or operation not in found.on:
            return None
        return Fault(found.number, found.fault)

    async def _find_recipient(self, req: falcon.asgi.Request) -> str | None:
        """Return the recipient of a request, a number in digits or an e-mail address, or None."""
        of_pin = _OF_PIN.fullmatch(req.path)
        if of_pin is not None:
            pin = self._state.pins.get(of_pin[1])
            return pin.to if pin is not None else None
        to: object = req.get_param("msisdn")
        if to is None and req.method == "POST":
            try:
                data = parse_json(await read_body(req))
            except (ApiError, ValueError):
                return None
            to = data.get("to") if isinstance(data, dict) else None
        return parse_recipient(to) if isinstance(to, str) else None

    def _write_fault_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, fault: Fault, status: int
    ) -> None:
        if "body" not in fault.body.model_fields_set and status >= 400:
            self._refusals.of_status(req.path, resp, status, fault.body.envelope)
        else:
            body = fault.body.body if "body" in fault.body.model_fields_set else ""
            resp.status = status
            if isinstance(body, str):
                resp.text = body
                resp.content_type = "text/plain; charset=utf-8"
            else:
                resp.text = json.dumps(body)
                resp.content_type = falcon.MEDIA_JSON
        for name, value in (fault.body.headers or {}).items():
            # Falcon requires append_header for cookies; other headers replace the present value.
            (resp.append_header if name.lower() == "set-cookie" else resp.set_header)(name, value)


async def _apply_fault(req: falcon.asgi.Request, resp: falcon.asgi.Response, fault: Fault) -> None:
    dropped = fault.body.drop is not None
    if fault.body.latency_ms:
        try:
            await asyncio.sleep(fault.body.latency_ms / 1000)
        except asyncio.CancelledError:
            # The server is stopping and must not wait for the rest of the delay.
            dropped = True
    if dropped:
        _get_cut(req)()
        # The server detects the loss in the next loop iteration and then drops the response.
        await asyncio.sleep(0)
    elif fault.body.form is not None:
        await distort_response(resp, fault.body, _get_cut(req))


def _get_cut(req: falcon.asgi.Request) -> Callable[[], None]:
    """Return the function that cuts the connection. Data sent afterwards is discarded.

    Raises RuntimeError under a server that is not the simulator's own.
    """
    extension = (req.scope.get("extensions") or {}).get(CUT_EXTENSION)
    if extension is None:
        raise RuntimeError("this server cannot cut connections; use otpqueue.simulator.server")
    cut: Callable[[], None] = extension["cut"]
    return cut
