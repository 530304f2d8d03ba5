"""The simulator's own paths, under `/_simulator` and `/`: none of them belongs to the imitated API."""

from pathlib import Path
from typing import Any, TypeVar

import falcon
import falcon.asgi
from pydantic import BaseModel, ConfigDict, ValidationError

from otpqueue.simulator import magic
from otpqueue.simulator.clock import iso
from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.faults import FaultBody
from otpqueue.simulator.receipts import RuleBody
from otpqueue.simulator.state import State
from otpqueue.simulator.wire import json_object, problems, recipient

ModelT = TypeVar("ModelT", bound=BaseModel)


class ClockBody(BaseModel):
    """How many seconds to move the clock forward."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    advance_s: float


async def _parsed(model: type[ModelT], req: falcon.asgi.Request) -> ModelT:
    try:
        return model.model_validate(await json_object(req))
    except ApiError as error:
        raise falcon.HTTPBadRequest(description=error.text) from error
    except ValidationError as error:
        found = (
            f"{path}: {text}" if path else text for path, texts in problems(error).items() for text in texts
        )
        raise falcon.HTTPBadRequest(description="; ".join(found)) from error


class _Resource:
    def __init__(self, state: State) -> None:
        self._state = state


class MessagesResource(_Resource):
    """`/_simulator/messages`: the inbox."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show messages newest first; `to` chooses a number or an address, `limit` bounds how many."""
        to = req.get_param("to")
        number = recipient(to.strip()) if to is not None else None
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


class FaultsResource(_Resource):
    """`/_simulator/faults`: what is to go wrong."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show all faults, oldest first, the spent ones too."""
        with self._state.lock:
            resp.media = {"faults": [fault.as_json() for fault in self._state.faults.all()]}

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Put a fault in force."""
        body = await _parsed(FaultBody, req)
        with self._state.lock:
            resp.media = self._state.faults.add(body).as_json()
        resp.status = falcon.HTTP_201

    async def on_delete(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete all faults."""
        with self._state.lock:
            self._state.faults.clear()
        resp.status = falcon.HTTP_204


class ReceiptsResource(_Resource):
    """`/_simulator/receipts`: which delivery reports messages get."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the rules, oldest first, and how many reports and pushes there are."""
        with self._state.lock:
            resp.media = self._state.outbox.as_json()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Put a rule in force for messages sent from now on."""
        body = await _parsed(RuleBody, req)
        with self._state.lock:
            resp.media = self._state.outbox.rules.add(body).as_json()
        resp.status = falcon.HTTP_201

    async def on_delete(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Delete all rules; reports that are on their way stay so."""
        with self._state.lock:
            self._state.outbox.rules.clear()
        resp.status = falcon.HTTP_204


class MagicNumbersResource:
    """`/_simulator/magic-numbers`: the numbers that make things go wrong."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show each magic number with its meaning."""
        resp.media = {"magic_numbers": [entry.as_json() for entry in magic.MAGIC_NUMBERS]}


class ClockResource(_Resource):
    """`/_simulator/clock`: the simulator's time."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the simulated time."""
        resp.media = {"now": iso(self._state.clock.now())}

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Move the clock forward by `advance_s` seconds."""
        body = await _parsed(ClockBody, req)
        with self._state.lock:
            try:
                self._state.clock.advance(body.advance_s)
            except ValueError as error:
                raise falcon.HTTPBadRequest(description=f"advance_s: {error}") from error
            self._state.touch()
            resp.media = {"now": iso(self._state.clock.now())}
        self._state.wake()


class ResetResource(_Resource):
    """`/_simulator/reset`: a fresh start."""

    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Forget applications, PINs, messages, reports, faults and counts, and go back to wall time."""
        self._state.reset()
        resp.status = falcon.HTTP_204


class StatsResource(_Resource):
    """`/_simulator/stats`: what was asked so far."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Count requests of the API by operation and status; a cut connection counts as `dropped`."""
        counts: dict[str, dict[str, Any]] = {}
        with self._state.lock:
            for (operation, status), count in sorted(self._state.requests.items()):
                counts.setdefault(operation, {})[status] = count
        resp.media = {"requests": counts}


class PageResource:
    """`/`: the inbox for people."""

    def __init__(self) -> None:
        self._page = Path(__file__).with_name("page.html").read_bytes()

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the page; all it needs is in it."""
        resp.content_type = falcon.MEDIA_HTML
        resp.data = self._page
        resp.set_header(
            "Content-Security-Policy",
            "default-src 'none'; connect-src 'self'; img-src data:; "
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'",
        )
