"""Webhooks that the service signs are verified by the Python client, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from otpqueue.client import InvalidWebhookError, verify_webhook
from otpqueue.domain import webhooks
from otpqueue.domain.webhooks import WebhookEvent

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = AT.timestamp()
OLD, NEW, OTHER = (webhooks.generate_secret() for _ in range(3))
BODY = webhooks.build_body(WebhookEvent.SENT, AT, {"id": "1", "status": "sent"})


def signed(*secrets: str, body: str = BODY, at: datetime = AT) -> dict[str, str]:
    """Return the headers of a delivery."""
    return webhooks.build_headers(secrets, webhook_id="msg_1", now=at, text=body)


@pytest.mark.parametrize("body", [BODY, BODY.encode()], ids=["text", "bytes"])
def test_genuine(body: str | bytes) -> None:
    """A genuine webhook is returned with its id, type, time and data."""
    event = verify_webhook(signed(NEW), body, NEW, now=NOW)

    assert (event.id, event.type, event.timestamp) == ("msg_1", "otp_request.sent", AT)
    assert event.data == {"id": "1", "status": "sent"}


@pytest.mark.parametrize("signing", [(NEW, OLD), (OLD,), (NEW,)])
@pytest.mark.parametrize("known", [(NEW, OLD), (OLD, NEW), (OTHER, OLD, NEW)])
def test_rotation(signing: tuple[str, ...], known: tuple[str, ...]) -> None:
    """While a secret is rotated, one common secret is enough, whatever the order."""
    assert verify_webhook(signed(*signing), BODY, known, now=NOW).id == "msg_1"


def test_header_names_in_any_case() -> None:
    """Frameworks write header names differently."""
    headers = {name.title(): value for name, value in signed(NEW).items()}

    assert verify_webhook(headers, BODY, NEW, now=NOW).id == "msg_1"


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "noon"},
        {"webhook-timestamp": "²"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,AAAA v2,BBBB é"},
        {"webhook-id": ""},
    ],
    ids=str,
)
def test_changed_headers(changed: dict[str, str]) -> None:
    """A changed or missing header is not genuine."""
    with pytest.raises(InvalidWebhookError):
        verify_webhook(signed(NEW) | changed, BODY, NEW, now=NOW)


def test_forgeries() -> None:
    """Another body, secret or version of the signature is not genuine."""
    second_version = {"webhook-signature": signed(NEW)["webhook-signature"].replace("v1,", "v2,")}
    for headers, body, secret in [
        (signed(NEW), BODY + " ", NEW),
        (signed(NEW), BODY, OTHER),
        (signed(NEW) | second_version, BODY, NEW),
        ({}, BODY, NEW),
    ]:
        with pytest.raises(InvalidWebhookError):
            verify_webhook(headers, body, secret, now=NOW)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_replays(minutes: int) -> None:
    """A delivery with a time too far off may be a replay."""
    headers = signed(NEW, at=AT + timedelta(minutes=minutes))

    with pytest.raises(InvalidWebhookError, match="too far"):
        verify_webhook(headers, BODY, NEW, now=NOW)
    assert verify_webhook(headers, BODY, NEW, now=NOW, tolerance=600).id == "msg_1"


@pytest.mark.parametrize("body", ["[]", "{}", "1", "nonsense", '{"type":"x","timestamp":"noon","data":{}}'])
def test_signed_but_no_event(body: str) -> None:
    """A genuine body that is no event is rejected, too."""
    with pytest.raises(InvalidWebhookError, match="not an event"):
        verify_webhook(signed(NEW, body=body), body, NEW, now=NOW)


@pytest.mark.parametrize("secrets", [(), "", "whsec_", "whsec_é", "nonsense!", ["whsec_AAAA", "whsec_"]])
def test_bad_secrets(secrets: str | list[str]) -> None:
    """A secret that is not one is a mistake of the receiver, and is not shown."""
    with pytest.raises(ValueError, match="secret") as invalid:
        verify_webhook(signed(NEW), BODY, secrets, now=NOW)

    assert "nonsense" not in str(invalid.value)


def test_reference_library() -> None:
    """What the standard's own library signs is genuine."""
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": Webhook(NEW).sign("msg_1", AT, BODY),
    }

    assert verify_webhook(headers, BODY, NEW, now=NOW).type == "otp_request.sent"
