"""Templates and static files of the console."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from otpqueue.console import formatting
from otpqueue.console.warnings import resume_link, resuming
from otpqueue.domain.alerts import AlertRule, format_bound

ASSETS = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_PAGES = (
    ("Dashboard", "/console"),
    ("Requests", "/console/requests"),
    ("Alerts", "/console/alerts"),
    ("Countries", "/console/countries"),
    ("Actions", "/console/actions"),
    ("Audit", "/console/audit"),
    ("Settings", "/console/settings"),
)


@cache
def asset(name: str) -> bytes:
    """Return a static file of this package."""
    return (files("otpqueue.console") / "assets" / name).read_bytes()


@cache
def version() -> str:
    """Return a hash of the static files. It is part of their URLs, so browsers may cache them."""
    return hashlib.sha256(b"".join(map(asset, ASSETS))).hexdigest()[:12]


def _bound(rule: AlertRule) -> str:
    return format_bound(rule, rule.threshold)


def _code_marks(text: str) -> Markup:
    """Return escaped HTML with `quoted` words in <code>."""
    parts = str(escape(text)).split("`")
    marked = (f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return Markup("".join(marked))  # noqa: S704 - every part was escaped above


@cache
def load_templates() -> Environment:
    """Return the templates, with their filters and what all of them need."""
    environment = Environment(
        loader=PackageLoader("otpqueue.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "pages": _PAGES,
        "version": version(),
        "bound": _bound,
        "resuming": resuming,
        "resume_link": resume_link,
    }
    environment.filters |= {
        "number": formatting.number,
        "share": formatting.share,
        "ms": formatting.ms,
        "span": formatting.span,
        "clock_time": formatting.clock_time,
        "ago": formatting.ago,
        "offset": formatting.offset,
        "money": formatting.money,
        "iso": formatting.iso,
        "code": _code_marks,
    }
    return environment
