"""Logging in and out, and the files that every page needs: open to everybody."""

from __future__ import annotations

from contextlib import nullcontext

import falcon

from otpqueue import clock
from otpqueue.console.door import LOG_IN, FormRefused, inside
from otpqueue.console.house import ASSETS, Page, Visit, asset, read_form, redirect
from otpqueue.domain.errors import LimitExceeded, MissingScope, OtpqueueError, TooBusy, Unauthenticated

_YEAR_S = 31_536_000


class LogInPage(Page):
    """`/console/log-in`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the form. It needs no database."""
        self._show(req, resp, wanted=inside(req.get_param("next")))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin a session and lead to where the visitor wanted to go."""
        now, door = clock.now(), self.house.door
        wanted = inside(None)
        try:
            form = read_form(req)
            wanted = inside(form.get("next"))
            key = form.get("key", "").strip()
            door.check_form(req, door.waiting(req, now=now), form.get("token", ""))
            # Strangers may hold all places: an operator needs none.
            with nullcontext() if door.knows(key) else self.house.log_in_places.place():
                door.open(req, resp, key, now=now)
        except (Unauthenticated, MissingScope):
            said = "This key does not open the console: it is unknown, has ended, or lacks the scope admin."
            self._show(req, resp, wanted=wanted, status=403, said=said)
        except FormRefused:
            said = "This page was open for too long, or its cookie is missing. Try again."
            self._show(req, resp, wanted=wanted, status=403, said=said)
        except LimitExceeded as error:
            resp.set_header("Retry-After", str(error.retry_after_s))
            self._show(req, resp, wanted=wanted, status=429, said=error.detail)
        except TooBusy:
            self._show(
                req, resp, wanted=wanted, status=503, said="The console is busy. Try again in a moment."
            )
        except OtpqueueError as error:
            self.house.explain(resp, error)
        else:
            redirect(resp, wanted)

    def _show(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        wanted: str,
        status: int = 200,
        said: str | None = None,
    ) -> None:
        now = clock.now()
        session = self.house.door.visitor(req, resp, now=now)
        token = self.house.door.token(session)
        self.house.render(
            resp, "log_in.html", status=status, now=now, token=token, wanted=wanted, said=said, here=LOG_IN
        )


class LogOut(Page):
    """`/console/log-out`."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End the session in this browser."""

        def leave(visit: Visit) -> None:
            self.house.door.close(req, resp, visit.operator)
            redirect(resp, LOG_IN)

        self.house.receive(req, resp, leave)


class Assets:
    """`/console/assets/{name}`: what the pages need, from this package. Their addresses change with them."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer a file."""
        if name not in ASSETS:
            raise falcon.HTTPNotFound(description="There is no such file.")
        resp.content_type = ASSETS[name]
        resp.set_header("Cache-Control", f"public, max-age={_YEAR_S}, immutable")
        resp.data = asset(name)
