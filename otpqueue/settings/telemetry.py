"""Settings of metrics, logs and traces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from otpqueue.settings.fields import (
    ALL,
    API_AND_WORKERS,
    WORKERS,
    Optional,
    Secret,
    SettingsSubject,
    is_one_word,
    setting,
)


class TelemetrySettings(SettingsSubject):
    """Metrics, logs and traces."""

    TITLE: ClassVar[str] = "Metrics, logs and traces"
    USED_BY: ClassVar[str] = API_AND_WORKERS

    metrics_token: Secret = setting(
        None,
        "OTPQUEUE_METRICS_TOKEN",
        "bearer token of `/metrics`, at least 16 characters; unless set, `/metrics` needs an API key with "
        "`admin` ([metrics.md](metrics.md))",
    )
    worker_metrics_port: Annotated[int | None, Optional, Field(ge=1, le=65535)] = setting(
        None,
        "OTPQUEUE_WORKER_METRICS_PORT",
        "port of a worker's `/metrics`, different for each worker on a machine; off unless set",
        used_by=WORKERS,
    )
    worker_metrics_host: str = setting(
        "127.0.0.1", "OTPQUEUE_WORKER_METRICS_HOST", "address of a worker's `/metrics`", used_by=WORKERS
    )
    log_format: Literal["json", "readable"] = setting(
        "json", "OTPQUEUE_LOG_FORMAT", "`json` or `readable`", used_by=ALL
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "INFO", "OTPQUEUE_LOG_LEVEL", "`DEBUG`, `INFO`, `WARNING` or `ERROR`", used_by=ALL
    )
    traces: bool = setting(
        False, "OTPQUEUE_TRACES", "send OpenTelemetry traces; needs `otpqueue[otel]` ([traces.md](traces.md))"
    )

    def find_problems(self) -> list[str]:
        """Return a line for each combination of values that cannot work."""
        problems = super().find_problems()
        token = self.metrics_token
        if not is_one_word(token) or (token and len(token.get_secret_value()) < 16):
            problems.append(
                "OTPQUEUE_METRICS_TOKEN must be 16 or more characters of printable ASCII without spaces"
            )
        if self.worker_metrics_port and not token:
            problems.append("OTPQUEUE_WORKER_METRICS_PORT needs OTPQUEUE_METRICS_TOKEN")
        return problems
