"""How many calls may be in flight in this process: past that, the answer comes at once and says so."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.api import problems
from otpqueue.api.room import Room
from otpqueue.domain.errors import TooBusy


class Gate:
    """Middleware. A call that finds no place is refused, but for those to resources that are always open.

    The server needs some threads more than there are places: for the refusals, and for what is always open.
    """

    def __init__(self, *, places: int, open_to: tuple[type, ...]) -> None:
        self._room, self._open_to = Room(places), open_to

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Take a place, or refuse the call."""
        if isinstance(resource, self._open_to):
            return
        try:
            self._room.take()
        except TooBusy as error:
            problems.refuse(resource, resp, error)
            return
        req.context.has_place = True

    def process_response(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Give the place back, whatever became of the call."""
        if getattr(req.context, "has_place", False):
            self._room.give_back()
