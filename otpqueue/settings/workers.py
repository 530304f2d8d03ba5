"""Settings of the workers: sending, retries, the circuit breaker, leases and periodic jobs."""

from __future__ import annotations

from typing import ClassVar

from otpqueue.settings.fields import (
    API_AND_WORKERS,
    WORKERS,
    Seconds,
    SettingsSubject,
    constant,
    setting,
)


class WorkerSettings(SettingsSubject):
    """How workers send codes, and how often periodic jobs run."""

    TITLE: ClassVar[str] = "Workers and periodic jobs"
    USED_BY: ClassVar[str] = WORKERS

    sender_threads: int = setting(
        64,
        "OTPQUEUE_SENDER_THREADS",
        "concurrent sends, and connections to Infobip, per worker process",
        ge=1,
        le=512,
    )
    max_attempts: int = constant(
        6, "OTPQUEUE_TUNING_MAX_ATTEMPTS", "attempts to send per request", ge=1, le=20
    )
    unknown_resends: int = setting(
        1, "OTPQUEUE_UNKNOWN_RESENDS", "resends after an attempt with an unknown outcome", ge=0, le=5
    )
    backoff_base_s: Seconds = constant(
        0.5, "OTPQUEUE_TUNING_BACKOFF_BASE_S", "maximum of the first backoff; it doubles with each retry"
    )
    backoff_max_s: Seconds = constant(15, "OTPQUEUE_TUNING_BACKOFF_MAX_S", "backoff ceiling")
    circuit_failures: int = constant(
        10, "OTPQUEUE_TUNING_CIRCUIT_FAILURES", "consecutive failed sends that open the circuit breaker", ge=1
    )
    circuit_pause_s: Seconds = constant(
        1,
        "OTPQUEUE_TUNING_CIRCUIT_PAUSE_S",
        "first pause of the open circuit; it doubles with each failed probe",
    )
    circuit_pause_max_s: Seconds = constant(
        15, "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S", "maximum pause of the open circuit"
    )
    send_lease_s: Seconds = constant(
        30,
        "OTPQUEUE_TUNING_SEND_LEASE_S",
        "lease of a claimed request; at least twice `OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S`",
    )
    check_lease_s: Seconds = constant(
        20,
        "OTPQUEUE_TUNING_CHECK_LEASE_S",
        "lease of a check; longer than `OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S`",
    )
    job_s: Seconds = constant(
        10,
        "OTPQUEUE_TUNING_JOB_S",
        "maximum run time of a `send_codes` job; it enqueues its successor before it ends",
    )
    job_linger_s: float = constant(
        1,
        "OTPQUEUE_TUNING_JOB_LINGER_S",
        "how long a `send_codes` job waits for more requests after its last send",
        ge=0,
        le=60,
    )
    stop_within_s: Seconds = setting(
        20,
        "OTPQUEUE_STOP_WITHIN_S",
        "graceful shutdown timeout of a worker; a second SIGTERM ends it at once",
    )
    sweep_every_s: Seconds = constant(5, "OTPQUEUE_TUNING_SWEEP_EVERY_S", "interval of `sweep`")
    expire_every_s: Seconds = constant(15, "OTPQUEUE_TUNING_EXPIRE_EVERY_S", "interval of `expire`")
    roll_up_every_s: Seconds = constant(
        10, "OTPQUEUE_TUNING_ROLL_UP_EVERY_S", "interval of `roll_up`, which updates the statistics"
    )
    purge_every_s: Seconds = constant(3600, "OTPQUEUE_TUNING_PURGE_EVERY_S", "interval of `purge`")
    retention_days: int = setting(
        30,
        "OTPQUEUE_RETENTION_DAYS",
        "how long ended requests are kept, 1 to 90 days",
        used_by=API_AND_WORKERS,
        ge=1,
        le=90,
    )
    audit_retention_days: int = setting(
        1096,
        "OTPQUEUE_AUDIT_RETENTION_DAYS",
        "how long the audit trail is kept, at least 30 days ([audit.md](audit.md))",
        used_by=API_AND_WORKERS,
        ge=30,
        le=36_500,
    )
