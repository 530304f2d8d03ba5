"""The pages about requests: the list of all, the search, one request's whole life."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import urlencode
from uuid import UUID, uuid5

import falcon
from cryptography.exceptions import InvalidTag

from otpqueue.console.alerts import shown
from otpqueue.console.door import FormRefused
from otpqueue.console.house import Page, Visit
from otpqueue.domain import phone
from otpqueue.domain.errors import FieldError, InvalidRequest, RequestNotFound
from otpqueue.domain.history import Event, EventKind, History
from otpqueue.domain.request import FINAL, SHOWN, Resend, Status
from otpqueue.domain.search import Filters
from otpqueue.operations.alert_desk import AlertDesk
from otpqueue.operations.clients import Clients
from otpqueue.operations.history import TellHistory
from otpqueue.operations.numbers import Numbers
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.webhooks import Webhooks
from otpqueue.store.vault import Vault

HERE = "/console/requests"

_A_PAGE = 50
_SEALS = UUID("5d0f7f6e-3f0c-4d52-9a0f-6f8f0a3b7c11")
_MOST_TOLD = 20
_LAST: Mapping[str, tuple[str, timedelta]] = MappingProxyType(
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
class RequestList(Page):
    """`/console/requests`: all requests, newest first."""

    search: SearchRequests
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show those that the filters in the query let through."""
        self.house.receive(req, resp, self._list)

    def _list(self, visit: Visit) -> None:
        given = {name: value for name in _FILTERS if (value := visit.query(name))}
        filters, cursor = _filters(given, visit.now), visit.query("cursor")
        page = self.search(filters, reader=visit.operator.key.client_id, cursor=cursor, limit=_A_PAGE)
        more = None
        if page.next_cursor:
            # What is relative to now would be another filter on the next page, and end the list of this one.
            kept: dict[str, str | None] = {
                "status": filters.status,
                "client": filters.client,
                "after": _text(filters.created_after),
                "before": _text(filters.created_before),
                "cursor": page.next_cursor,
            }
            more = f"{HERE}?{urlencode({name: value for name, value in kept.items() if value})}"
        visit.show(
            "requests.html",
            found=page.found,
            more=more,
            first_page=cursor is None,
            given=given,
            after=_field(filters.created_after) if "after" in given else "",
            before=_field(filters.created_before),
            statuses=sorted(SHOWN),
            lasts=_LAST,
            clients=[client.name for client in self.clients.list()],
        )


@dataclass(frozen=True, kw_only=True)
class FindRequest(Page):
    """`/console/requests/find`: by an id, or by a number, which stands in the body and in no address."""

    search: SearchRequests
    numbers: Numbers
    vault: Vault

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Lead to the list: what was looked for is not in the address."""
        resp.status, resp.location = 303, HERE

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Lead to the request with this id, or show those for this number."""
        self.house.receive(req, resp, self._find, back=HERE)

    def _find(self, visit: Visit) -> None:
        wanted = visit.form.get("wanted", "").strip()
        request_id = _id(wanted)
        if request_id is not None:
            visit.go(f"{HERE}/{request_id}")
            return
        sealed = visit.form.get("sealed")
        try:
            number = phone.stored_forms(self._unsealed(sealed, visit) if sealed else wanted)[-1]
        except InvalidRequest:
            visit.show("found.html", number=None)
            return
        page = self.search(
            Filters(phone_number=number),
            reader=visit.operator.key.client_id,
            cursor=visit.form.get("cursor") or None,
            limit=_A_PAGE,
        )
        visit.show(
            "found.html",
            number=phone.masked(number),
            found=page.found,
            next_cursor=page.next_cursor,
            sealed=self._sealed(number, visit),
            standings=self.numbers.status(number, now=visit.now),
        )

    # The page shows no number whole, so that of the next page is sealed, and opens in this session alone.

    def _sealed(self, number: str, visit: Visit) -> str:
        key_id, sealed = self.vault.seal(number, row_id=_seal_of(visit))
        return f"{key_id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def _unsealed(self, text: str, visit: Visit) -> str:
        key_id, _, encoded = text.partition(":")
        try:
            sealed = base64.urlsafe_b64decode(encoded)
            return self.vault.unseal(sealed, key_id=key_id, row_id=_seal_of(visit))
        except (ValueError, KeyError, InvalidTag):
            raise FormRefused from None


@dataclass(frozen=True, kw_only=True)
class OneRequest(Page):
    """`/console/requests/{id}`: one request's whole life."""

    history: TellHistory
    desk: AlertDesk
    webhooks: Webhooks

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Show it."""

        def show(visit: Visit) -> None:
            found = _id(request_id)
            if found is None:
                raise RequestNotFound
            history = self.history(found)
            visit.show(
                "request.html",
                request=history,
                events=[(event, mood(event)) for event in history.events],
                says=in_words(history, visit.now),
                live=history.status not in FINAL,
                told=self.webhooks.deliveries(
                    history.client, failed=False, request_id=found, limit=_MOST_TOLD
                ),
                alerts=[shown(one, self.desk.rules) for one in self.desk.naming(found)],
            )

        self.house.receive(req, resp, show)


def mood(event: Event) -> str:
    """Return whether an event is good, bad or neither, as a class of the style sheet."""
    words = {event.details.get(name) for name in ("outcome", "verdict", "delivery", "became")}
    if event.kind in {EventKind.ACCEPTED, EventKind.ATTEMPT_CLAIMED, EventKind.CHECK_STARTED}:
        return "plain"
    for name, moods in (("bad", _BAD), ("warn", _WARN), ("good", _GOOD)):
        if words & moods:
            return name
    return "plain"


def in_words(history: History, now: datetime) -> str:
    """Return one sentence that says how a request stands, and what that means for who waits for a code."""
    sentence = _IN_WORDS.get(history.shown_status, "")
    if history.status is Status.EXPIRED and history.sent_at is None:
        sentence = "No code left in time: nothing was sent."
    checkable = history.status in {Status.SENT, Status.DELIVERED, Status.UNDELIVERED}
    if checkable and history.expires_at and history.expires_at > now:
        left = history.checks_allowed - history.checks_used
        sentence += f" It can be typed in until {history.expires_at:%H:%M:%S} UTC; {left} checks are left."
    return sentence


_IN_WORDS = {
    "queued": "Waits for a worker: no code has left yet.",
    "sending": "A worker is sending the code.",
    "sent": "Infobip took the code; no report says yet whether it arrived.",
    "delivered": "The code reached the handset, Infobip reports.",
    "undelivered": "Infobip reports that the code did not arrive. Reports can lie: it may be typed in.",
    "verified": "The right code was typed in. This is over.",
    "failed": "The code could not be sent, and is not tried again.",
    "expired": "Nobody typed the right code in time.",
    "locked": "Too many wrong codes: a new request is needed.",
    "cancelled": "Cancelled, by the client or because a newer request took its place.",
}


def _filters(given: Mapping[str, str], now: datetime) -> Filters:
    """Return what the query asks for. Raises InvalidRequest."""
    status = given.get("status")
    if status is not None and status not in SHOWN:
        raise InvalidRequest([FieldError("status", f"must be one of {', '.join(sorted(SHOWN))}")])
    after = _moment("after", given.get("after"))
    if after is None and "last" in given:
        if given["last"] not in _LAST:
            raise InvalidRequest([FieldError("last", f"must be one of {', '.join(_LAST)}")])
        after = now - _LAST[given["last"]][1]
    return Filters(
        status=status,
        client=given.get("client"),
        created_after=after,
        created_before=_moment("before", given.get("before")),
    )


def _moment(field: str, text: str | None) -> datetime | None:
    """Return a time as a field of a form or we ourselves write it: UTC unless it says otherwise."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest([FieldError(field, "must be like 2026-03-01T12:00")]) from None
    if not 1970 <= moment.year <= 9998:
        raise InvalidRequest([FieldError(field, "must be of our time")])
    return moment


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _field(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}" if moment else ""


def _seal_of(visit: Visit) -> UUID:
    return uuid5(_SEALS, visit.operator.session.nonce)


def _id(text: str) -> UUID | None:
    """Return the id in a text, in its one form; whoever pastes it may paste a blank with it."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
