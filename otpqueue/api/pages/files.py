"""The files of the hosted page: theme, logo and assets."""

from __future__ import annotations

from dataclasses import dataclass

import falcon

from otpqueue import clock
from otpqueue.api.pages import layout
from otpqueue.api.pages.base import HostedPageBase
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.verification_pages.visit import PageNotAvailable

_YEAR_S = 31_536_000


@dataclass(frozen=True, kw_only=True)
class HostedPageTheme(HostedPageBase):
    """`/verify/{link}/theme.css`: the client's colour."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        """Answer with a style sheet."""

        def show() -> None:
            visit = self.resume(req, link, now=clock.now())
            resp.content_type = "text/css"
            resp.set_header("Cache-Control", "private, max-age=3600")
            resp.text = layout.build_theme(visit.settings.page.colour)

        self.answer(req, resp, show)


@dataclass(frozen=True, kw_only=True)
class HostedPageLogo(HostedPageBase):
    """`/verify/{link}/logo`: the client's uploaded logo."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        """Answer with the picture."""

        def show() -> None:
            logo = self.resume(req, link, now=clock.now()).settings.page.uploaded_logo
            if logo is None:
                raise PageNotAvailable
            resp.content_type = logo.media_type
            resp.set_header("Cache-Control", "private, max-age=3600")
            resp.data = logo.data

        self.answer(req, resp, show)


@dataclass(frozen=True, kw_only=True)
class HostedPageAssets:
    """`/verify/assets/{name}`: style sheet, script and web component."""

    access: AccessCache

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with a file. Sites that may embed a page may also load the component."""
        if name not in layout.ASSETS:
            raise falcon.HTTPNotFound(description="This file does not exist.")
        resp.content_type = layout.ASSETS[name]
        versioned = req.get_param("v") == layout.hash_assets()
        lifetime = f"max-age={_YEAR_S}, immutable" if versioned else "max-age=300"
        resp.set_header("Cache-Control", f"public, {lifetime}")
        resp.append_header("Vary", "Origin")
        origin = req.get_header("Origin")
        if origin is not None and self._is_registered(origin):
            resp.set_header("Access-Control-Allow-Origin", origin)
            resp.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        resp.data = layout.read_asset(name)

    def _is_registered(self, origin: str) -> bool:
        settings = self.access.current().listed.settings.values()
        return any(origin in one.page.origins for one in settings)
