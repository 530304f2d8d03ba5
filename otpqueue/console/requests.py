"""The pages about requests: the list, the search, and the history of one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import urlencode
from uuid import UUID

import falcon

from otpqueue.console.alerts import view_alert
from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.console.sealed import NumberSealer, list_countries
from otpqueue.domain import phone
from otpqueue.domain.audit import AuditFilters
from otpqueue.domain.errors import FieldError, InvalidRequest, RequestNotFound
from otpqueue.domain.history import EventKind, History, HistoryEvent
from otpqueue.domain.request import FINAL, SHOWN, Resend, Status
from otpqueue.domain.search import SearchFilters
from otpqueue.operations.access.clients import Clients
from otpqueue.operations.admission.blocklist import Blocklist
from otpqueue.operations.admission.numbers import Numbers
from otpqueue.operations.alerts.admin import AlertAdmin
from otpqueue.operations.auditing import AuditTrail
from otpqueue.operations.history import ReadHistory
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.webhooks.admin import Webhooks

HERE = "/console/requests"

_A_PAGE = 50
_MAX_WEBHOOKS = 20
_ENTRIES = 20
LAST: Mapping[str, tuple[str, timedelta]] = MappingProxyType(
    {
        "15m": ("last 15 minutes", timedelta(minutes=15)),
        "1h": ("last hour", timedelta(hours=1)),
        "24h": ("last 24 hours", timedelta(hours=24)),
        "7d": ("last 7 days", timedelta(days=7)),
    }
)
_FILTERS = ("status", "client", "last", "after", "before")

_GOOD = {"accepted", "correct", "delivered", Status.SENT, Status.DELIVERED, Status.VERIFIED, Resend.SENT}
_WARN = {"unknown", "undelivered", "wrong", "returned", Status.EXPIRED, Status.UNDELIVERED, Resend.FAILED}
_BAD = {"refused", Status.FAILED, Status.LOCKED}


@dataclass(frozen=True, kw_only=True)
class RequestListPage(ConsolePage):
    """`/console/requests`: the requests of all clients, newest first."""

    search: SearchRequests
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the requests that match the filters in the query."""
        self.layout.respond(req, resp, self._list)

    def _list(self, page: PageContext) -> None:
        given = {name: value for name in _FILTERS if (value := page.query(name))}
        filters, cursor = _filters(given, page.now), page.query("cursor")
        results = self.search(filters, reader=page.operator.key.client_id, cursor=cursor, limit=_A_PAGE)
        more = None
        if results.next_cursor:
            # A filter relative to now would differ on the next page, and its cursor would not fit.
            kept: dict[str, str | None] = {
                "status": filters.status,
                "client": filters.client,
                "after": _text(filters.created_after),
                "before": _text(filters.created_before),
                "cursor": results.next_cursor,
            }
            more = f"{HERE}?{urlencode({name: value for name, value in kept.items() if value})}"
        page.show(
            "requests.html",
            found=results.found,
            more=more,
            first_page=cursor is None,
            given=given,
            after=_field(filters.created_after) if "after" in given else "",
            before=_field(filters.created_before),
            statuses=sorted(SHOWN),
            lasts=LAST,
            countries=list_countries(),
            clients=[client.name for client in self.clients.list()],
        )


@dataclass(frozen=True, kw_only=True)
class RequestSearchPage(ConsolePage):
    """`/console/requests/find`: search by id or phone number; the number is never in a URL."""

    search: SearchRequests
    numbers: Numbers
    blocklist: Blocklist
    trail: AuditTrail
    sealer: NumberSealer

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Redirect to the list: the URL does not hold the search term."""
        resp.status, resp.location = 303, HERE

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Redirect to the request with this id, or show the requests for this number."""
        self.layout.respond(req, resp, self._find, back=HERE, for_readers=True)

    def _find(self, page: PageContext) -> None:
        wanted = page.form.get("wanted", "").strip()
        request_id = _id(wanted)
        if request_id is not None:
            page.go(f"{HERE}/{request_id}")
            return
        sealed, country = page.form.get("sealed"), page.form.get("country") or None
        try:
            forms = (
                phone.list_stored_forms(self.sealer.open(sealed, page))
                if sealed
                else phone.list_stored_forms(wanted, country=country)
            )
        except InvalidRequest:
            page.show("search.html", number=None, country=country, countries=list_countries())
            return
        number = forms[-1]
        results = self.search(
            SearchFilters(phone_number=number),
            reader=page.operator.key.client_id,
            cursor=page.form.get("cursor") or None,
            limit=_A_PAGE,
        )
        page.show(
            "search.html",
            number=phone.mask_number(number),
            found=results.found,
            next_cursor=results.next_cursor,
            sealed=self.sealer.seal(number, page),
            country=country,
            countries=list_countries(),
            blocked=self.blocklist.find(number, now=page.now),
            entries=self.trail.list(AuditFilters(phone_number=number), cursor=None, limit=_ENTRIES).entries,
            locks=self.numbers.status(number, now=page.now, searched=False),
        )


@dataclass(frozen=True, kw_only=True)
class RequestPage(ConsolePage):
    """`/console/requests/{id}`: one request with its history."""

    history: ReadHistory
    desk: AlertAdmin
    webhooks: Webhooks

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Show the request."""

        def show(page: PageContext) -> None:
            found = _id(request_id)
            if found is None:
                raise RequestNotFound
            history = self.history(found)
            page.show(
                "request.html",
                request=history,
                events=[(event, rate_event(event)) for event in history.events],
                explanation=explain_status(history, page.now),
                live=history.status not in FINAL,
                webhooks=self.webhooks.deliveries(
                    history.client, failed=False, request_id=found, limit=_MAX_WEBHOOKS
                ),
                alerts=[view_alert(one, self.desk.rules) for one in self.desk.naming(found)],
            )

        self.layout.respond(req, resp, show)


def rate_event(event: HistoryEvent) -> str:
    """Return `good`, `warn`, `bad` or `plain`: the style sheet class of an event."""
    outcomes = {event.details.get(name) for name in ("outcome", "verdict", "delivery", "became")}
    if event.kind in {EventKind.ACCEPTED, EventKind.ATTEMPT_CLAIMED, EventKind.CHECK_STARTED}:
        return "plain"
    for name, listed in (("bad", _BAD), ("warn", _WARN), ("good", _GOOD)):
        if outcomes & listed:
            return name
    return "plain"


def explain_status(history: History, now: datetime) -> str:
    """Return one sentence on the status of a request and whether its code can still be checked."""
    sentence = _EXPLANATIONS.get(history.shown_status, "")
    if history.status is Status.EXPIRED and history.sent_at is None:
        sentence = "No code was sent before the deadline."
    checkable = history.status in {Status.SENT, Status.DELIVERED, Status.UNDELIVERED}
    if checkable and history.expires_at and history.expires_at > now:
        left = history.checks_allowed - history.checks_used
        sentence += f" It can be checked until {history.expires_at:%H:%M:%S} UTC; {left} checks are left."
    return sentence


_EXPLANATIONS = {
    "queued": "Waiting for a worker; no code has been sent yet.",
    "sending": "A worker is sending the code.",
    "sent": "Infobip accepted the code; there is no delivery report yet.",
    "delivered": "Infobip reports that the code was delivered to the handset.",
    "undelivered": "Infobip reports a failed delivery. Reports can be wrong; the code still works.",
    "verified": "The correct code was entered.",
    "failed": "The code could not be sent and will not be retried.",
    "expired": "The correct code was not entered in time.",
    "locked": "Too many wrong codes. A new request is needed.",
    "cancelled": "Cancelled by the client, or replaced by a newer request.",
}


def _filters(given: Mapping[str, str], now: datetime) -> SearchFilters:
    """Return the filters of a query. Raises InvalidRequest."""
    status = given.get("status")
    if status is not None and status not in SHOWN:
        raise InvalidRequest([FieldError("status", f"must be one of {', '.join(sorted(SHOWN))}")])
    after = parse_moment("after", given.get("after"))
    if after is None and "last" in given:
        if given["last"] not in LAST:
            raise InvalidRequest([FieldError("last", f"must be one of {', '.join(LAST)}")])
        after = now - LAST[given["last"]][1]
    return SearchFilters(
        status=status,
        client=given.get("client"),
        created_after=after,
        created_before=parse_moment("before", given.get("before")),
    )


def parse_moment(field: str, text: str | None) -> datetime | None:
    """Return the time in a form field or link; UTC if it has no offset. Raises InvalidRequest."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest([FieldError(field, "must be like 2026-03-01T12:00")]) from None
    if not 1970 <= moment.year <= 9998:
        raise InvalidRequest([FieldError(field, "must be between 1970 and 9998")])
    return moment


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _field(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}" if moment else ""


def _id(text: str) -> UUID | None:
    """Return the request id in a text, None if it is not one in canonical form."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
