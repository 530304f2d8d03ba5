"""Each rule opens an alert on bad traffic, and closes it on good traffic or silence."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from otpqueue import clock
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import Alert, derive_tag
from otpqueue.domain.circuit import CircuitState
from tests.alerts import consistency
from tests.alerts.conftest import Deployment, MakeDeployment, numbers
from tests.alerts.receiving import Inbox, Receivers
from tests.conftest import forget_template

SENDS = {"path": "/2fa/2/pin"}
CHECKS = {"path": "*/verify"}
LATER = timedelta(minutes=70)
LIMITED = {"OTPQUEUE_LIMIT_NUMBER_15M": "3/15m"}
SMALL = {"min_sample": 4}
"""So few, and the traffic of a test is enough."""


def opened(deployment: Deployment, rule: str) -> Alert:
    """Evaluate until the rule must have opened its alert, and not before; return it."""
    after = RULES[rule].opens_after
    if after > 1:
        deployment.evaluate(after - 1, only=rule)
        assert deployment.open(rule) == []
    deployment.evaluate()
    (alert,) = deployment.open(rule)
    consistency.check(alert)
    return alert


def closed(deployment: Deployment, rule: str) -> None:
    """Evaluate until the rule must have closed its alert, and not before."""
    after = RULES[rule].closes_after
    if after > 1:
        deployment.evaluate(after - 1, only=rule)
        assert len(deployment.open(rule)) == 1
    deployment.evaluate(only=rule)
    assert deployment.open(rule) == []


def test_success_rate(deployment: Deployment) -> None:
    """Codes that are not sent open an alert, which closes once they are sent again."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(10))
    deployment.provider.clear_faults()
    deployment.send(numbers(20, first=10))

    alert = opened(deployment, "success_rate")

    assert (alert.subject, alert.sample, alert.threshold, alert.window_s) == ("all", 30, 0.95, 900)
    assert alert.value == pytest.approx(20 / 30)
    assert alert.evidence["figures"] == {"sent": 20, "failed": 10, "too_late": 0}
    assert alert.evidence["reasons"] == {"provider_refused": 10}
    assert len(alert.evidence["requests"]) == 5
    points = alert.evidence["series"]["points"]
    assert sum(point["sample"] for point in points) == 30
    with deployment.after(LATER):
        deployment.send(numbers(20, first=100))
    closed(deployment, "success_rate")


def test_number_requests(make_deployment: MakeDeployment) -> None:
    """A number that asks eleven times in an hour opens an alert, though most tries are refused by a limit."""
    deployment = make_deployment(**LIMITED)
    number = "+447700900123"
    accepted = [deployment.try_to_ask(number) for _ in range(10)]
    deployment.evaluate()
    assert deployment.open("number_requests") == []
    accepted.append(deployment.try_to_ask(number))

    alert = opened(deployment, "number_requests")

    assert accepted == [True] * 3 + [False] * 8
    assert (alert.value, alert.sample, alert.threshold, alert.window_s) == (11, 11, 10, 3600)
    tag = derive_tag(deployment.parts.vault.number_hash(number))
    assert alert.subject == f"+44********23 {tag}"
    assert alert.evidence["figures"] == {"accepted": 3, "refused": 8, "numbers_over": 1}
    assert alert.evidence["reasons"] == {"limit_number_15m": 8}
    assert len(alert.evidence["requests"]) == 3
    deployment.now += LATER
    closed(deployment, "number_requests")


def test_number_that_was_only_refused(make_deployment: MakeDeployment) -> None:
    """A number without a stored request is named by its tag."""
    deployment = make_deployment(OTPQUEUE_COUNTRIES_BLOCKED="GB")
    assert not any(deployment.try_to_ask("+447700900123") for _ in range(11))

    alert = opened(deployment, "number_requests")

    assert alert.subject == derive_tag(deployment.parts.vault.number_hash("+447700900123"))
    assert re.fullmatch("#[b-z]{6}", alert.subject or "")


def test_check_failures(deployment: Deployment) -> None:
    """Many wrong codes open an alert, and right ones close it."""
    tried = numbers(20)
    for place, (request, number) in enumerate(zip(deployment.send(tried), tried, strict=True)):
        deployment.check(request, number, right=place >= 7)

    alert = opened(deployment, "check_failures")

    assert (alert.value, alert.sample, alert.threshold) == (0.35, 20, 0.3)
    assert alert.evidence["figures"] == {"wrong": 7, "right": 13}
    assert len(alert.evidence["requests"]) == 5
    with deployment.after(LATER):
        more = numbers(3, first=50)
        for request, number in zip(deployment.send(more), more, strict=True):
            deployment.check(request, number, right=True)
    closed(deployment, "check_failures")


@pytest.mark.parametrize("match", [SENDS, CHECKS], ids=["sending", "checking"])
def test_provider_5xx(deployment: Deployment, match: dict[str, Any]) -> None:
    """One server error of Infobip's opens an alert, however few calls there are."""
    number = "+447700900123"
    deployment.provider.fault(status=503, times=1, match=match)
    (request,) = deployment.send([number])
    if match == CHECKS:
        with pytest.raises(Exception, match="could not check the code"):
            deployment.check(request, number, right=True)

    alert = opened(deployment, "provider_5xx")

    assert (alert.value, alert.threshold, alert.window_s) == (1, 1, 300)
    assert alert.evidence["figures"]["http_503"] == 1
    assert alert.evidence["requests"] == [str(request.id)]
    with deployment.after(LATER):
        deployment.send(["+447700900124"])
    closed(deployment, "provider_5xx")


def test_number_wrong_codes(deployment: Deployment) -> None:
    """Six wrong codes for one number open an alert about it, over all its requests."""
    number = "+447700900123"
    for guesses in (4, 2):
        (request,) = deployment.send([number])
        for _ in range(guesses):
            deployment.check(request, number, right=False)

    alert = opened(deployment, "number_wrong_codes")

    assert (alert.value, alert.threshold) == (6, 5)
    assert alert.subject == f"+44********23 {derive_tag(deployment.parts.vault.number_hash(number))}"
    deployment.now += LATER
    closed(deployment, "number_wrong_codes")


def test_client_wrong_codes(make_deployment: MakeDeployment) -> None:
    """A client's share of wrong codes opens an alert about that client, at the ceiling that is set for it."""
    deployment = make_deployment(
        OTPQUEUE_WRONG_SHARE="0.4",
        OTPQUEUE_TUNING_WRONG_SHARE_MIN_CHECKS="4",
        OTPQUEUE_TUNING_WRONG_SHARE_WINDOW_S="1800",
    )
    tried = numbers(4)
    for place, (request, number) in enumerate(zip(deployment.send(tried), tried, strict=True)):
        deployment.check(request, number, right=place < 2)

    alert = opened(deployment, "client_wrong_codes")

    assert (alert.subject, alert.value, alert.threshold, alert.window_s) == ("shop", 0.5, 0.4, 1800)
    assert len(alert.evidence["requests"]) == 2
    deployment.now += LATER
    closed(deployment, "client_wrong_codes")


def test_delivery_rate(make_deployment: MakeDeployment) -> None:
    """Codes that are reported as undelivered open an alert."""
    deployment = make_deployment({"delivery_rate": SMALL})
    deployment.report_as(outcome="undelivered", times=1)
    deployment.send(numbers(4))
    deployment.reports()

    alert = opened(deployment, "delivery_rate")

    assert (alert.value, alert.sample, alert.threshold) == (0.75, 4, 0.98)
    assert len(alert.evidence["requests"]) == 1
    with deployment.after(LATER):
        deployment.send(numbers(4, first=10))
        deployment.reports()
    closed(deployment, "delivery_rate")


def test_delivery_time(make_deployment: MakeDeployment) -> None:
    """Codes that arrive late open an alert."""
    deployment = make_deployment({"delivery_time": SMALL})
    deployment.report_as(outcome="delivered", delay_ms=60_000)
    deployment.send(numbers(4))
    deployment.reports()

    alert = opened(deployment, "delivery_time")

    assert 45 < alert.value < 65
    assert alert.sample == 4
    assert alert.evidence["series"]["unit"] == "seconds"
    deployment.now += LATER
    closed(deployment, "delivery_time")


def test_request_spike(make_deployment: MakeDeployment) -> None:
    """Far more requests than at this time of the days before open an alert."""
    deployment = make_deployment({"request_spike": SMALL})
    # Past days are kept by whole hours, and each evaluation moves the clock: stay within one hour.
    deployment.now = deployment.now.replace(minute=20) + timedelta(hours=1)
    for place in range(4):
        with deployment.after(timedelta(days=1) if place else timedelta()):
            deployment.send(numbers(2, first=place * 10))
        deployment.evaluate()
    assert deployment.open("request_spike") == []
    with deployment.after(timedelta(days=1)):
        deployment.send(numbers(7, first=100))

    alert = opened(deployment, "request_spike")

    assert (alert.value, alert.sample, alert.threshold) == (3.5, 7, 3)
    assert alert.evidence["figures"] == {
        "asked": 7,
        "refused": 0,
        "usual": 2,
        "days_known": 3,
        "compared_with": 2,
    }
    deployment.now += LATER
    closed(deployment, "request_spike")


def test_expired_share(make_deployment: MakeDeployment) -> None:
    """Unused codes open an alert."""
    deployment = make_deployment({"expired_share": SMALL})
    tried = numbers(4)
    (first, *_) = deployment.send(tried)
    deployment.check(first, tried[0], right=True)
    deployment.parts.expire(now=clock.now() + timedelta(minutes=6))
    deployment.now += timedelta(minutes=6)

    alert = opened(deployment, "expired_share")

    assert (alert.value, alert.sample, alert.threshold) == (0.75, 4, 0.5)
    assert alert.evidence["figures"]["never_typed"] == 3
    deployment.now += LATER
    closed(deployment, "expired_share")


def test_verify_time(make_deployment: MakeDeployment) -> None:
    """People who need far longer than usual to type their codes open an alert."""
    deployment = make_deployment({"verify_time": SMALL})
    verify(deployment, numbers(12), within=timedelta(seconds=40))
    deployment.now += timedelta(days=1)
    verify(deployment, numbers(4, first=20), within=timedelta(seconds=240))

    alert = opened(deployment, "verify_time")

    assert 4 < alert.value < 9
    assert alert.evidence["figures"]["usual_s"] == pytest.approx(40, abs=15)
    deployment.now += LATER
    closed(deployment, "verify_time")


def test_country_conversion(make_deployment: MakeDeployment) -> None:
    """A country with unused codes opens an alert."""
    deployment = make_deployment({"country_conversion": SMALL})
    deployment.send(numbers(4))

    alert = opened(deployment, "country_conversion")

    assert (alert.subject, alert.value, alert.sample) == ("GB", 0, 4)
    assert len(alert.evidence["requests"]) == 4
    with deployment.after(LATER):
        more = numbers(4, first=10)
        for request, number in zip(deployment.send(more), more, strict=True):
            deployment.check(request, number, right=True)
    closed(deployment, "country_conversion")


def test_queue_age(deployment: Deployment) -> None:
    """Codes that are not sent open an alert, which closes when they are sent."""
    request = deployment.ask("+447700900123")
    deployment.now = clock.now() + timedelta(seconds=11)

    alert = opened(deployment, "queue_age")

    assert 71 <= alert.value < 130
    assert (alert.sample, alert.window_s) == (1, 0)
    assert alert.evidence["requests"] == [str(request.id)]
    deployment.parts.pump.run()
    closed(deployment, "queue_age")


def test_cost_per_verified(make_deployment: MakeDeployment) -> None:
    """A verified number that costs more messages than usual opens an alert."""
    deployment = make_deployment({"cost_per_verified": SMALL})
    verify(deployment, numbers(12), within=timedelta(seconds=1))
    deployment.reports()
    deployment.now += timedelta(days=1)
    with deployment.after(timedelta()):
        tried = numbers(8, first=20)
        asked = deployment.send(tried)
        for request, number in zip(asked[:2], tried[:2], strict=True):
            deployment.check(request, number, right=True)
        deployment.reports()

    alert = opened(deployment, "cost_per_verified")

    assert (alert.value, alert.sample, alert.threshold) == (pytest.approx(4), 8, 2)
    assert alert.evidence["figures"]["currency"] == "EUR"
    assert (alert.evidence["figures"]["each"], alert.evidence["figures"]["usual_each"]) == (0.04, 0.01)
    deployment.now += 6 * LATER
    closed(deployment, "cost_per_verified")


def test_circuit_open(make_deployment: MakeDeployment) -> None:
    """A circuit that opens raises an alert, and closes it with itself."""
    deployment = make_deployment(OTPQUEUE_TUNING_CIRCUIT_FAILURES="1", OTPQUEUE_SEND_WITHIN_S="0.5")
    deployment.provider.fault(status=503, match=SENDS)
    deployment.send(["+447700900123"])

    alert = opened(deployment, "circuit_open")

    assert alert.evidence["figures"]["circuit"] in {CircuitState.OPEN, CircuitState.HALF_OPEN}
    deployment.provider.clear_faults()
    deployment.send(["+447700900124"])
    closed(deployment, "circuit_open")


@pytest.mark.parametrize("status", [401, 403])
def test_provider_misconfigured(make_deployment: MakeDeployment, status: int) -> None:
    """A key, application or template that Infobip refuses opens an alert at the first send."""
    deployment = make_deployment(OTPQUEUE_SEND_WITHIN_S="0.5")
    deployment.provider.fault(status=status, match=SENDS)
    (request,) = deployment.send(["+447700900123"])

    alert = opened(deployment, "provider_misconfigured")

    assert alert.value >= 1
    assert alert.evidence["figures"][f"http_{status}"] >= 1
    assert alert.evidence["requests"] == [str(request.id)]
    deployment.provider.clear_faults()
    with deployment.after(LATER):
        deployment.send(["+447700900124"])
    closed(deployment, "provider_misconfigured")


def test_missing_template(make_deployment: MakeDeployment) -> None:
    """An unknown template opens an alert with the language in its evidence."""
    deployment = make_deployment(
        OTPQUEUE_SEND_WITHIN_S="0.5", OTPQUEUE_TEMPLATES='{"fr": "Votre code : {{pin}}"}'
    )
    forget_template(deployment.parts, "fr")
    request = deployment.ask("+447700900123", language="fr")
    deployment.parts.pump.run()

    alert = opened(deployment, "provider_misconfigured")

    assert alert.evidence["figures"]["http_404"] >= 1
    assert list(alert.evidence["reasons"]) == ["template_not_found:fr"]
    assert alert.evidence["requests"] == [str(request.id)]


def test_404_of_one_number_is_no_misconfiguration(make_deployment: MakeDeployment) -> None:
    """A number that Infobip does not find opens no alert about our configuration, and no circuit."""
    deployment = make_deployment(OTPQUEUE_TUNING_MAX_ATTEMPTS="3")
    deployment.provider.fault(status=404, match={"to": "447700900123"})
    deployment.send(["+447700900123", "+447700900124"])

    deployment.evaluate(2)

    assert not {"provider_misconfigured", "circuit_open"} & set(deployment.rules_open())


def test_webhook_disabled(make_deployment: MakeDeployment) -> None:
    """A receiver that says 410 opens an alert about its client, and an operator who enables it closes it."""
    deployment = make_deployment(OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true")
    receivers, webhooks = Receivers(Inbox()), deployment.parts.webhooks
    webhooks.set("shop", receivers.url, events=(), now=clock.now())
    deployment.evaluate()
    assert deployment.open() == []
    with receivers.up():
        receivers.inbox.status = 410
        deployment.send(["+447700900123"])
        deployment.parts.webhook_pump.run()

    alert = opened(deployment, "webhook_disabled")

    assert alert.subject == "shop"
    assert alert.evidence["figures"]["reason"] == "gone"
    webhooks.enable("shop", now=clock.now())
    closed(deployment, "webhook_disabled")


def verify(deployment: Deployment, tried: list[str], *, within: timedelta) -> None:
    """Send codes, and have each typed after this time."""
    with deployment.after(timedelta()):
        asked = deployment.send(tried)
    with deployment.after(within):
        for request, number in zip(asked, tried, strict=True):
            deployment.check(request, number, right=True)
