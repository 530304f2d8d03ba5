"""The OpenAPI document and, in development, a page to try the API."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined

from otpqueue.api import openapi
from otpqueue.api.catalog import ENDPOINTS

_ASSETS = {"page.css": "text/css", "try.css": "text/css", "try.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'{connect}; "
    "frame-src {frames}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _load_templates() -> Environment:
    loader = PackageLoader("otpqueue.api", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def render_page(
    resp: falcon.Response, template: str, *, connect: str = "", frames: bool = False, **values: object
) -> None:
    """Render a template. Its script may call `connect`, too, and show pages of this host if `frames`."""
    resp.content_type = falcon.MEDIA_HTML
    resp.set_header(
        "Content-Security-Policy",
        _POLICY.format(connect=connect and f" {connect}", frames="'self'" if frames else "'none'"),
    )
    resp.text = _load_templates().get_template(template).render(**values)


@cache
def write_openapi() -> str:
    """Return the OpenAPI document as JSON."""
    return json.dumps(openapi.build(ENDPOINTS), indent=1)


class OpenApi:
    """`/openapi.json`."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the OpenAPI document."""
        resp.text = write_openapi()


class PageAssets:
    """`/assets/{name}`: style sheets and scripts of the pages."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with a file."""
        if name not in _ASSETS:
            raise falcon.HTTPNotFound(description="This file does not exist.")
        resp.content_type = _ASSETS[name]
        resp.text = (files("otpqueue.api") / "assets" / name).read_text(encoding="utf-8")
