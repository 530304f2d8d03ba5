"""Login, logout and the static files: the only parts of the console that need no session."""

from __future__ import annotations

from contextlib import nullcontext

import falcon

from otpqueue import clock
from otpqueue.console.authentication import LOG_IN, FormRefused, console_path
from otpqueue.console.forms import read_form
from otpqueue.console.layout import ConsolePage, PageContext, redirect
from otpqueue.console.rendering import ASSETS, asset
from otpqueue.domain.errors import (
    CredentialFault,
    LimitExceeded,
    MissingScope,
    OtpqueueError,
    TooBusy,
    Unauthenticated,
)

_YEAR_S = 31_536_000


_FAULTS = {
    CredentialFault.NO_CREDENTIALS: "the field is empty.",
    CredentialFault.EXPIRED_KEY: "it has expired.",
    CredentialFault.REVOKED_KEY: "it was revoked.",
}


class LoginPage(ConsolePage):
    """`/console/log-in`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the login form. It needs no database."""
        self._show(req, resp, wanted=console_path(req.get_param("next")))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Open a session and redirect to the page that was requested first."""
        now, authentication = clock.now(), self.layout.authentication
        wanted = console_path(None)
        try:
            form = read_form(req)
            wanted = console_path(form.get("next"))
            key = form.get("key", "").strip()
            authentication.check_form(
                req, authentication.pending_session(req, now=now), form.get("token", "")
            )
            # Unknown keys may occupy all login slots; a known key needs none.
            with nullcontext() if authentication.is_known_key(key) else self.layout.log_in_places.slot():
                authentication.open(req, resp, key, now=now)
        except (Unauthenticated, MissingScope) as error:
            said = f"This key cannot open the console: {_explain(error)}"
            self._show(req, resp, wanted=wanted, status=403, said=said)
        except FormRefused:
            said = "This page was open too long, or the browser did not send its cookie. Try again."
            self._show(req, resp, wanted=wanted, status=403, said=said)
        except LimitExceeded as error:
            resp.set_header("Retry-After", str(error.retry_after_s))
            self._show(req, resp, wanted=wanted, status=429, said=error.detail)
        except TooBusy:
            self._show(
                req, resp, wanted=wanted, status=503, said="The console is busy. Try again in a moment."
            )
        except OtpqueueError as error:
            self.layout.show_error(resp, error)
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
        session = self.layout.authentication.visitor(req, resp, now=now)
        token = self.layout.authentication.token(session)
        self.layout.render(
            resp, "login.html", status=status, now=now, token=token, wanted=wanted, said=said, here=LOG_IN
        )


def _explain(error: Unauthenticated | MissingScope) -> str:
    if isinstance(error, MissingScope):
        return "it has neither the scope admin nor read."
    return _FAULTS.get(error.reason, "it is not an API key of this service.")


class LogoutPage(ConsolePage):
    """`/console/log-out`."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Delete the session cookie of this browser."""

        def leave(page: PageContext) -> None:
            self.layout.authentication.close(req, resp, page.operator)
            redirect(resp, LOG_IN)

        self.layout.respond(req, resp, leave, for_readers=True)


class AssetFiles:
    """`/console/assets/{name}`: static files. Their URLs contain a hash of the content."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Send a file."""
        if name not in ASSETS:
            raise falcon.HTTPNotFound(description="There is no such file.")
        resp.content_type = ASSETS[name]
        resp.set_header("Cache-Control", f"public, max-age={_YEAR_S}, immutable")
        resp.data = asset(name)
