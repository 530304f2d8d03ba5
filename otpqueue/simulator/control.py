"""The control endpoints under `/_simulator` and the page at `/`. They are not part of the simulated API."""

from pathlib import Path
from typing import Any, TypeVar

import falcon
import falcon.asgi
from pydantic import BaseModel, ConfigDict, ValidationError

from otpqueue.simulator import magic
from otpqueue.simulator.clock import format_iso
from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.faults import FaultBody
from otpqueue.simulator.receipts import ReceiptRuleBody
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.wire import list_problems, parse_recipient, read_json_object

ModelT = TypeVar("ModelT", bound=BaseModel)


class ClockBody(BaseModel):
    """How many seconds to move the clock forward."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    advance_s: float


async def _parsed(model: type[ModelT], req: falcon.asgi.Request) -> ModelT:
    try:
        return model.model_validate(await read_json_object(req))
    except ApiError as error:
        raise falcon.HTTPBadRequest(description=error.text) from error
    except ValidationError as error:
        found = (
            f"{path}: {text}" if path else text
            for path, texts in list_problems(error).items()
            for text in texts
        )
        raise falcon.HTTPBadRequest(description="; ".join(found)) from error


class _ControlResource:
    def __init__(self, state: SimulatorState) -> None:
        self._state = state


class MessagesResource(_ControlResource):
    """`/_simulator/messages`: the inbox."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show messages newest first; `to` chooses a number or an address, `limit` is the maximum number."""
        to = req.get_param("to")
        number = parse_recipient(to.strip()) if to is not None else None
        if to is not None and number is None:
            raise falcon.HTTPBadRequest(description="to: must be a phone number in digits, or an address")
        limit = req.get_param_as_int("limit", min_value=1)
        with self._state.lock:
            resp.media = {"messages": [m.as_json() for m in self._state.inbox.newest(number, limit)]}

    async def on_delete(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Clear the inbox; the PINs stay valid."""
        with self._state.lock:
            self._state.inbox.clear()
            self._state.touch()
        resp.status = falcon.HTTP_204


class FaultsResource(_ControlResource):
    """`/_simulator/faults`: the faults."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show all faults, oldest first, including used-up ones."""
        with self._state.lock:
            resp.media = {"faults": [fault.as_json() for fault in self._state.faults.all()]}

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Add a fault."""
        body = await _parsed(FaultBody, req)
        with self._state.lock:
            resp.media = self._state.faults.add(body).as_json()
        resp.status = falcon.HTTP_201

    async def on_delete(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete all faults."""
        with self._state.lock:
            self._state.faults.clear()
        resp.status = falcon.HTTP_204


class ReceiptsResource(_ControlResource):
    """`/_simulator/receipts`: the rules of delivery reports."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the rules, oldest first, and how many reports and pushes there are."""
        with self._state.lock:
            resp.media = self._state.outbox.as_json()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Add a rule for messages sent from now on."""
        body = await _parsed(ReceiptRuleBody, req)
        with self._state.lock:
            resp.media = self._state.outbox.rules.add(body).as_json()
        resp.status = falcon.HTTP_201

    async def on_delete(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete all rules; scheduled reports remain."""
        with self._state.lock:
            self._state.outbox.rules.clear()
        resp.status = falcon.HTTP_204


class MagicNumbersResource:
    """`/_simulator/magic-numbers`: the magic numbers."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show each magic number with its meaning."""
        resp.media = {"magic_numbers": [entry.as_json() for entry in magic.MAGIC_NUMBERS]}


class ClockResource(_ControlResource):
    """`/_simulator/clock`: the simulated time."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the simulated time."""
        resp.media = {"now": format_iso(self._state.clock.now())}

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Move the clock forward by `advance_s` seconds."""
        body = await _parsed(ClockBody, req)
        with self._state.lock:
            try:
                self._state.clock.advance(body.advance_s)
            except ValueError as error:
                raise falcon.HTTPBadRequest(description=f"advance_s: {error}") from error
            self._state.touch()
            resp.media = {"now": format_iso(self._state.clock.now())}
        self._state.wake()


class ResetResource(_ControlResource):
    """`/_simulator/reset`: reset all state."""

    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete applications, PINs, messages, reports, faults and counts, and go back to wall time."""
        self._state.reset()
        resp.status = falcon.HTTP_204


class StatsResource(_ControlResource):
    """`/_simulator/stats`: counts of requests."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Count requests of the API by operation and status; a cut connection counts as `dropped`."""
        counts: dict[str, dict[str, Any]] = {}
        with self._state.lock:
            for (operation, status), count in sorted(self._state.requests.items()):
                counts.setdefault(operation, {})[status] = count
        resp.media = {"requests": counts}


class PageResource:
    """`/`: the inbox as a page."""

    def __init__(self) -> None:
        self._page = Path(__file__).with_name("page.html").read_bytes()

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the page, which loads no other files."""
        resp.content_type = falcon.MEDIA_HTML
        resp.data = self._page
        resp.set_header(
            "Content-Security-Policy",
            "default-src 'none'; connect-src 'self'; img-src data:; "
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'",
        )
