"""Each rule opens an alert when real traffic is bad, and closes it when it is good again."""

from __future__ import annotations

from datetime import timedelta

from tests.alerts.conftest import Deployment, numbers

SENDS = {"path": "/2fa/2/pin"}
LATER = timedelta(minutes=20)


def test_success_rate(deployment: Deployment) -> None:
    """Codes that do not get out open an alert at the second look; it closes once they do again."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(10))
    deployment.provider.clear_faults()
    deployment.send(numbers(20, first=10))

    deployment.evaluate()
    assert deployment.open("success_rate") == []
    deployment.evaluate()

    (alert,) = deployment.open("success_rate")
    assert (alert.subject, alert.sample, alert.threshold, alert.window_s) == ("all", 30, 0.95, 900)
    assert abs(alert.value - 20 / 30) < 1e-9
    assert alert.evidence["figures"] == {"sent": 20, "failed": 10, "too_late": 0}
    assert alert.evidence["reasons"] == {"provider_refused": 10}
    assert len(alert.evidence["requests"]) == 5
    with deployment.after(LATER):
        deployment.send(numbers(20, first=100))
    deployment.evaluate(3)
    assert deployment.rules_open() == []
