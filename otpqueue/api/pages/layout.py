"""The layout of the hosted page: templates, security headers, the client's colours, error pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined

from otpqueue.api.pages.catalogue import PageTexts, choose_language
from otpqueue.domain.colours import DARK, LIGHT, adapt_colour, choose_ink
from otpqueue.domain.errors import InvalidRequest, OtpqueueError, Unavailable
from otpqueue.domain.page_settings import LANGUAGES, PageSettings, read_origin
from otpqueue.domain.typed import find_control_character
from otpqueue.operations.verification_pages.visit import ForeignBrowser, PageNotAvailable, PageVisit

ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "otpqueue-verify.js": "text/javascript",
}
DEFAULT_COLOUR = "#1a5bb8"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'{images}; "
    "form-action 'self'{forms}; base-uri 'none'; frame-ancestors {ancestors}"
)
_FIELDS_AT_MOST = 20
_LONGEST_FIELD = 200


@cache
def read_asset(name: str) -> bytes:
    """Return a static file of the page."""
    return (files("otpqueue.api.pages") / "assets" / name).read_bytes()


@cache
def hash_assets() -> str:
    """Return a hash of the static files. It is part of their URLs, so browsers may cache them."""
    return hashlib.sha256(b"".join(map(read_asset, ASSETS))).hexdigest()[:12]


@cache
def _load_page_templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("otpqueue.api.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"version": hash_assets()}
    return environment


@dataclass(frozen=True, kw_only=True)
class PageBrand:
    """How a page looks: the client's name and logo, and the hash of its style sheet."""

    name: str
    logo: str | None = None
    """The URL of the picture."""
    style: str


def describe_brand(visit: PageVisit, link: str) -> PageBrand:
    """Return the brand of a page."""
    page = visit.settings.page
    name = page.name or visit.page.client_name
    logo = page.logo
    if page.uploaded_logo is not None:
        logo = f"/verify/{link}/logo?v={_hash_text(page.logo or '')}"
    return PageBrand(
        name=name, logo=logo, style=f"/verify/{link}/theme.css?v={_hash_text(page.colour or '')}"
    )


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build_theme(colour: str | None) -> str:
    """Return the style sheet of a client's colour, which is adapted to each background."""
    light, dark = (adapt_colour(colour or DEFAULT_COLOUR, background=one) for one in (LIGHT, DARK))
    return (
        f":root {{ --accent: {light}; --on-accent: {choose_ink(light)}; }}\n"
        f"@media (prefers-color-scheme: dark) {{\n"
        f"  :root {{ --accent: {dark}; --on-accent: {choose_ink(dark)}; }}\n}}\n"
    )


def set_policy(
    resp: falcon.Response, settings: PageSettings | None, *, return_url: str | None = None
) -> None:
    """Set the Content-Security-Policy of a page, and who may embed it.

    Browsers apply `form-action` to redirects, too, so it includes the site that the page returns to.
    """
    origins = settings.origins if settings else ()
    logo = settings.logo if settings else None
    resp.set_header(
        "Content-Security-Policy",
        _POLICY.format(
            images=f" {read_origin(logo)}" if logo and logo.startswith("https://") else "",
            forms=f" {read_origin(return_url)}" if return_url else "",
            ancestors=" ".join(("'self'", *origins)) if origins else "'none'",
        ),
    )
    if origins:
        # It knows no list of origins.
        resp.delete_header("X-Frame-Options")


def choose_texts(req: falcon.Request, visit: PageVisit) -> PageTexts:
    """Return the texts of a visit, in the language that the person chose, the client, or the browser."""
    page = visit.settings.page
    wanted = (req.get_param("lang"), visit.page.language)
    language = choose_language(page, wanted=wanted, accepted=req.get_header("Accept-Language"))
    return PageTexts(language=language, name=page.name or visit.page.client_name, own=page.texts)


def render(resp: falcon.Response, template: str, *, status: int = 200, **values: Any) -> None:
    """Render a template as the answer."""
    resp.status = status
    resp.content_type = falcon.MEDIA_HTML
    values = {"refresh_s": None, "brand": None, "languages": {}, "here": "", "embedded": False} | values
    resp.text = _load_page_templates().get_template(template).render(values)


def render_error(
    resp: falcon.Response, error: OtpqueueError, *, accepted: str | None = None, back: str | None = None
) -> None:
    """Answer with an error page. It shows nothing of the client or the page."""
    language = choose_language(PageSettings(), wanted=(), accepted=accepted)
    texts = PageTexts(language=language, name="otpqueue", own={})
    set_policy(resp, None)
    heading, text = "problem_heading", texts.error(error.code, wait_s=error.retry_after_s)
    if isinstance(error, PageNotAvailable):
        heading, text = "gone_heading", texts("gone")
    elif isinstance(error, ForeignBrowser):
        heading, text = "foreign_heading", texts("foreign")
    elif isinstance(error, Unavailable):
        text = texts.error("busy")
    if error.retry_after_s is not None:
        resp.set_header("Retry-After", str(error.retry_after_s))
    render(
        resp, "problem.html", status=error.status, texts=texts, heading=texts(heading), text=text, back=back
    )


def list_languages(settings: PageSettings) -> dict[str, str]:
    """Return the languages of a page and their names."""
    offered = settings.languages or LANGUAGES
    return {one: PageTexts(language=one, name="", own={})("language_name") for one in offered}


def read_page_form(req: falcon.Request) -> dict[str, str]:
    """Return the fields of a form. Raises InvalidRequest for any other body."""
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != falcon.MEDIA_URLENCODED:
        raise InvalidRequest([], "The body is not a form of the page.")
    try:
        body = req.bounded_stream.read().decode()
        fields = dict(
            parse_qsl(body, keep_blank_values=True, max_num_fields=_FIELDS_AT_MOST, errors="strict")
        )
    except ValueError:
        raise InvalidRequest([], "The body is not a form of the page.") from None
    if any(len(text) > _LONGEST_FIELD or find_control_character(text) for text in fields.values()):
        raise InvalidRequest([], "A field of the form is too long, or contains control characters.")
    return fields
