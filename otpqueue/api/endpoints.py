"""An API call, described once: its path, credentials, input, answers and errors.

A resource puts an `ApiEndpoint` on each of its responders with `serves`, which also authenticates the call,
reads its input and writes its answer. Routes, OpenAPI document and docs page come from the same description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any
from uuid import UUID

import falcon
from pydantic import BaseModel

from otpqueue.api import idempotency, reading
from otpqueue.api.auth import Caller
from otpqueue.api.http import errors as http
from otpqueue.api.http.bridge import MAX_BODY_BYTES
from otpqueue.api.path_parameters import PATH_PARAMETERS, PathParameter
from otpqueue.api.problems import PROBLEM_DETAILS, ProblemFormat, expand_errors
from otpqueue.api.tags import OperationTag
from otpqueue.domain import errors
from otpqueue.domain.audit import AuditActor, AuditSurface, acting_as
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.replay import IdempotentCall, StoredResponse

Errors = tuple[type[OtpqueueError], ...]
Responder = Callable[..., None]
Result = BaseModel | StoredResponse | bytes | None
"""What a responder returns: a body, a complete answer, bytes, or None for no body."""

ANY_CALL_ERRORS: Errors = (
    http.PathNotFound,
    http.UriTooLong,
    http.HeadersTooLarge,
    http.InternalError,
)
"""Errors before and after an endpoint, which always have the general format."""
OPEN_ERRORS: Errors = (http.BadHttp,)
AUTHENTICATED_ERRORS: Errors = (
    errors.InvalidRequest,
    errors.Unauthenticated,
    http.HttpsRequired,
    errors.DatabaseUnavailable,
    errors.TooBusy,
    *OPEN_ERRORS,
)
API_KEY_ERRORS: Errors = (*AUTHENTICATED_ERRORS, errors.MissingScope, errors.LimitExceeded)
BODY_ERRORS: Errors = (
    http.MalformedJson,
    http.BodyTimeout,
    http.BodyTooLarge,
    http.UnsupportedMediaType,
)
_IDEMPOTENCY_ERRORS: Errors = (errors.IdempotencyRefused, errors.RequestNotFound)


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may make a call, and how the documents describe that."""

    errors: Errors
    security: tuple[Mapping[str, list[str]], ...] = ()
    """Security requirements of the OpenAPI document; empty for an open call."""
    note: str = ""
    """For the docs page; `{scopes}` is replaced by the scopes."""

    @property
    def is_open(self) -> bool:
        """Whether anybody may make the call."""
        return not self.security

    @property
    def is_rated(self) -> bool:
        """Whether the call counts against the rate limit of an API key."""
        return errors.LimitExceeded in self.errors


OPEN = Access(errors=OPEN_ERRORS)
API_KEY = Access(errors=API_KEY_ERRORS, security=({"apiKey": []},), note="scope {scopes}")


@dataclass(frozen=True, kw_only=True)
class Success:
    """An answer to a call that succeeds."""

    description: str
    model: type[BaseModel] | None = None
    """The body; None for none."""
    media_type: str = falcon.MEDIA_JSON


@dataclass(frozen=True, kw_only=True)
class HeaderParameter:
    """A header that a call reads, beside those of every call."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ApiEndpoint:
    """One call of the API."""

    method: str
    path: str
    operation_id: str
    """Name of the call in generated clients: verb and object."""
    tag: OperationTag
    summary: str
    description: str
    successes: Mapping[int, Success]
    """By status."""
    errors: Errors = ()
    """Errors that do not follow from the other fields; a base class means all of its subclasses."""
    access: Access = API_KEY
    scopes: tuple[str, ...] = ()
    """The API key must have one of them."""
    body: type[BaseModel] | None = None
    body_optional: bool = False
    """Whether a call without a body means the model's defaults."""
    max_body_bytes: int = MAX_BODY_BYTES
    query: type[BaseModel] | None = None
    headers: tuple[HeaderParameter, ...] = ()
    accepts_idempotency_key: bool = False
    counts_rate_with_limits: bool = False
    """Whether the operation counts the rate of the API key in the same script as its own limits."""
    problem_format: ProblemFormat = PROBLEM_DETAILS

    @cached_property
    def path_parameters(self) -> dict[str, PathParameter]:
        """The parameters in the path, by name."""
        return {name: PATH_PARAMETERS[name] for name in re.findall(r"\{(\w+)\}", self.path)}

    @cached_property
    def query_names(self) -> frozenset[str]:
        """The names of the query parameters."""
        return frozenset(self.query.model_fields if self.query else ())

    @cached_property
    def all_errors(self) -> Errors:
        """The errors that the call can raise, each with its code, without those of any call."""
        given = (
            *self.access.errors,
            *(BODY_ERRORS if self.body else ()),
            *(_IDEMPOTENCY_ERRORS if self.accepts_idempotency_key else ()),
            *(parameter.not_found for parameter in self.path_parameters.values()),
            *self.errors,
        )
        return tuple(dict.fromkeys(error for one in given for error in _expand(one)))


def _expand(error: type[OtpqueueError]) -> Iterable[type[OtpqueueError]]:
    return (error,) if "code" in vars(error) else expand_errors(error)


@dataclass(slots=True, kw_only=True)
class ApiCall:
    """A call that has been authenticated, and its response."""

    req: falcon.Request
    resp: falcon.Response
    identified: Caller | None
    """None for an open call, and for credentials that belong to no client."""
    repeatable: IdempotentCall | None
    """The call with its Idempotency-Key; None without one."""

    @property
    def caller(self) -> Caller:
        """The client that makes the call."""
        if self.identified is None:
            raise AssertionError("this endpoint is not called by a client")
        return self.identified

    @property
    def client_id(self) -> UUID:
        """The id of the client that makes the call."""
        return self.caller.client_id


def serves(endpoint: ApiEndpoint) -> Callable[[Callable[..., Result]], Responder]:
    """Describe a responder, and run the checks of every call before it.

    The responder gets an ApiCall, and by name `body`, `query` and the ids of the path, as far as the endpoint
    has them. Its resource must have an `authentication` unless the endpoint is open. Order of the checks: API
    key, rate, scope, query, body, ids of the path, Idempotency-Key.
    """
    for_operators = "admin" in endpoint.scopes
    is_open, counts_first = endpoint.access.is_open, not endpoint.counts_rate_with_limits

    def decorate(respond: Callable[..., Result]) -> Responder:
        @wraps(respond)
        def responder(resource: Any, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
            caller: Caller | None = None
            if not is_open:
                caller = resource.authentication.authenticate(req)
            if caller and counts_first:
                caller.rate.count()
            try:
                if caller:
                    caller.check_scopes(endpoint.scopes)
                arguments, repeatable = read_input(req, endpoint, path)
                call = ApiCall(req=req, resp=resp, identified=caller, repeatable=repeatable)
                if for_operators and caller:
                    with acting_as(_get_actor(caller, req, resp)):
                        result = respond(resource, call, **arguments)
                else:
                    result = respond(resource, call, **arguments)
            finally:
                # Unless it has been counted. A full limit hides every other error.
                if caller:
                    caller.rate.count()
            write_result(resp, result)

        responder.endpoint = endpoint  # type: ignore[attr-defined]
        return responder

    return decorate


def _get_actor(caller: Caller, req: falcon.Request, resp: falcon.Response) -> AuditActor:
    return AuditActor(
        surface=AuditSurface.API,
        name=caller.key_prefix,
        key_id=caller.key_id,
        peer=req.context.peer.network,
        call_id=resp.get_header("X-Request-Id"),
    )


def read_input(
    req: falcon.Request, endpoint: ApiEndpoint, path: Mapping[str, str]
) -> tuple[dict[str, Any], IdempotentCall | None]:
    """Return query, body and ids of a call by name, and the call itself if it has an Idempotency-Key.

    Raises InvalidRequest, MalformedJson, UnsupportedMediaType, BodyTooLarge, RequestNotFound, AlertNotFound.
    """
    arguments: dict[str, Any] = {}
    if endpoint.query:
        arguments["query"] = reading.read_query(req, endpoint.query)
    if endpoint.body:
        has_body = not endpoint.body_optional or req.content_length or req.get_header("Transfer-Encoding")
        arguments["body"] = (
            reading.read(req, endpoint.body, limit=endpoint.max_body_bytes) if has_body else endpoint.body()
        )
    for name, text in path.items():
        arguments[name] = endpoint.path_parameters[name].parse(text)
    repeatable = None
    if endpoint.accepts_idempotency_key and idempotency.has_key(req):
        name = f"{endpoint.method} {endpoint.path.format_map(arguments)}"
        repeatable = idempotency.read_key(req, name, arguments["body"])
    return arguments, repeatable


def write_result(resp: falcon.Response, result: Result) -> None:
    """Make what a responder returned the response. The status is 200 unless something else was set."""
    if isinstance(result, StoredResponse):
        idempotency.write_answer(resp, result)
    elif isinstance(result, BaseModel):
        resp.text = result.model_dump_json()
    elif result is not None:
        resp.data = result


def find_endpoints(resource: type) -> Iterator[tuple[str, ApiEndpoint]]:
    """Yield the endpoints of a resource, each with the suffix of its responder: `ready` of `on_get_ready`."""
    for name, member in vars(resource).items():
        endpoint = getattr(member, "endpoint", None)
        if isinstance(endpoint, ApiEndpoint) and name.startswith(f"on_{endpoint.method.lower()}"):
            yield name.removeprefix(f"on_{endpoint.method.lower()}").lstrip("_"), endpoint


def add_routes(app: falcon.App[Any, Any], resource: object) -> None:
    """Route the paths of a resource's endpoints to it."""
    for path, suffix in {
        endpoint.path: suffix for suffix, endpoint in find_endpoints(type(resource))
    }.items():
        app.add_route(path, resource, suffix=suffix or None)
