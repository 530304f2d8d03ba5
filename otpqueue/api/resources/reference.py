"""`/docs/api`: the API reference, in a viewer that is part of the package and needs no other host."""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

import falcon

PATH = "/docs/api"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The viewer writes style attributes into HTML: the number of lines of a code block, for example."""
_FOREVER = "public, max-age=31536000, immutable"
"""For files with the version of the viewer in their URL."""


@cache
def read_version() -> str:
    """Return the version of the viewer and of its configuration, for URLs."""
    facts = json.loads(_read("viewer/scalar.json"))
    return f"{facts['version']}-{facts['sha256'][:8]}"


@cache
def _read(name: str) -> bytes:
    return (files("otpqueue.api") / name).read_bytes()


@cache
def _read_icon() -> bytes:
    return (files("otpqueue.console") / "assets" / "icon.svg").read_bytes()


_ASSETS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "reference.js": ("text/javascript", lambda: _read("assets/reference.js")),
    "licences.txt": ("text/plain; charset=utf-8", lambda: _read("viewer/LICENSES.txt")),
    "icon.svg": ("image/svg+xml", _read_icon),
}


class ApiReference:
    """`/docs/api`."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show every call, with examples, code samples and a form to try it."""
        nonce = secrets.token_urlsafe(16)
        page = _read("templates/reference.html").decode()
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY.format(nonce=nonce))
        resp.text = page.replace("{{ nonce }}", nonce).replace("{{ version }}", read_version())


class ReferenceAssets:
    """`/docs/api/{name}`: the viewer, its configuration and licences."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with a file."""
        if name == "scalar.js":
            _write_viewer(req, resp)
        elif name in _ASSETS:
            resp.content_type, read = _ASSETS[name]
            resp.data = read()
        else:
            raise falcon.HTTPNotFound(description="This file does not exist.")


class PageRedirect:
    """A path that leads to another one."""

    def __init__(self, to: str) -> None:
        self._to = to

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Redirect."""
        resp.status = falcon.HTTP_302
        resp.location = self._to


def _write_viewer(req: falcon.Request, resp: falcon.Response) -> None:
    """Answer with the viewer, compressed if the caller accepts that."""
    resp.content_type = "text/javascript"
    resp.set_headers({"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"})
    codings = (req.get_header("Accept-Encoding") or "").lower()
    compressed = _read("viewer/scalar.js.gz")
    if "gzip" in [coding.partition(";")[0].strip() for coding in codings.split(",")]:
        resp.set_header("Content-Encoding", "gzip")
        resp.data = compressed
    else:
        resp.data = gzip.decompress(compressed)
