"""The browser that owns a page: its cookie, its form tokens, and what its headers say."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import falcon

PURPOSE = "verification pages"

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_KEPT_LONGER = timedelta(minutes=10)
"""A verified page lives a little longer than its link."""
_SAME_SITE = frozenset({"same-origin", "none"})
"""`none`: the person repeats a request, for example by reloading."""


@dataclass(frozen=True, kw_only=True)
class PageCookies:
    """Keeps one signed cookie for each page, which only HTTP can read.

    The signature covers the link: a cookie that this service did not set costs no query. An embedded page is
    inside another site, where browsers send only cookies that are marked for it.
    """

    https_required: bool
    keys: Sequence[bytes]
    """The keys of signatures and form tokens, the primary one first."""

    def read(self, req: falcon.Request, link: str) -> str | None:
        """Return the secret of this browser for a link, None if it has none."""
        given = req.get_cookie_values(self._name(req, link)) or []
        return next((secret for value in given[:4] if (secret := self._open(link, value))), None)

    def keep(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        link: str,
        secret: str,
        *,
        embedded: bool,
        until: datetime,
    ) -> None:
        """Set the cookie for a page that expires at `until`."""
        by_https = self._by_https(req)
        # `None` needs `Secure`, which browsers accept over HTTPS, and some on the machine itself.
        is_local = req.host in _LOOPBACK and req.get_header("Sec-Fetch-Site") == "cross-site"
        for_other_sites = embedded and (by_https or is_local)
        resp.set_cookie(
            self._name(req, link),
            f"{secret}.{self._sign(self.keys[0], 'cookie', link, secret)}",
            expires=until + _KEPT_LONGER,
            path="/",
            secure=by_https or for_other_sites,
            http_only=True,
            # With `Strict` the cookie would be missing when the person follows the client's link again.
            same_site="None" if for_other_sites else "Lax",
            partitioned=for_other_sites,
        )

    def form_token(self, link: str, secret: str) -> str:
        """Return the token that forms of a page must carry."""
        return self._sign(self.keys[0], "form", link, secret)

    def is_form_token(self, req: falcon.Request, link: str, secret: str, token: str) -> bool:
        """Return whether a form came from this page in this browser."""
        # A second check only: not every browser sends this header.
        if (req.get_header("Sec-Fetch-Site") or "same-origin") not in _SAME_SITE:
            return False
        return self._is_signed("form", link, secret, token)

    def _open(self, link: str, value: str) -> str | None:
        secret, _, signature = value.partition(".")
        is_ours = _SECRET.fullmatch(secret) and self._is_signed("cookie", link, secret, signature)
        return secret if is_ours else None

    def _is_signed(self, purpose: str, link: str, secret: str, signature: str) -> bool:
        given = signature.encode()
        return any(
            hmac.compare_digest(self._sign(key, purpose, link, secret).encode(), given) for key in self.keys
        )

    @staticmethod
    def _sign(key: bytes, purpose: str, link: str, secret: str) -> str:
        return hmac.new(key, f"{purpose}\n{link}\n{secret}".encode(), sha256).hexdigest()

    def _by_https(self, req: falcon.Request) -> bool:
        return self.https_required or bool(req.context.peer.https)

    def _name(self, req: falcon.Request, link: str) -> str:
        name = f"otpqueue_page_{sha256(link.encode()).hexdigest()[:16]}"
        # Browsers accept a cookie with this prefix only over HTTPS and from this host.
        return f"__Host-{name}" if self._by_https(req) else name


def is_prefetch(req: falcon.Request) -> bool:
    """Return whether a browser loads the page before a person asks for it."""
    purpose = req.get_header("Sec-Purpose") or req.get_header("Purpose") or ""
    return "prefetch" in purpose.lower() or "prerender" in purpose.lower()
