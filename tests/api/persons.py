"""A person with a browser, as far as plain HTML goes: cookies, forms, redirects; no script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urlsplit

import falcon.testing

from tests.api.conftest import Caller, Result

RETURN_URL = "https://shop.example/login/done"


@dataclass
class HtmlForm:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class PageReader(HTMLParser):
    """Reads what a person sees of a page, and its forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[HtmlForm] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self._silent = 0
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """The words of the page."""
        return re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.attributes.append((tag, given))
        if tag == "form":
            self.forms.append(HtmlForm(given.get("action", "")))
        elif tag in {"input", "select"} and self.forms and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and "name" in given:
            self.forms[-1].buttons.append((given["name"], given["value"]))
        self._silent += tag in {"style", "script", "option"}

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"style", "script", "option"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


class Person:
    """A person's browser."""

    def __init__(self, app: Any, *, address: str = "203.0.113.7", **headers: str) -> None:
        self._client = falcon.testing.TestClient(app)
        self.address, self.headers = address, {"Accept-Language": "en-GB", **headers}
        self.cookies: dict[str, str] = {}
        self._last: Result | None = None
        self.place = ""

    @property
    def last(self) -> Result:
        """The last answer."""
        assert self._last is not None
        return self._last

    @property
    def html(self) -> str:
        """The last page."""
        return self.last.text

    @property
    def status(self) -> int:
        """The status of the last page."""
        return self.last.status_code

    def switch_to(self, app: Any) -> None:
        """Go on at another API, as a load balancer may decide."""
        self._client = falcon.testing.TestClient(app)

    def request(self, method: str, path: str, **kwargs: Any) -> Result:
        """Make one request with the cookies."""
        headers = {**self.headers, **kwargs.pop("headers", {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self._client.simulate_request(
            method, path, headers=headers, remote_addr=self.address, **kwargs
        )
        for name, cookie in answer.cookies.items():
            self.cookies[name] = cookie.value
        self._last, self.place = answer, path
        return answer

    def open(self, url: str, **kwargs: Any) -> PageReader:
        """Open a URL, and follow redirects on this host."""
        parts = urlsplit(url)
        answer = self.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), **kwargs)
        return self._follow(answer)

    def submit(self, action: str, **fields: str) -> PageReader:
        """Fill in and submit the form with this action."""
        (form,) = [one for one in PageReader(self.html).forms if f"/{action}" in one.action]
        answer = self.request(
            "POST",
            form.action,
            body=urlencode(form.fields | fields),
            headers={"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
        )
        return self._follow(answer)

    def _follow(self, answer: Result) -> PageReader:
        while answer.status_code == 303:
            place = answer.headers["Location"]
            if not place.startswith("/verify/"):
                self.place = place
                return PageReader("")
            answer = self.request("GET", place)
        return PageReader(answer.text)


def register(caller: Caller, **settings: str) -> None:
    """Store page settings of the caller's client, by their names below `page.`."""
    for name, value in ({"return_urls": "https://shop.example/login/"} | settings).items():
        caller.parts.clients.set(caller.client, f"page.{name}", value)


def create(caller: Caller, **fields: Any) -> str:
    """Create a page, and return its URL."""
    answer = caller.post("/v1/verification-pages", json={"return_url": RETURN_URL, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json["url"])


def redeem(caller: Caller, token: str) -> Result:
    """Redeem a token with the caller's key."""
    return caller.post("/v1/verification-pages/redeem", json={"token": token})


def path_of(url: str) -> str:
    """Return the path of a page."""
    return urlsplit(url).path
