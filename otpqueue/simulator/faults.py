"""Faults on demand: late, wrong or missing responses. Not part of the simulated API."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from otpqueue.simulator.errors import Envelope
from otpqueue.simulator.wire import parse_recipient

MAX_LATENCY_MS = 600_000
MAX_SIZE_BYTES = 100_000_000
HUGE_BYTES: Final = 10_000_000
SLOW_BYTE_MS: Final = 1000

# The server sets these headers: they describe the length of the body.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

Form = Literal["html", "empty", "broken", "truncated", "huge", "slow"]


def _no_framing(name: str) -> str:
    if name.lower() in _FRAMING:
        raise ValueError("is set by the server")
    return name


HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), AfterValidator(_no_framing)
]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e]*$")]


def check_recipient(text: str) -> str:
    """Return a number in digits or an e-mail address; raises ValueError on anything else."""
    found = parse_recipient(text)
    if found is None:
        raise ValueError("must be a phone number in digits, or an e-mail address")
    return found


class _StrictModel(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FaultMatch(_StrictModel):
    """The requests that a fault applies to; an absent field matches all requests.

    `to` is the recipient, in digits or as an e-mail address. `path` is a part of the request's path or, with
    a `*`, a shell pattern for the whole path. `method` is the HTTP method.
    """

    to: Annotated[str, AfterValidator(check_recipient)] | None = None
    path: Annotated[str, Field(min_length=1)] | None = None
    method: Literal["GET", "POST", "PUT"] | None = None

    def accepts(self, method: str, path: str, to: str | None) -> bool:
        """Return whether a request matches; `to` is its recipient, or None."""
        return self.to in {None, to} and self.accepts_path(method, path)

    def accepts_path(self, method: str, path: str) -> bool:
        """Return whether method and path of a request match."""
        if self.method not in {None, method}:
            return False
        if self.path is None:
            return True
        return fnmatchcase(path, self.path) if "*" in self.path else self.path in path


class FaultBody(_StrictModel):
    """The effect of a fault, on up to `times` requests (null or absent: until deleted).

    `status` replaces the response, and the request has no effect; its body is `body`, or for an error the
    documented one in the given `envelope`. `headers` come with it. `drop` cuts the connection without any
    response: `before` the request has an effect, or `after` all of it. `latency_ms` delays the
    response or the cut; alone it leaves the response unchanged. The request takes effect before
    the delay begins.

    `form` distorts the response, the real one or that of `status`: `html` and `empty` replace its body,
    `broken` sends half of it as if it were whole, `truncated` cuts the connection after half of it, `huge`
    pads it to `size_bytes` (10 MB), `slow` sends a byte every `byte_ms` (1000).
    """

    match: FaultMatch = FaultMatch()
    times: Annotated[int, Field(ge=1)] | None = None
    latency_ms: Annotated[int, Field(ge=0, le=MAX_LATENCY_MS)] | None = None
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: JsonValue = None
    envelope: Envelope | None = None
    headers: dict[HeaderName, HeaderValue] | None = None
    drop: Literal["before", "after"] | None = None
    form: Form | None = None
    size_bytes: Annotated[int, Field(ge=1, le=MAX_SIZE_BYTES)] = HUGE_BYTES
    byte_ms: Annotated[int, Field(ge=1, le=60_000)] = SLOW_BYTE_MS

    @model_validator(mode="after")
    def _check_combination(self) -> "FaultBody":
        given = self.model_fields_set
        if self.latency_ms is None and self.status is None and self.drop is None and self.form is None:
            raise ValueError("needs at least one of latency_ms, status, drop and form")
        if self.status is not None and self.drop is not None:
            raise ValueError("status and drop exclude each other")
        if self.form is not None and self.drop is not None:
            raise ValueError("form and drop exclude each other")
        if self.status is None and {"body", "headers", "envelope"} & given:
            raise ValueError("body, headers and envelope need status")
        if "body" in given and self.envelope is not None:
            raise ValueError("body and envelope exclude each other")
        return self


@dataclass(slots=True)
class Fault:
    """An active fault; `used` counts the requests it applied to."""

    id: str
    body: FaultBody
    used: int = 0

    @property
    def spent(self) -> bool:
        """Whether its times are used up."""
        return self.body.times is not None and self.used >= self.body.times

    @property
    def has_no_effect(self) -> bool:
        """Whether a request with this fault is not executed."""
        return self.body.status is not None or self.body.drop == "before"

    def as_json(self) -> dict[str, Any]:
        """Return the fault as the faults endpoint shows it."""
        return {"id": self.id, **self.body.model_dump(exclude_unset=True), "used": self.used}


class Faults:
    """The faults in order of creation; used-up ones stay listed but no longer apply."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._active: list[Fault] = []

    def add(self, body: FaultBody) -> Fault:
        """Append a fault."""
        fault = Fault(str(uuid4()), body)
        self._faults.append(fault)
        self._active.append(fault)
        return fault

    @property
    def in_force(self) -> bool:
        """Whether any fault can apply."""
        return bool(self._active)

    def all(self) -> list[Fault]:
        """Return all faults, oldest first."""
        return list(self._faults)

    def clear(self) -> None:
        """Delete all faults."""
        self._faults.clear()
        self._active.clear()

    def any_needs_number(self, method: str, path: str) -> bool:
        """Return whether the recipient of a request is needed to choose its fault."""
        return any(
            fault.body.match.to is not None and fault.body.match.accepts_path(method, path)
            for fault in self._active
        )

    def take(self, method: str, path: str, to: str | None) -> Fault | None:
        """Return the first active fault that matches a request, and count its use."""
        fault = next((fault for fault in self._active if fault.body.match.accepts(method, path, to)), None)
        if fault is not None:
            fault.used += 1
            if fault.spent:
                self._active.remove(fault)
        return fault
