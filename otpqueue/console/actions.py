"""The pages of the actions: each says what will happen and asks for a reason.

The page is a form with a required reason. It is sent again to act, and the answer redirects, so reloading
repeats nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import falcon

from otpqueue.console.action_catalog import ACTIONS, DURATIONS, HERE, ActionForm, ConsoleAction
from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.console.sealed import NumberSealer, list_countries
from otpqueue.domain import phone
from otpqueue.domain.errors import FieldError, InvalidRequest, MissingScope, RequestNotFound
from otpqueue.wiring import Parts

_CARRIED = ("country", "client", "request", "subject")
"""Fields that a link to an action may set."""


@dataclass(frozen=True, kw_only=True)
class ActionListPage(ConsolePage):
    """`/console/actions`: stops, exceptions of the guard and webhooks, with what can be done about them."""

    parts: Parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the page."""

        def show(page: PageContext) -> None:
            page.show(
                "actions.html",
                sending=self.parts.switch.status(now=page.now),
                exceptions=self.parts.guard_admin.exceptions(now=page.now),
                blocked=self.parts.blocklist.list(now=page.now),
                webhooks=self.parts.webhooks.every(now=page.now),
                countries=list_countries(),
            )

        self.layout.respond(req, resp, show)


@dataclass(frozen=True, kw_only=True)
class ActionPage(ConsolePage):
    """`/console/actions/{name}`: one action, with its confirmation."""

    parts: Parts
    sealer: NumberSealer

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Ask for the reason."""

        def show(page: PageContext) -> None:
            if not page.operator.may_act:
                raise MissingScope("This action needs an API key with the scope admin.")
            given = {field: value for field in _CARRIED if (value := page.query(field))}
            self._ask(page, _find(name), name, given)

        self.layout.respond(req, resp, show)

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Act and redirect, or ask for the reason first, or for what is wrong with the form."""

        def act(page: PageContext) -> None:
            action, given = _find(name), dict(page.form)
            sealed = given.get("sealed")
            number = self.sealer.open(sealed, page) if sealed else None
            if "confirmed" not in given:
                self._ask(page, action, name, given, number=number)
                return
            form = ActionForm(page=page, fields=given, reason=given.get("reason", "").strip(), number=number)
            try:
                if not form.reason:
                    raise InvalidRequest([FieldError("reason", "is required")])
                place = action.run(self.parts, form)
            except InvalidRequest as refusal:
                self._ask(page, action, name, given, number=number, refusal=refusal)
                return
            page.go(place)

        self.layout.respond(req, resp, act, back=HERE)

    def _ask(
        self,
        page: PageContext,
        action: ConsoleAction,
        name: str,
        given: Mapping[str, str],
        *,
        number: str | None = None,
        refusal: InvalidRequest | None = None,
    ) -> None:
        if action.of_number and number is None:
            raise InvalidRequest([FieldError("number", "is missing. Search for the number first")])
        page.show(
            "action.html",
            action=action,
            name=name,
            given=given,
            number=phone.mask_number(number) if number else None,
            sealed=self.sealer.seal(number, page) if number else None,
            carried=[field for field in _CARRIED if given.get(field) and field not in action.fields],
            errors=refusal.errors if refusal else (),
            countries=list_countries(),
            clients=[one.name for one in self.parts.clients.list()] if "client" in action.fields else [],
            durations=DURATIONS,
        )
        if refusal:
            page.resp.status = 400


def _find(name: str) -> ConsoleAction:
    action = ACTIONS.get(name)
    if action is None:
        raise RequestNotFound
    return action
