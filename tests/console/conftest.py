"""The console as a browser without scripts sees it: cookies, forms, redirects."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import falcon.testing
import pytest

from otpqueue import clock
from otpqueue.wiring import Parts
from tests.api.conftest import (  # noqa: F401 - fixtures
    Caller,
    Result,
    caller,
    lonely,
    make_caller,
    make_other_parts,
    module_app,
    module_idle_engines,
    module_parts,
    module_provider,
    module_settings,
    nowhere,
)

COOKIE = "otpqueue_console"


@dataclass
class Browser:
    """Keeps cookies and sends forms, as a browser does."""

    app: object
    https: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, **kwargs: object) -> Result:
        """Make one call, and keep the cookies that come with the answer."""
        client = falcon.testing.TestClient(self.app)
        parts = urlsplit(path)
        answer = client.simulate_request(
            method,
            parts.path,
            query_string=parts.query,
            protocol="https" if self.https else "http",
            headers={**self.headers, **dict(kwargs.pop("headers", {}))},  # type: ignore[call-overload]
            cookies=self.cookies or None,
            **kwargs,  # type: ignore[arg-type]
        )
        for name, cookie in answer.cookies.items():
            if cookie.expires is not None and cookie.expires.year == 1970:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value
        return answer

    def get(self, path: str, **headers: str) -> Result:
        """Open a page; it must not lead on."""
        return self.call("GET", path, headers=headers)

    def page(self, path: str) -> str:
        """Open a page that must be there, and return it."""
        answer = self.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.headers, answer.text[:500])
        return answer.text

    def post(self, path: str, **fields: str) -> Result:
        """Send a form as it is given."""
        return self.call(
            "POST",
            path,
            body=urlencode(fields),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    def send(self, page: str, action: str, **fields: str) -> Result:
        """Send a form that stands on a page, with its hidden fields."""
        return self.post(action, **(hidden(self.page(page), action) | fields))

    def log_in(self, key: str, *, to: str = "/console") -> Result:
        """Log in by the form."""
        return self.send(f"/console/log-in?{urlencode({'next': to})}", "/console/log-in", key=key)


def hidden(page: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the first form with an action."""
    form = re.search(rf'<form[^>]*action="{re.escape(action)}"[^>]*>(.*?)</form>', page, re.DOTALL)
    assert form, f"no form for {action}"
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form[1])
    return {name: html.unescape(value) for name, value in fields}


def words(page: str) -> str:
    """Return what a page says, without its tags, on one line."""
    page = re.sub(r"<(script|style|title)[^>]*>.*?</\1>", " ", page.replace("<wbr>", ""), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def operator(caller: Caller) -> Iterator[Browser]:  # noqa: F811
    """Yield a browser that is logged in, with a key of its own."""
    browser = Browser(caller.app)
    answer = browser.log_in(caller.new_key("admin"))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console"), answer.text
    return browser


def admin_key(parts: Parts, client: str = "ops") -> str:
    """Return a fresh key of an operator."""
    return parts.keys.create(client=client, scopes=frozenset({"admin"}), now=clock.now())
