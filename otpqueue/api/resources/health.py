"""`/health`: health checks, for operators and orchestrators."""

from __future__ import annotations

from collections.abc import Mapping

import falcon
from pydantic import Field

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.coalescing import CoalescedProbe
from otpqueue.api.endpoints import OPEN, ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ResponseModel
from otpqueue.domain.caps import CapScope
from otpqueue.domain.heartbeats import Liveness
from otpqueue.operations.health import CheckHealth, HealthStatus

_WORDS = {
    Liveness.RUNNING: "running",
    Liveness.STARTING: "starting",
    Liveness.CUT_OFF: "cut off from the broker",
    Liveness.SILENT: "silent",
}


class HealthResponse(ResponseModel):
    """The health of the service and of each part."""

    status: str = Field(description="`healthy`, `degraded` or `unhealthy`")
    redis: str = Field(description="`connected`, `unreachable` or `refuses writes`")
    infobip: str = Field(
        description="`connected`, `no recent traffic`, `failing: CAUSE`, `paused: CAUSE`, `not configured` "
        "or `unknown`; CAUSE is `no answer`, `answers 5xx`, `answers 401 or 403` or `answers 404`"
    )
    database: str = Field(description="`connected`, `unreachable` or `not migrated`")
    workers: str = Field(
        description="`running`, or the queues that are `silent`, `cut off from the broker` or `starting`"
    )
    beat: str = Field(description="`running`, `starting`, `cut off from the broker`, `silent` or `unknown`")
    clock_skew_s: float | None = Field(
        description="difference between the clocks of a host and of Postgres, for the host with the largest "
        "one"
    )
    sending: str = Field(description="`on`, `stopped` or `stopped in part`")
    timestamp: str = Field(description="time of the check")


class AliveResponse(ResponseModel):
    """The process is running."""

    status: str


_ANSWERS = {
    200: Success(description="Calls can be answered", model=HealthResponse),
    503: Success(description="Calls cannot be answered", model=HealthResponse),
}


class Health:
    """`/health`, `/health/ready` and `/health/live`."""

    def __init__(self, check: CheckHealth) -> None:
        self._check = CoalescedProbe(lambda: check(now=clock.now()))

    @serves(
        ApiEndpoint(
            method="GET",
            path="/health",
            operation_id="getHealth",
            tag=tags.MONITORING,
            summary="Health of every part",
            description="200 while calls can be answered (`healthy`, `degraded`), else 503 (`unhealthy`).",
            successes=_ANSWERS,
            access=OPEN,
        )
    )
    def on_get(self, call: ApiCall) -> HealthResponse:
        """Answer 200 while calls can be answered, else 503."""
        return self._answer(call)

    @serves(
        ApiEndpoint(
            method="GET",
            path="/health/ready",
            operation_id="getReadiness",
            tag=tags.MONITORING,
            summary="Readiness",
            description="Whether to route calls to this server. As `/health`.",
            successes=_ANSWERS,
            access=OPEN,
        )
    )
    def on_get_ready(self, call: ApiCall) -> HealthResponse:
        """Answer 200 while calls can be answered, else 503."""
        return self._answer(call)

    @serves(
        ApiEndpoint(
            method="GET",
            path="/health/live",
            operation_id="getLiveness",
            tag=tags.MONITORING,
            summary="Liveness",
            description="Whether the process is running. Checks nothing else.",
            successes={200: Success(description="The process is running", model=AliveResponse)},
            access=OPEN,
        )
    )
    def on_get_live(self, _call: ApiCall) -> AliveResponse:
        """Answer 200."""
        return AliveResponse(status="ok")

    # Load balancers send HEAD, too.
    on_head, on_head_ready, on_head_live = on_get, on_get_ready, on_get_live

    def _answer(self, call: ApiCall) -> HealthResponse:
        healthy = self._check.run()
        call.resp.status = falcon.HTTP_200 if healthy.serves else falcon.HTTP_503
        return HealthResponse.model_validate(_representation(healthy))


def _representation(healthy: HealthStatus) -> dict[str, str | float | None]:
    def word(works: bool) -> str:
        return "connected" if works else "unreachable"

    sending = "stopped in part" if healthy.stopped else "on"
    if CapScope.ALL in healthy.stopped:
        sending = "stopped"
    status = "healthy" if healthy.whole else "degraded" if healthy.serves else "unhealthy"
    return {
        "status": status,
        "redis": "refuses writes" if healthy.redis_refuses else word(healthy.redis),
        "infobip": healthy.infobip_status,
        "database": "not migrated" if healthy.database and not healthy.migrated else word(healthy.database),
        "workers": _workers(healthy.queues),
        "beat": "unknown" if healthy.beat is None else _WORDS[healthy.beat],
        "clock_skew_s": None if healthy.skew_s is None else round(healthy.skew_s, 3),
        "sending": sending,
        "timestamp": clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _workers(queues: Mapping[str, Liveness] | None) -> str:
    if queues is None:
        return "unknown"
    by_life = {life: [queue for queue, how in queues.items() if how is life] for life in Liveness}
    others = (Liveness.SILENT, Liveness.CUT_OFF, Liveness.STARTING)
    troubles = [f"{_WORDS[life]}: {', '.join(by_life[life])}" for life in others if by_life[life]]
    return "; ".join(troubles) or _WORDS[Liveness.RUNNING]
