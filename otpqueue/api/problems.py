"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import falcon
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from otpqueue.api.http import errors as http
from otpqueue.domain.errors import CredentialFault, OtpqueueError, Unavailable
from otpqueue.domain.limits import LIMITS
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
PROBLEMS_PATH = "/docs/problems"
"""The page with a section for each problem code."""

_FALCON = {
    404: http.PathNotFound,
    405: http.MethodNotAllowed,
    413: http.BodyTooLarge,
    415: http.UnsupportedMediaType,
}


def expand_errors(error: type[OtpqueueError]) -> Iterator[type[OtpqueueError]]:
    """Yield the errors of a branch of the error tree that have a code of their own."""
    if "code" in vars(error):
        yield error
    for kind in error.__subclasses__():
        yield from expand_errors(kind)


PROBLEMS: dict[str, type[OtpqueueError]] = {
    error.code: error
    for parent in OtpqueueError.__subclasses__()
    for error in expand_errors(parent)
    if error.__module__ in {OtpqueueError.__module__, http.__name__}
}
"""Every problem of the API by its code."""


_ProblemCode = Annotated[
    str, WithJsonSchema({"type": "string", "enum": sorted(PROBLEMS), "title": "ProblemCode"})
]
_LimitName = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(LIMITS), "title": "LimitName"})]


def _omit_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class InvalidField(BaseModel):
    """A field of the input that is not valid."""

    field: str
    message: str


class ProblemResponse(BaseModel):
    """Problem details: RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="the problem's section in the documentation")
    title: str
    status: int
    detail: str = Field(description="what is wrong, and what to do")
    code: _ProblemCode = Field(description="stable name of the problem, for programs")
    errors: list[InvalidField] | SkipJsonSchema[None] = Field(
        None, description="the fields that are not valid", json_schema_extra=_omit_default
    )
    reason: CredentialFault | SkipJsonSchema[None] = Field(
        None,
        description="with `unauthenticated`: why the credentials are not accepted",
        json_schema_extra=_omit_default,
    )
    checks_left: int | SkipJsonSchema[None] = Field(
        None, description="with `code_incorrect`: how many checks are left", json_schema_extra=_omit_default
    )
    limit: _LimitName | SkipJsonSchema[None] = Field(
        None, description="with `limit_exceeded`: name of the limit", json_schema_extra=_omit_default
    )


class ProblemFormat:
    """Writes the errors of a call as problem details. A subclass may add members and change statuses."""

    model: ClassVar[type[BaseModel]] = ProblemResponse

    def status_of(self, error: type[OtpqueueError]) -> int:
        """Return the HTTP status of an error."""
        return error.status

    def describe(self, error: OtpqueueError) -> BaseModel:
        """Return the problem details of an error."""
        return self.make(error, **error.members())

    def make(self, error: OtpqueueError, /, **members: Any) -> BaseModel:
        """Return the problem details with these further members."""
        return self.model(
            type=f"{PROBLEMS_PATH}#{error.code}",
            title=error.title,
            status=self.status_of(type(error)),
            detail=error.detail,
            code=error.code,
            **members,
        )

    def write(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Make an error the response."""
        if isinstance(error, Unavailable):
            cause = type(error.__cause__).__name__ if error.__cause__ else None
            log.warning("unavailable", code=error.code, cause=cause)
        status = self.status_of(type(error))
        resp.context.problem = error.code
        resp.status = status
        resp.content_type = CONTENT_TYPE
        resp.text = self.describe(error).model_dump_json(exclude_unset=True)
        if status == 401 and resp.get_header("WWW-Authenticate") is None:
            resp.set_header("WWW-Authenticate", "Bearer")
        if error.retry_after_s is not None:
            resp.set_header("Retry-After", str(error.retry_after_s))


PROBLEM_DETAILS = ProblemFormat()


@runtime_checkable
class RefusalFormatter(Protocol):
    """A resource that writes errors itself, as a page for example."""

    def refuse(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Make an error the response."""


def reject_call(resource: object, resp: falcon.Response, error: OtpqueueError) -> None:
    """Reject a call before its resource: raise the error, unless the resource writes errors itself."""
    if not isinstance(resource, RefusalFormatter):
        raise error
    resource.refuse(resp, error)
    resp.complete = True


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Turn every error that can leave a resource into problem details."""
    # The most general first: Falcon looks up the handler of an error's class that was added last.
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(OtpqueueError, _on_error)


def _on_error(
    req: falcon.Request, resp: falcon.Response, error: OtpqueueError, _params: dict[str, Any]
) -> None:
    endpoint = getattr(req.context, "endpoint", None)
    (endpoint.problem_format if endpoint else PROBLEM_DETAILS).write(resp, error)


def _on_http_error(
    _req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    for name, value in (error.headers or {}).items() if isinstance(error.headers, dict) else ():
        resp.set_header(name, value)
    PROBLEM_DETAILS.write(resp, _FALCON.get(error.status_code, http.BadHttp)(error.description))


def _on_bug(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("internal_error", exc_info=error)
    PROBLEM_DETAILS.write(resp, http.InternalError())
