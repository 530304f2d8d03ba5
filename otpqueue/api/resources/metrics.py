"""`/metrics`: what Prometheus asks for."""

from __future__ import annotations

from dataclasses import dataclass

import falcon

from otpqueue.api.auth import Door
from otpqueue.domain.errors import Unauthenticated
from otpqueue.operations.stats.gauges import ReadGauges
from otpqueue.telemetry import metrics


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """`/metrics`. With a token that is asked for, without one an API key with the scope `admin`.

    A key is looked up in Postgres: only with a token can it be seen that Postgres is down.
    """

    door: Door
    token: str | None
    readings: ReadGauges

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with all metrics, whatever is down."""
        self._enter(req)
        resp.content_type = metrics.CONTENT_TYPE
        resp.data = metrics.page(self.readings())

    def _enter(self, req: falcon.Request) -> None:
        if self.token is None:
            self.door.enter(req, "admin")
        elif not metrics.is_token(req.get_header("Authorization"), self.token):
            raise Unauthenticated("Send the token of OTPQUEUE_METRICS_TOKEN: `Authorization: Bearer ...`.")
