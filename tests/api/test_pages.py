"""The pages and the OpenAPI document: complete, valid, and nothing inline."""

from __future__ import annotations

import gzip
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any
from uuid import uuid4

import falcon.inspect
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from otpqueue.api.problems import PROBLEMS, PROBLEMS_PATH
from otpqueue.api.resources import reference
from otpqueue.domain.request import Reason, Status
from tests.api.conftest import Caller, MakeCaller, Result
from tests.api.persons import Person

VOID = {"meta", "link", "input", "br", "hr", "img", "wbr"}
PAGE_ROUTES = {
    "/verify/assets/{name}",
    "/verify/{link}",
    "/verify/{link}/state",
    "/verify/{link}/theme.css",
    "/verify/{link}/logo",
    "/verify/{link}/{action}",
}
LOCAL = {"Host": "127.0.0.1:8000"}
TRY_ROUTES = {"/try", "/try/pages", "/try/pages/{page_id:uuid}", "/try/redeem", "/try/clock"}
DOCS_ROUTES = {"/", "/docs", "/docs/api", "/docs/api/{name}", "/docs/search", "/docs/{path:path}"}
NOT_IN_THE_DOCUMENT = {"/openapi.json", "/assets/{name}", *DOCS_ROUTES, *TRY_ROUTES, *PAGE_ROUTES}


class Page(HTMLParser):
    """What a test wants to know of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.inline = ""
        self.open: list[str] = []
        self.badly_nested: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "action"}:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.badly_nested.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"script", "style"}:
            self.inline += data.strip()


def safe(answer: Result) -> Page:
    """Return a page that has nothing inline and a policy that would not let it run."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy
    page = Page(answer.text)
    assert page.inline == ""
    assert "style" not in page.attributes
    assert not [name for name in page.attributes if name.startswith("on")]
    assert not [link for link in page.links if link.startswith(("javascript:", "data:"))]
    assert (page.open, page.badly_nested) == ([], [])
    assert answer.text.startswith("<!doctype html>")
    assert '<html lang="en">' in answer.text
    return page


def test_reference(caller: Caller) -> None:
    """The reference needs no key, runs only its own scripts, and its links lead somewhere."""
    caller.key = None

    answers = [caller.get("/docs/api") for _ in range(2)]

    pages = [Page(answer.text) for answer in answers]
    for answer, page in zip(answers, pages, strict=True):
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        (nonce,) = re.findall(r'csp-nonce" content="([^"]+)"', answer.text)
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert (policy["script-src"], policy["connect-src"]) == ("'self'", "'self'")
        assert policy["style-src"] == f"'self' 'nonce-{nonce}'"
        assert (page.inline, page.open, page.badly_nested) == ("", [], [])
    assert answers[0].headers["Content-Security-Policy"] != answers[1].headers["Content-Security-Policy"]
    for link in pages[0].links:
        assert caller.get(link).status_code == 200


def test_every_problem_has_its_place(caller: Caller) -> None:
    """The `type` of every problem is a heading of the documentation."""
    page = safe(caller.get(PROBLEMS_PATH))

    assert set(PROBLEMS) <= set(page.ids)


def test_viewer(caller: Caller) -> None:
    """The viewer is the file that its version names, compressed for browsers, and browsers keep it."""
    caller.key = None
    facts = json.loads((files("otpqueue.api") / "viewer" / "scalar.json").read_text(encoding="utf-8"))
    path = f"/docs/api/scalar.js?v={reference.read_version()}"

    plain, packed = (
        caller.get(path, headers={"Accept-Encoding": coding}) for coding in ("br", "br, GZIP;q=0.8, deflate")
    )

    assert sha256(plain.content).hexdigest() == facts["sha256"]
    assert (packed.headers["Content-Encoding"], gzip.decompress(packed.content)) == ("gzip", plain.content)
    for answer in (plain, packed):
        assert answer.headers["Content-Type"] == "text/javascript"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
    assert facts["version"] in path


def test_licences_of_the_viewer(caller: Caller) -> None:
    """The licences of the viewer and of everything in it are served, and part of the distribution."""
    answer = caller.get("/docs/api/licences.txt")

    assert answer.text.startswith("@scalar/api-reference\n\nMIT License")
    for name in ("vue", "@codemirror/view", "zod"):
        assert re.search(rf"(^|, ){re.escape(name)}(,|$)", answer.text, re.MULTILINE)


def test_root(caller: Caller) -> None:
    """The root leads to the documentation; what is not there is a problem."""
    caller.key = None

    root = caller.get("/")

    assert (root.status_code, root.headers["Location"]) == (302, "/docs")
    assert caller.get("/docs/api/other.js").json["code"] == "not_found"


def test_openapi_is_valid(caller: Caller) -> None:
    """The document is valid OpenAPI 3.1, its examples and references too."""
    caller.key = None

    document = caller.get("/openapi.json").json

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["openapi"].startswith("3.1")


def test_openapi_has_every_route(make_caller: MakeCaller) -> None:
    """Every route and method of the app stands in the document, and the reverse; pages excepted."""
    caller = make_caller(OTPQUEUE_TRY_PAGE="true")
    routed = {
        (route.path, method.method)
        for route in falcon.inspect.inspect_routes(caller.app)
        for method in route.methods
        if not method.internal and method.method != "HEAD" and route.path not in NOT_IN_THE_DOCUMENT
        if not route.path.startswith("/console")
    }

    paths = caller.get("/openapi.json").json["paths"]

    assert {(path, method.upper()) for path, calls in paths.items() for method in calls} == routed


def test_openapi_operations(caller: Caller) -> None:
    """Each operation has an id of its own, says which key it needs, and describes each path parameter."""
    document = caller.get("/openapi.json").json
    operations = [(path, call) for path, calls in document["paths"].items() for call in calls.values()]

    ids = [call["operationId"] for _, call in operations]
    assert len(ids) == len(set(ids))
    for path, call in operations:
        assert call["summary"]
        assert ("security" in call) == (not path.startswith("/health"))
        described = [one["name"] for one in call.get("parameters", []) if one["in"] == "path"]
        assert described == re.findall(r"\{(\w+)\}", path)


def test_openapi_words(caller: Caller) -> None:
    """The statuses, reasons and problem codes of the document are those of the code."""
    schemas = caller.get("/openapi.json").json["components"]["schemas"]

    shown = schemas["OtpRequest"]["properties"]
    assert shown["status"]["$ref"] == "#/components/schemas/RequestStatus"
    assert set(schemas["RequestStatus"]["enum"]) == {*Status, "sending"}
    assert set(schemas["EndReason"]["enum"]) == set(Reason)
    assert set(schemas["ProblemCode"]["enum"]) == set(PROBLEMS)


def test_openapi_refuses_what_the_api_refuses(caller: Caller) -> None:
    """Bodies take no unknown fields, in the document as in the API."""
    schemas = caller.get("/openapi.json").json["components"]["schemas"]

    for name in ("NewOtpRequest", "CodeToVerify", "ResendOptions", "GuideRequest", "GuideVerify"):
        assert schemas[name]["additionalProperties"] is False
    assert "required" not in schemas["ResendOptions"]
    assert schemas["NewOtpRequest"]["required"] == ["phone_number"]
    assert schemas["GuideVerify"]["required"] == ["phoneNumber", "otp"]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("page.css", "text/css"), ("try.css", "text/css"), ("try.js", "text/javascript")],
)
def test_assets(caller: Caller, name: str, media_type: str) -> None:
    """What the pages need is served with its own media type, without a key."""
    caller.key = None

    answer = caller.get(f"/assets/{name}")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert answer.text


def test_try_page(make_caller: MakeCaller) -> None:
    """The demo is there if a setting asks for it. It may call the simulator, and show pages of this host."""
    caller = make_caller(OTPQUEUE_TRY_PAGE="true")
    caller.key = None

    assert "Open this page at a local address" in caller.get("/try").text
    answer = caller.get("/try", headers=LOCAL)

    page = safe(answer)
    assert "Open this page at a local address" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert f"connect-src 'self' {caller.provider.url};" in policy
    assert "frame-src 'self';" in policy
    assert caller.provider.url in page.links
    for link in page.links:
        assert link == caller.provider.url or Person(caller.app).request("GET", link).status_code == 200


def test_try_page_finds_its_elements(make_caller: MakeCaller) -> None:
    """Every element that the script looks up by id is on the page."""
    caller = make_caller(OTPQUEUE_TRY_PAGE="true")

    looked_up = set(re.findall(r'byId\("(\w+)"\)', caller.get("/assets/try.js").text))

    assert looked_up
    assert looked_up <= set(Page(caller.get("/try", headers=LOCAL).text).ids)


def test_shop_of_the_demo(make_caller: MakeCaller) -> None:
    """The shop's back end creates a page, follows it, and redeems its token once."""
    caller = make_caller(OTPQUEUE_TRY_PAGE="true")
    person = Person(caller.app, **LOCAL)

    def call(method: str, path: str, body: dict[str, str] | None = None) -> Any:
        return person.request(method, path, **({"json": body} if body else {}))

    person.open("/try")
    made = call("POST", "/try/pages", {"state": "s", "phone_number": caller.number})
    assert made.status_code == 201, made.text
    assert made.json["url"].startswith("http://127.0.0.1:8000/verify/")
    live = f"/try/pages/{made.json['id']}"
    assert call("GET", live).json == {"stage": "confirm", "request": None}
    person.open(f"{made.json['url']}?embed=1")
    person.submit("send", channel="sms")
    caller.parts.pump.run()
    assert call("GET", live).json["request"]["status"] == "sent"
    person.open(made.json["url"])
    page = person.submit("code", code=caller.provider.code(caller.number))
    (message,) = [
        json.loads(given["data-message"]) for _, given in page.attributes if "data-message" in given
    ]

    redeemed = [call("POST", "/try/redeem", {"token": message["token"]}) for _ in range(2)]
    moved = [caller.provider.call("GET", "/_simulator/clock").json()["now"]]
    assert call("POST", "/try/clock").json == {"advanced_s": 300}
    moved.append(caller.provider.call("GET", "/_simulator/clock").json()["now"])

    assert [one.status_code for one in redeemed] == [200, 404]
    assert redeemed[0].json["phone_number"] == caller.number
    assert moved[1] > moved[0]
    assert call("GET", f"/try/pages/{uuid4()}").status_code == 404
    # A second visit changes nothing.
    person.open("/try")


def test_no_try_page(caller: Caller) -> None:
    """Elsewhere there is no such page."""
    for path in ("/try", f"/try/pages/{uuid4()}"):
        assert caller.get(path).status_code == 404
    for path in ("/try/pages", "/try/redeem", "/try/clock"):
        assert caller.post(path, json={"token": "x"}).status_code == 404
