"""Each problem code of the API is an exception of both client libraries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.endpoints import ANY_CALL_ERRORS
from otpqueue.api.http.errors import MethodNotAllowed
from otpqueue.client import errors
from otpqueue.client.errors import (
    ERRORS_BY_CODE,
    ERRORS_BY_STATUS,
    InvalidCallError,
    NotFoundError,
    ProblemDetails,
    ProblemError,
    ServerError,
    UnprocessableError,
    build_error,
)

CALLS = [one for one in ENDPOINTS if one.path.startswith("/v1/otp-requests") and "admin" not in one.scopes]
STATUSES = {
    error.code: error.status
    for errors_of_call in (ANY_CALL_ERRORS, (MethodNotAllowed,), *(one.all_errors for one in CALLS))
    for error in errors_of_call
}
"""HTTP status of each code that the calls of the client library can be answered with."""


def test_codes_are_those_of_the_api() -> None:
    """Each code of the calls has a class, and no class has a code that does not occur."""
    assert {(call.method, call.path.rpartition("/")[2]) for call in CALLS} == {
        ("POST", "otp-requests"),
        ("GET", "{request_id}"),
        ("DELETE", "{request_id}"),
        ("POST", "verify"),
        ("POST", "resend"),
    }
    assert set(ERRORS_BY_CODE) == set(STATUSES)


@pytest.mark.parametrize("code", sorted(STATUSES))
def test_code_is_a_kind_of_its_status(code: str) -> None:
    """A program that handles the class of a status also handles each of its codes."""
    status = STATUSES[code]
    rest = ServerError if status >= 500 else InvalidCallError

    assert issubclass(ERRORS_BY_CODE[code], ERRORS_BY_STATUS.get(status, rest))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (422, UnprocessableError), (418, InvalidCallError), (599, ServerError)],
)
def test_unknown_code(status: int, kind: type[ProblemError]) -> None:
    """A code of a later version is the class of its status."""
    error = build_error(ProblemDetails(status=status, code="of_a_later_version", title="T", detail="D."))

    assert type(error) is kind
    assert error.code == "of_a_later_version"


@pytest.mark.parametrize("members", [{}, {"reason": "expired_key", "limit": "number_day", "checks_left": 3}])
def test_members_of_a_problem(members: dict[str, Any]) -> None:
    """Members of some problems are attributes, also if an older API does not send them."""

    def build(code: str) -> Any:
        return build_error(ProblemDetails(status=400, code=code, title="T", detail="D.", members=members))

    assert build("unauthenticated").reason == members.get("reason")
    assert build("limit_exceeded").limit == members.get("limit")
    assert build("code_incorrect").checks_left == members.get("checks_left", 0)


def test_tree_is_drawn_as_it_is() -> None:
    """The docstring of the module draws every class below its parent."""
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error)\b(?: +(.*))?$", line)
        if not match:
            continue
        depth = len(match[1]) // 4
        kind = getattr(errors, match[2])
        assert depth == 0 or kind.__mro__[1].__name__ == parents[depth - 1], line
        assert vars(kind).get("problem_code") in {match[3], None}, line
        parents[depth:] = [match[2]]
        drawn.add(match[2])
    found = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OtpqueueClientError)
    }
    assert drawn == found


drawn: set[str] = set()


def test_javascript_has_the_same_errors(project: Path) -> None:
    """The JavaScript module and its types have the same classes, parents and codes."""
    folder = project / "clients" / "javascript"
    wanted = {
        (error.__name__, error.__mro__[1].__name__)
        for error in _expand(ProblemError)
        if error is not ProblemError
    }
    for name in ("otpqueue.js", "otpqueue.d.ts"):
        text = (folder / name).read_text(encoding="utf-8")
        found = set(re.findall(r"^export (?:declare )?class (\w+) extends (\w+)", text, re.MULTILINE))
        assert wanted <= found, name
    codes = dict(
        re.findall(r"^  ([a-z_]+): (\w+Error),$", (folder / "otpqueue.js").read_text(), re.MULTILINE)
    )
    assert codes == {code: error.__name__ for code, error in ERRORS_BY_CODE.items()}


def _expand(error: type[ProblemError]) -> list[type[ProblemError]]:
    return [error, *(one for kind in error.__subclasses__() for one in _expand(kind))]
