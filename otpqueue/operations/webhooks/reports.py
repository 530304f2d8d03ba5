"""Logs and metrics of the outcomes of webhooks."""

from __future__ import annotations

from otpqueue.store.webhooks.deliveries import DeliveryResult, EndedEndpoint, WebhookDelivery
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


def describe_delivery(delivery: WebhookDelivery) -> dict[str, str]:
    """Return which delivery it is, for the log."""
    return {
        "webhook_id": str(delivery.id),
        "otp_id": str(delivery.request_id),
        "client_id": str(delivery.client_id),
    }


def report_delivery(result: DeliveryResult) -> None:
    """Log and count a try that is recorded."""
    delivery, answer = result.delivery, result.answer
    fields = {
        **describe_delivery(delivery),
        "webhook_event": delivery.event,
        "try_number": delivery.tries,
    }
    if answer is None:
        metrics.count(metrics.WEBHOOKS, "given_back")
        log.info("webhook_given_back", **fields)
    elif answer.is_success:
        metrics.count(metrics.WEBHOOKS, "delivered")
        log.info("webhook_delivered", **fields, http_status=answer.status)
    elif result.next_try_at:
        metrics.count(metrics.WEBHOOKS, "failed")
        log.warning(
            "webhook_failed",
            **fields,
            http_status=answer.status,
            problem=answer.reason,
            next_try_at=result.next_try_at.isoformat(),
        )
    else:
        metrics.count(metrics.WEBHOOKS, "given_up")
        log.warning("webhook_given_up", **fields, http_status=answer.status, problem=answer.reason)


def report_disabled(endpoint: EndedEndpoint) -> None:
    """Log that an endpoint was disabled."""
    log.error(
        "webhook_disabled",
        client_id=str(endpoint.client_id),
        reason=endpoint.reason.value,
        failing_since=endpoint.failing_since.isoformat(),
    )
