"""The pages: the docs, the OpenAPI document, and in development the try-it page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from otpqueue.api import openapi
from otpqueue.api.problems import PROBLEMS

_ASSETS = {"page.css": "text/css", "try.css": "text/css", "try.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'{more}; "
    "frame-ancestors 'none'"
)


@cache
def _templates() -> Environment:
    loader = PackageLoader("otpqueue.api", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["code"] = _code_marks
    return environment


def _code_marks(text: str) -> Markup:
    """Return escaped HTML in which `marked` words stand in <code>."""
    parts = str(escape(text)).split("`")
    marked = (f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return Markup("".join(marked))  # noqa: S704 - every part was escaped above


def _show(resp: falcon.Response, template: str, *, connect: str = "", **values: object) -> None:
    resp.content_type = falcon.MEDIA_HTML
    resp.set_header("Content-Security-Policy", _POLICY.format(more=connect and f" {connect}"))
    resp.text = _templates().get_template(template).render(**values)


class OpenApi:
    """`/openapi.json`."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the OpenAPI document."""
        resp.text = json.dumps(openapi.build(), indent=1)


class Docs:
    """`/docs`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show every call with a curl to copy, and every problem."""
        _show(
            resp,
            "docs.html",
            base=req.prefix,
            operations=openapi.OPERATIONS,
            document=openapi.build(),
            problems=PROBLEMS.values(),
        )


class Assets:
    """`/assets/{name}`: what the pages need, from this package."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer a file."""
        if name not in _ASSETS:
            raise falcon.HTTPNotFound(description="There is no such file.")
        resp.content_type = _ASSETS[name]
        resp.text = (files("otpqueue.api") / "assets" / name).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class TryPage:
    """`/try`: a login form and a handset, over the simulator."""

    simulator_url: str

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show the page."""
        _show(resp, "try.html", connect=self.simulator_url, simulator_url=self.simulator_url)
