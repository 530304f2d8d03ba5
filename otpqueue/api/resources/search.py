"""The search of requests, for operators: by what a query may hold, and by number, which stands in a body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import falcon

from otpqueue.api import bodies
from otpqueue.api.auth import Door
from otpqueue.api.representations import representation
from otpqueue.domain.search import SearchFilters, SearchPage
from otpqueue.operations.search import SearchRequests


def found_by_query(req: falcon.Request, *, door: Door, search: SearchRequests) -> str:
    """Return the requests that a query asks for, of every client, in JSON."""
    reader = door.enter(req, "admin")
    query = bodies.read_query(req, bodies.SearchQuery)
    filters = SearchFilters(
        status=query.status,
        created_after=query.created_after,
        created_before=query.created_before,
        client=query.client,
    )
    return _in_json(search(filters, reader=reader, cursor=query.cursor, limit=query.limit))


@dataclass(frozen=True, kw_only=True)
class SearchByNumber:
    """`/v1/otp-requests/search`."""

    door: Door
    search: SearchRequests

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the requests for a number, of every client."""
        reader = self.door.enter(req, "admin")
        body = bodies.read(req, bodies.SearchWanted)
        filters = SearchFilters(
            phone_number=body.phone_number,
            status=body.status,
            created_after=body.created_after,
            created_before=body.created_before,
            client=body.client,
        )
        resp.text = _in_json(self.search(filters, reader=reader, cursor=body.cursor, limit=body.limit))


def _in_json(page: SearchPage) -> str:
    shown: list[dict[str, Any]] = [
        {**representation(one.request), "client": one.client} for one in page.found
    ]
    return json.dumps({"requests": shown, "next_cursor": page.next_cursor})
