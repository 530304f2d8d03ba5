"""The problem codes as text: docs/problems.md, and the table of `otpqueue problems`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.endpoints import ANY_CALL_ERRORS, API_KEY_ERRORS, BODY_ERRORS, OPEN_ERRORS
from otpqueue.api.guide.problems import GUIDE_PROBLEMS, find_guide_answer
from otpqueue.api.http import errors as http
from otpqueue.api.problems import PROBLEMS, expand_errors
from otpqueue.domain import errors
from otpqueue.domain.errors import FAULT_DETAILS, OtpqueueError

GROUPS: tuple[tuple[str, tuple[type[OtpqueueError], ...]], ...] = (
    ("Input", (errors.InvalidRequest,)),
    ("Authentication", (errors.Unauthenticated, errors.MissingScope)),
    ("Admission", (errors.NotAdmitted,)),
    ("Missing objects", (errors.RequestNotFound, errors.AlertNotFound, errors.VerificationTokenInvalid)),
    ("Checks", (errors.CheckRefused,)),
    ("Resends", (errors.ResendRefused,)),
    ("Idempotency", (errors.IdempotencyRefused,)),
    ("Availability", (errors.Unavailable,)),
    ("HTTP", (http.HttpError,)),
)
"""The headings of the page, each with its branches of the error tree."""

_INTRODUCTION = """\
# Problem codes

Every error is a JSON object of the type `application/problem+json` (RFC 9457):

```json
{"type": "/docs/problems#code_incorrect", "title": "Code incorrect", "status": 422,
 "detail": "The code is wrong.", "code": "code_incorrect", "checks_left": 4}
```

Programs should use `code`, which does not change. `title` and `detail` are for developers and operators.
`type` is the section on this page. A `Retry-After` header says how many seconds to wait before a retry. Every
answer has an `X-Request-Id`, by which the operator finds the call in the logs.

`otpqueue problems` prints this list, and `otpqueue problems --markdown` generates this page.
"""
_SOURCES: tuple[tuple[str, tuple[type[OtpqueueError], ...]], ...] = (
    ("every call", (*ANY_CALL_ERRORS, *OPEN_ERRORS)),
    ("every call with credentials", API_KEY_ERRORS),
    ("every call with a body", BODY_ERRORS),
    ("every call with an `Idempotency-Key`", tuple(expand_errors(errors.IdempotencyRefused))),
)


def list_problems() -> Iterator[tuple[str, Sequence[type[OtpqueueError]]]]:
    """Yield the problems in the order of the page, by heading."""
    for heading, branches in GROUPS:
        found = {error.code: error for branch in branches for error in expand_errors(branch)}
        # A subclass without a code of its own shares that of its parent.
        yield heading, [PROBLEMS[code] for code in found if code in PROBLEMS]


def write_page() -> str:
    """Return docs/problems.md."""
    parts = [_INTRODUCTION, "\n".join(_write_overview())]
    for heading, found in list_problems():
        parts += [f"## {heading}\n", *("\n".join(_write_section(problem)) for problem in found)]
    return "\n".join(parts)


def write_table() -> str:
    """Return a line for each problem code: code, status and what it means."""
    width = max(map(len, PROBLEMS))
    rows = (problem for _, found in list_problems() for problem in found)
    return "".join(f"{one.code:{width}}  {one.status}  {one.message()}\n" for one in rows)


def write_text(problem: type[OtpqueueError]) -> str:
    """Return what is known of one problem, for a terminal."""
    return f"{problem.code}  {problem.status}\n{problem.message()}\n\n{problem.cause}\n{problem.remedy}\n"


def describe_problem(problem: type[OtpqueueError]) -> dict[str, object]:
    """Return what is known of one problem."""
    return {
        "code": problem.code,
        "status": problem.status,
        "title": problem.title,
        "meaning": problem.message(),
        "cause": problem.cause,
        "remedy": problem.remedy,
    }


def describe_calls(problem: type[OtpqueueError]) -> str:
    """Return which calls can be answered with a problem."""
    for words, given in _SOURCES:
        if problem in given:
            return words
    calls = [f"`{one.method} {one.path}`" for one in ENDPOINTS if problem in one.all_errors]
    return ", ".join(calls) or "every call"


def _write_overview() -> Iterator[str]:
    yield "| code | status | meaning |"
    yield "|---|---|---|"
    for _, found in list_problems():
        for problem in found:
            yield f"| [`{problem.code}`](#{problem.code}) | {problem.status} | {problem.message()} |"
    yield ""


def _write_section(problem: type[OtpqueueError]) -> Iterator[str]:
    yield f"### `{problem.code}`\n"
    yield f"HTTP {problem.status}: {problem.message()}\n"
    yield f"- **Cause:** {problem.cause}"
    yield f"- **Remedy:** {problem.remedy}"
    yield f"- **Calls:** {describe_calls(problem)}"
    guide_code, guide_status = find_guide_answer(problem)
    if _is_of_guide(problem):
        yield f"- **Guide endpoints:** HTTP {guide_status} with `errorCode` `{guide_code}`"
    yield ""
    if problem is errors.Unauthenticated:
        yield "| `reason` | `detail` |"
        yield "|---|---|"
        yield from (f"| `{fault}` | {detail} |" for fault, detail in FAULT_DETAILS.items())
        yield ""
        yield "A key is looked up by its hash. `expired_key` and `revoked_key` are answered only to a caller"
        yield "that has the whole key, for 90 days after its end. Every other key is `unknown_key`."
        yield ""


def _is_of_guide(problem: type[OtpqueueError]) -> bool:
    return any(problem in one.all_errors for one in ENDPOINTS if one.problem_format is GUIDE_PROBLEMS)
