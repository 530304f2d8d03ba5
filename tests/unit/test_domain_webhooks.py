"""Webhooks: events, signatures and retries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from otpqueue.domain import webhooks
from otpqueue.domain.errors import InvalidRequest
from otpqueue.domain.request import Status
from otpqueue.domain.webhooks import RETRIES, WebhookEvent, WebhookResponse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
jitters = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.lists(jitters, min_size=len(RETRIES) + 1, max_size=len(RETRIES) + 1))
def test_tries_are_bounded_and_their_pauses_grow(drawn: list[float]) -> None:
    """Whatever the jitter is, each pause is longer than the one before, and after about a day they end."""
    at, pauses = NOW, []
    for tries, jitter in enumerate(drawn, 1):
        again = webhooks.compute_retry_at(tries, now=at, jitter=jitter)
        if again is None:
            break
        pauses.append(again - at)
        at = again

    assert len(pauses) == len(RETRIES) == len(drawn) - 1
    assert pauses == sorted(set(pauses))
    assert timedelta(hours=23) < sum(pauses, timedelta()) < timedelta(hours=29)
    for pause, least in zip(pauses, RETRIES, strict=True):
        assert least <= pause <= least * (1 + webhooks.JITTER)


def test_jitter_spreads() -> None:
    """Deliveries that failed together are retried at different times."""
    assert webhooks.compute_retry_at(4, now=NOW, jitter=0) != webhooks.compute_retry_at(
        4, now=NOW, jitter=0.5
    )


@pytest.mark.parametrize("status", sorted(Status))
def test_every_status_but_the_first_has_an_event(status: Status) -> None:
    """Each status after `queued` has an event."""
    event = webhooks.find_event(status)

    assert event == (None if status is Status.QUEUED else f"otp_request.{status}")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], list(WebhookEvent)),
        (["sent"], [WebhookEvent.SENT]),
        (["verified", "otp_request.sent", "sent"], [WebhookEvent.SENT, WebhookEvent.VERIFIED]),
    ],
)
def test_events_are_named(names: list[str], chosen: list[WebhookEvent]) -> None:
    """Events are named in full or by their status; none stands for all."""
    assert list(webhooks.parse_events(names)) == chosen


@pytest.mark.parametrize("name", ["queued", "otpqueue.test", "otp_request.", "", "SENT"])
def test_unknown_event_is_refused(name: str) -> None:
    """An unknown event is rejected."""
    with pytest.raises(InvalidRequest, match="not valid") as raised:
        webhooks.parse_events(["sent", name])

    assert "sent, delivered, undelivered" in raised.value.errors[0].message


def test_body_is_that_of_the_standard() -> None:
    """Type, timestamp and data, times in UTC, nothing else; letters of any language survive."""
    at = datetime(2026, 3, 1, 13, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))

    text = webhooks.build_body(WebhookEvent.SENT, at, {"client_reference": "Grüße 你好"})

    assert json.loads(text) == {
        "type": "otp_request.sent",
        "timestamp": "2026-03-01T12:30:00.123Z",
        "data": {"client_reference": "Grüße 你好"},
    }
    assert text.isascii()


def test_secret_is_that_of_the_standard() -> None:
    """A secret is `whsec_` and 24 to 64 random bytes in Base64; none is made twice."""
    made = {webhooks.generate_secret() for _ in range(100)}

    assert len(made) == 100
    for secret in made:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64


def signed(*secrets: str, text: str = '{"type":"x"}', now: datetime | None = None) -> dict[str, str]:
    """Return the headers of a body."""
    return webhooks.build_headers(secrets, webhook_id="id-1", now=now or datetime.now(UTC), text=text)


def test_signature_is_verified_by_the_library() -> None:
    """A receiver that uses the standard's library takes it, and no other body, id, time or secret."""
    secret, other = webhooks.generate_secret(), webhooks.generate_secret()
    headers = signed(secret)

    assert Webhook(secret).verify('{"type":"x"}', headers) == {"type": "x"}
    for changed in (
        {"webhook-id": "id-2"},
        {"webhook-timestamp": str(int(datetime.now(UTC).timestamp()) - 60)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify('{"type":"x"}', headers | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify('{"type":"y"}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify('{"type":"x"}', headers)


def test_signature_is_verified_by_hand() -> None:
    """HMAC-SHA256 over id, timestamp and body with dots between, keyed with what the secret encodes."""
    secret = webhooks.generate_secret()
    headers = signed(secret, text="{}", now=NOW)

    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{{}}".encode()
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_time_in_another_zone_is_the_same_moment() -> None:
    """The time zone of a datetime does not change the text."""
    secret = webhooks.generate_secret()

    assert signed(secret, now=NOW) == signed(secret, now=NOW.astimezone(timezone(timedelta(hours=9))))


def test_both_secrets_sign_while_one_replaces_the_other() -> None:
    """A receiver that still has the old secret takes it as well as one that has the new one."""
    new, old = webhooks.generate_secret(), webhooks.generate_secret()
    headers = signed(new, old)

    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        Webhook(secret).verify('{"type":"x"}', headers)


@pytest.mark.parametrize(
    ("answer", "success", "gone", "text"),
    [
        (WebhookResponse(status=200), True, False, "HTTP 200"),
        (WebhookResponse(status=204), True, False, "HTTP 204"),
        (WebhookResponse(status=199), False, False, "HTTP 199"),
        (WebhookResponse(status=302), False, False, "HTTP 302"),
        (WebhookResponse(status=410), False, True, "HTTP 410"),
        (WebhookResponse(status=500), False, False, "HTTP 500"),
        (WebhookResponse(reason="timeout"), False, False, "timeout"),
    ],
)
def test_only_2xx_is_a_success(answer: WebhookResponse, success: bool, gone: bool, text: str) -> None:
    """Any other status is retried, except 410."""
    assert (answer.is_success, answer.is_gone, str(answer)) == (success, gone, text)
