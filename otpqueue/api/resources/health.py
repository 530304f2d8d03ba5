"""`/health`: for the guide's clients, for people, and for orchestrators."""

from __future__ import annotations

import json
from collections.abc import Mapping

import falcon

from otpqueue import clock
from otpqueue.api.sharing import Shared
from otpqueue.domain.caps import CapScope
from otpqueue.domain.heartbeats import Liveness
from otpqueue.operations.health import CheckHealth, HealthStatus

_WORDS = {
    Liveness.RUNNING: "running",
    Liveness.STARTING: "starting",
    Liveness.CUT_OFF: "cut off from the broker",
    Liveness.SILENT: "silent",
}


class Health:
    """`/health`: the state of every part; `/health/ready`: the same for load balancers; `/health/live`."""

    def __init__(self, check: CheckHealth) -> None:
        self._check = Shared(lambda: check(now=clock.now()))

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200 while calls can be answered, 503 when not."""
        healthy = self._check()
        resp.status = falcon.HTTP_200 if healthy.serves else falcon.HTTP_503
        resp.text = json.dumps(_representation(healthy))

    # Load balancers probe with HEAD, too.
    on_head = on_get_ready = on_head_ready = on_get

    def on_get_live(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200: the process lives."""
        resp.text = json.dumps({"status": "ok"})

    on_head_live = on_get_live


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
