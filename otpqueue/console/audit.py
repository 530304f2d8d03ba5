"""The pages of the audit trail: what operators did, with origin and reason; and proof of erasures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

import falcon

from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.console.requests import LAST, parse_moment
from otpqueue.domain.audit import AuditFilters, AuditSurface, OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.operations.access.clients import Clients
from otpqueue.operations.auditing import AuditTrail

HERE = "/console/audit"

_A_PAGE = 50
_FILTERS = ("action", "surface", "actor", "client", "last", "after", "before")


@dataclass(frozen=True, kw_only=True)
class AuditTrailPage(ConsolePage):
    """`/console/audit`: the audit trail, newest first."""

    trail: AuditTrail
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the entries that match the filters in the query."""
        self.layout.respond(req, resp, self._list)

    def _list(self, page: PageContext) -> None:
        given = {name: value for name in _FILTERS if (value := page.query(name))}
        filters, cursor = _parse_filters(given, page.now), page.query("cursor")
        found = self.trail.list(filters, cursor=cursor, limit=_A_PAGE)
        more = None
        if found.next_cursor:
            # A filter relative to now would differ on the next page, and its cursor would not fit.
            kept = {name: given.get(name) for name in ("action", "surface", "actor", "client")}
            kept |= {
                "after": filters.since.isoformat() if filters.since else None,
                "before": filters.until.isoformat() if filters.until else None,
                "cursor": found.next_cursor,
            }
            more = f"{HERE}?{urlencode({name: value for name, value in kept.items() if value})}"
        page.show(
            "audit.html",
            entries=found.entries,
            more=more,
            first_page=cursor is None,
            given=given,
            actions=[one.value for one in OperatorAction],
            surfaces=[one.value for one in AuditSurface],
            lasts=LAST,
            clients=[client.name for client in self.clients.list()],
        )


@dataclass(frozen=True, kw_only=True)
class ErasuresPage(ConsolePage):
    """`/console/erasures`: proof of erasures."""

    trail: AuditTrail

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the newest erasures."""

        def show(page: PageContext) -> None:
            page.show("erasures.html", erasures=self.trail.erasures(limit=500))

        self.layout.respond(req, resp, show)


def _parse_filters(given: Mapping[str, str], now: datetime) -> AuditFilters:
    """Return the filters of a query. Raises InvalidRequest."""
    since = parse_moment("after", given.get("after"))
    if since is None and "last" in given:
        if given["last"] not in LAST:
            raise InvalidRequest([FieldError("last", f"must be one of {', '.join(LAST)}")])
        since = now - LAST[given["last"]][1]
    try:
        action = OperatorAction(given["action"]) if "action" in given else None
        surface = AuditSurface(given["surface"]) if "surface" in given else None
    except ValueError:
        raise InvalidRequest([FieldError("action", "or surface is not one of the list")]) from None
    return AuditFilters(
        since=since,
        until=parse_moment("before", given.get("before")),
        action=action,
        surface=surface,
        actor=given.get("actor"),
        client=given.get("client"),
    )
