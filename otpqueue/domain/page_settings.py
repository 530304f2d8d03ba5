"""A client's settings of the hosted verification page: where it returns to, who may embed it, its brand."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from otpqueue.domain.colours import parse_colour
from otpqueue.domain.typed import find_control_character

LANGUAGES = ("en", "de", "es", "fr", "it")
"""The languages of the page. The first one is the fallback."""
TEXTS = ("heading", "intro", "note")
"""The texts that a client may replace, in each language."""

TOKEN_PARAMETER = "verification_token"  # noqa: S105 - the name of a query parameter
STATE_PARAMETER = "state"
ERROR_PARAMETER = "verification_error"
RETURN_PARAMETERS = frozenset({TOKEN_PARAMETER, STATE_PARAMETER, ERROR_PARAMETER})
"""What the page adds to a return URL."""

MAX_URL = 2000
_MAX_URLS = 20
_MAX_NAME = 60
_MAX_TEXT = 300
MAX_LOGO_BYTES = 16_384

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}
_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+")
"""Printable ASCII without spaces, quotes, backslashes and other marks that URL parsers read differently."""
_HOST = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)
_LOGO = re.compile(r"data:(image/(?:png|jpeg|webp));base64,([A-Za-z0-9+/]+={0,2})")
_BEGINNINGS = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


@dataclass(frozen=True, kw_only=True)
class UploadedLogo:
    """A logo that is stored in the client's settings."""

    media_type: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """The settings of one client."""

    return_urls: tuple[str, ...] = ()
    """Where pages may return to. One that ends with `/` includes every path below it."""
    origins: tuple[str, ...] = ()
    """The sites that may embed the page and load its web component."""
    name: str | None = None
    """How the page calls the client; the client's own name by default."""
    logo: str | None = None
    """An https URL, or a `data:` URL of an uploaded picture."""
    colour: str | None = None
    languages: tuple[str, ...] | None = None
    """The languages of the page, the fallback first."""
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Texts that replace the page's own, by name and language."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PageSettings:
        """Return the settings of parsed values, by their paths below `page.`."""
        languages = values.get("languages")
        texts = {
            (name, language): values[f"{name}.{language}"]
            for name in TEXTS
            for language in LANGUAGES
            if f"{name}.{language}" in values
        }
        return cls(
            return_urls=tuple(values.get("return_urls", ())),
            origins=tuple(values.get("origins", ())),
            name=values.get("name"),
            logo=values.get("logo"),
            colour=values.get("colour"),
            languages=None if languages is None else tuple(languages),
            texts=texts,
        )

    def allows_return_to(self, url: str) -> bool:
        """Return whether a return URL is registered: same scheme, host and port, and the path or one below.

        A text that URL parsers could read differently is never registered, nor is one with a parameter that
        the page adds.
        """
        given = _split_url(url)
        if given is None or any(name in RETURN_PARAMETERS for name, _ in parse_qsl(given.query, True)):
            return False
        return any(_covers(urlsplit(one), given) for one in self.return_urls)

    @property
    def uploaded_logo(self) -> UploadedLogo | None:
        """The uploaded logo; None if there is none or it is an https URL."""
        return parse_uploaded_logo(self.logo) if self.logo and self.logo.startswith("data:") else None


def parse_uploaded_logo(text: str) -> UploadedLogo:
    """Return the picture of a `data:` URL. Raises ValueError unless it is a small PNG, JPEG or WebP."""
    found = _LOGO.fullmatch(text)
    try:
        data = base64.b64decode(found[2], validate=True) if found else b""
    except binascii.Error:
        data = b""
    if found is None or not _BEGINNINGS[found[1]].match(data):
        raise ValueError("must be an https URL, or a PNG, JPEG or WebP picture as a `data:` URL")
    if len(data) > MAX_LOGO_BYTES:
        raise ValueError(f"must have at most {MAX_LOGO_BYTES} bytes")
    return UploadedLogo(media_type=found[1], data=data)


def read_origin(url: str) -> str:
    """Return the origin of a valid URL: scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL, None if it is not plain, absolute and without user and fragment."""
    if len(url) > MAX_URL or not _URL.fullmatch(url) or "#" in url or "@" in url.partition("?")[0]:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or port == 0 or not parts.path.startswith("/"):
        return None
    if not _HOST.fullmatch(parts.netloc):
        return None
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        return None
    if _DOT_SEGMENT.search(parts.path) or re.search(r"%(2f|5c)", parts.path, re.IGNORECASE):
        return None
    return parts


def _covers(registered: SplitResult, given: SplitResult) -> bool:
    if _place(registered) != _place(given):
        return False
    below = registered.path.endswith("/") and given.path.startswith(registered.path)
    return below or given.path == registered.path


def _place(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _split_list(value: str | list[str]) -> list[str]:
    found = value.split(",") if isinstance(value, str) else value
    words = [word.strip() for word in found if word.strip()]
    if not 1 <= len(words) <= _MAX_URLS:
        raise ValueError(f"must be 1 to {_MAX_URLS} values, separated by commas")
    return words


def _parse_return_urls(value: str | list[str]) -> list[str]:
    urls = _split_list(value)
    for url in urls:
        if (parts := _split_url(url)) is None or parts.query or "?" in url:
            raise ValueError(
                "must be https URLs with a path and nothing behind it, like `https://shop.example/done`; "
                "http only for this machine"
            )
    return urls


def _parse_origins(value: str | list[str]) -> list[str]:
    origins = [origin.lower() for origin in _split_list(value)]
    for origin in origins:
        parts = _split_url(f"{origin}/")
        if parts is None or parts.path != "/" or "?" in origin:
            raise ValueError("must be origins without a path, like `https://shop.example`")
    return origins


def _parse_name(value: str) -> str:
    return _check_text(value, longest=_MAX_NAME)


def _parse_text(value: str) -> str:
    return _check_text(value, longest=_MAX_TEXT)


def _check_text(value: str, *, longest: int) -> str:
    text = value.strip()
    if not 1 <= len(text) <= longest or find_control_character(text) is not None:
        raise ValueError(f"must be 1 to {longest} characters on one line")
    return text


def _parse_logo(value: str) -> str:
    text = value.strip()
    if text.startswith("https://"):
        if _split_url(text) is None:
            raise ValueError("must be an https URL, or a PNG, JPEG or WebP picture as a `data:` URL")
        return text
    parse_uploaded_logo(text)
    return text


def _parse_languages(value: str | list[str]) -> list[str]:
    languages = [language.lower() for language in _split_list(value)]
    if unknown := sorted(set(languages) - set(LANGUAGES)):
        raise ValueError(f"must be some of {', '.join(LANGUAGES)}; not {', '.join(unknown)}")
    return list(dict.fromkeys(languages))


PAGE_PATHS: Mapping[str, Callable[[Any], Any]] = {
    "page.return_urls": _parse_return_urls,
    "page.origins": _parse_origins,
    "page.name": _parse_name,
    "page.logo": _parse_logo,
    "page.colour": parse_colour,
    "page.languages": _parse_languages,
    **{f"page.{name}.{language}": _parse_text for name in TEXTS for language in LANGUAGES},
}
"""Parsers by path, as `client_settings.PATHS`."""
