"""Checks the Infobip account: the API key, and application and templates against the policy for codes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from otpqueue import clock, policies
from otpqueue.cli.doctor.findings import (
    FindingDraft,
    report_failure,
    report_ok,
    report_warning,
)
from otpqueue.cli.doctor.stores import require_database
from otpqueue.domain.templates import ProviderIds
from otpqueue.infobip import inspection
from otpqueue.infobip.inspection import ExpectedVolume, InspectionFailed, PolicyProblem
from otpqueue.infobip.transport import ProviderResponse
from otpqueue.wiring import Parts

_TIMEOUT_S = 8.0
_PROVISION = "Run `otpqueue provision`, which corrects it."


def check_api_key(parts: Parts) -> Iterator[FindingDraft]:
    """List the applications with the API key."""
    where = "the simulator" if is_simulated(parts) else "Infobip"
    reply = parts.transport.call("GET", "/2fa/2/applications", timeout_s=_TIMEOUT_S)
    if not isinstance(reply, ProviderResponse):
        yield report_failure(
            f"{where} does not answer ({reply.code})",
            "Check INFOBIP_BASE_URL and the way out of the network.",
        )
    elif reply.status in {401, 403}:
        yield report_failure(
            f"{where} rejects the API key (HTTP {reply.status})",
            "Correct INFOBIP_API_KEY: it must be active and have the 2FA scope.",
        )
    elif not 200 <= reply.status < 300:
        yield report_failure(
            f"{where} answers HTTP {reply.status}", "Check INFOBIP_BASE_URL and Infobip's status."
        )
    else:
        yield report_ok(f"{where} accepts the API key")
    if parts.settings.track_delivery and not (
        parts.settings.receipts_user or parts.settings.poll_receipts_every_s
    ):
        yield report_warning(
            "delivery reports are requested, but neither received nor polled",
            "Set OTPQUEUE_RECEIPTS_USER and OTPQUEUE_RECEIPTS_PASSWORD, or OTPQUEUE_POLL_RECEIPTS_EVERY_S.",
        )


def is_simulated(parts: Parts) -> bool:
    """Return whether the provider is on this machine: only the simulator may use plain HTTP."""
    return (parts.settings.infobip_base_url or "").startswith("http:")


def check_application(parts: Parts) -> Iterator[FindingDraft]:
    """Read the application and the templates back, and compare them with the policy."""
    if parts.provision.given is None:
        require_database(parts)
    ids = parts.provision.ids()
    if ids is None:
        yield report_failure("no application is provisioned", "Run `otpqueue provision`.")
        return
    problems = 0
    for problem in _inspect_everything(parts, ids):
        problems += 1
        yield problem
    if not problems:
        yield report_ok(f"the application and {len(ids.message_ids)} templates comply with the policy")


def _inspect_everything(parts: Parts, ids: ProviderIds) -> Iterator[FindingDraft]:
    expected = ExpectedVolume(total=parts.caps.overall, per_number=_compute_sends_per_number(parts))
    try:
        application = inspection.fetch_application(parts.transport, ids, timeout_s=_TIMEOUT_S)
        yield from map(_describe_problem, inspection.inspect_application(application, expected))
        templates = inspection.fetch_templates(parts.transport, ids, timeout_s=_TIMEOUT_S)
    except InspectionFailed as failure:
        remedy = "Run `otpqueue provision`." if failure.status == 404 else "Fix the API key first."
        yield report_failure(f"the application or a template cannot be read: {failure}", remedy)
        return
    for key, template in templates.items():
        yield from map(_describe_problem, inspection.inspect_template(key, template))
    if parts.caps.overall is None:
        yield report_warning("no daily cap limits what an attack can cost", "Set OTPQUEUE_DAILY_CAP.")
    if parts.provision.given is None:
        planned = parts.provision(parts.transport, now=clock.now(), dry_run=True).actions
        if planned:
            yield report_warning(f"Infobip differs from the settings: {'; '.join(planned)}", _PROVISION)


def _compute_sends_per_number(parts: Parts) -> float | None:
    quota = policies.quotas(parts.settings).get("number_day_all")
    return None if quota is None else quota.amount * (timedelta(days=1).total_seconds() / quota.window_s)


def _describe_problem(problem: PolicyProblem) -> FindingDraft:
    if problem.refused:
        return report_failure(problem.what, _PROVISION)
    return report_warning(
        problem.what, "Raise the limit, or lower the setting, and run `otpqueue provision`."
    )
