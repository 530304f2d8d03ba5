"""`/metrics`: metrics for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass, field

import falcon
from pydantic import RootModel

from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication, Caller, read_bearer
from otpqueue.api.endpoints import API_KEY_ERRORS, Access, ApiCall, ApiEndpoint, Success, serves
from otpqueue.domain.errors import CredentialFault, Unauthenticated
from otpqueue.operations.stats.gauges import ReadGauges
from otpqueue.telemetry import metrics_page

_ACCESS = Access(
    errors=API_KEY_ERRORS,
    security=({"apiKey": []}, {"metricsToken": []}),
    note="scope {scopes}, or OTPQUEUE_METRICS_TOKEN if it is set",
)


class MetricsResponse(RootModel[str]):
    """Metrics in Prometheus's text format, version 0.0.4."""


@dataclass(frozen=True, kw_only=True)
class MetricsAuthentication:
    """Identifies callers by a token, or without a token by an API key.

    API keys are stored in Postgres: only a token gives access to metrics while Postgres is down.
    """

    api_keys: ApiKeyAuthentication
    token: str | None = field(repr=False)

    def authenticate(self, req: falcon.Request) -> Caller | None:
        """Return the caller, None for one with the token. Raises Unauthenticated, DatabaseUnavailable."""
        if self.token is None:
            return self.api_keys.authenticate(req)
        authorization = req.get_header("Authorization")
        if not metrics_page.is_valid_token(authorization, self.token):
            read_bearer(authorization)
            raise Unauthenticated(CredentialFault.WRONG_TOKEN)
        return None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """`/metrics`."""

    authentication: MetricsAuthentication
    readings: ReadGauges

    @serves(
        ApiEndpoint(
            method="GET",
            path="/metrics",
            operation_id="getMetrics",
            tag=tags.MONITORING,
            summary="Metrics (for Prometheus)",
            description="Counters and histograms of this server's processes, and gauges of the whole service "
            "from Postgres and Redis: [docs/metrics.md](/docs/metrics). If OTPQUEUE_METRICS_TOKEN is set, it "
            "is the bearer token, and API keys are not accepted.",
            successes={
                200: Success(description="All metrics", model=MetricsResponse, media_type="text/plain")
            },
            access=_ACCESS,
            scopes=("admin",),
        )
    )
    def on_get(self, call: ApiCall) -> bytes:
        """Answer with all metrics, also while Postgres or Redis is down."""
        call.resp.content_type = metrics_page.CONTENT_TYPE
        return metrics_page.render_page(self.readings())
