"""Random sequences of sends, resends, checks and waiting, against a small model of the rules."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from otpqueue.simulator.clock import Clock

NUMBERS = ("41793026727", "447700900123")
# Whole seconds, so that the ends of windows and lives are hit exactly.
SECONDS = (1, 2, 3, 5, 10, 30, 60)

NOT_FOUND = (404, "NOT_FOUND")
TOO_MANY = (429, "TOO_MANY_REQUESTS")


class StandingClock(Clock):
    """A clock that moves only when it is told to."""

    def now(self) -> float:
        """Return the time in whole seconds."""
        return 1_000_000_000.0 + self.ahead_s


@dataclass
class Rules:
    """The configuration of an application; limits are attempts and seconds."""

    pin_attempts: int
    time_to_live_s: int
    multiple: bool
    verify: tuple[int, int]
    per_number: tuple[int, int]
    per_application: tuple[int, int]

    def as_json(self):
        """Return the configuration as the API takes it."""
        return {
            "pinAttempts": self.pin_attempts,
            "pinTimeToLive": f"{self.time_to_live_s}s",
            "allowMultiplePinVerifications": self.multiple,
            "verifyPinLimit": "{}/{}s".format(*self.verify),
            "sendPinPerPhoneNumberLimit": "{}/{}s".format(*self.per_number),
            "sendPinPerApplicationLimit": "{}/{}s".format(*self.per_application),
        }


@dataclass
class ModelPin:
    """What the model knows of a PIN."""

    id: str
    to: str
    code: str
    issued_at: int
    sent_at: int
    used: int = 0
    verified_at: int | None = None


@dataclass
class Model:
    """The rules, restated: what every call must answer."""

    rules: Rules
    now: int = 0
    pins: list[ModelPin] = field(default_factory=list)
    sends: list[tuple[str, int]] = field(default_factory=list)
    checks: list[tuple[str, int]] = field(default_factory=list)

    def may_send(self, to):
        """Tell whether both limits have room, and if so count a send."""
        of_number, of_all = self.rules.per_number, self.rules.per_application
        if self._recent(self.sends, of_number[1], to) >= of_number[0]:
            return False
        if self._recent(self.sends, of_all[1]) >= of_all[0]:
            return False
        self.sends.append((to, self.now))
        return True

    def expired(self, pin):
        """Tell whether a PIN's life is over."""
        return self.now >= pin.issued_at + self.rules.time_to_live_s

    def check(self, pin, *, right):
        """Return the answer to a check: a refusal, or `verified`, `attemptsRemaining` and `pinError`."""
        attempts, seconds = self.rules.verify
        if self._recent(self.checks, seconds, pin.to) >= attempts:
            return TOO_MANY
        self.checks.append((pin.to, self.now))
        left = self.rules.pin_attempts - pin.used
        if left == 0 or (pin.verified_at is not None and not self.rules.multiple):
            return False, 0, "NO_MORE_PIN_ATTEMPTS"
        if self.expired(pin):
            return False, left, "TTL_EXPIRED"
        pin.used += 1
        if not right:
            return False, left - 1, "WRONG_PIN"
        if pin.verified_at is None:
            pin.verified_at = self.now
        return True, 0, None

    def _recent(self, hits, seconds, to=None):
        return sum(at > self.now - seconds and to in {None, hit} for hit, at in hits)


limits = st.tuples(st.integers(0, 4), st.sampled_from(SECONDS))
rules = st.builds(
    Rules,
    pin_attempts=st.integers(1, 4),
    time_to_live_s=st.sampled_from(SECONDS[2:]),
    multiple=st.booleans(),
    verify=st.tuples(st.integers(1, 5), st.sampled_from(SECONDS[:3])),
    per_number=limits,
    per_application=st.tuples(st.integers(1, 8), st.sampled_from(SECONDS)),
)


def refusal(answer):
    """Return status and messageId of a refusal."""
    return answer.status_code, answer.json()["requestError"]["serviceException"]["messageId"]


class Comparison(RuleBasedStateMachine):
    """Compares the simulator with the model after every call; `client` and `state` are the simulator's."""

    client: Any
    state: Any

    @initialize(chosen=rules)
    def start(self, chosen):
        self.client.post("/_simulator/reset")
        self.state.clock = StandingClock()
        self.model = Model(chosen)
        self.application_id = self.client.application(**chosen.as_json())
        self.message_id = self.client.template(self.application_id, pinLength=8)

    @rule(to=st.sampled_from(NUMBERS), by=st.sampled_from(("", "/voice")))
    def send(self, to, by):
        body = {"applicationId": self.application_id, "messageId": self.message_id, "to": to}
        answer = self.client.post(f"/2fa/2/pin{by}", json=body)
        if not self.model.may_send(to):
            assert refusal(answer) == TOO_MANY
            return
        self._arrived(answer, to, by)
        code, now = self.client.pin(), self.model.now
        self.model.pins.append(ModelPin(answer.json()["pinId"], to, code, now, now))

    @precondition(lambda self: self.model.pins)
    @rule(data=st.data(), by=st.sampled_from(("", "/voice")))
    def resend(self, data, by):
        pin = data.draw(st.sampled_from(self.model.pins))
        answer = self.client.post(f"/2fa/2/pin/{pin.id}/resend{by}")
        if self.model.expired(pin):
            assert refusal(answer) == NOT_FOUND
        elif not self.model.may_send(pin.to):
            assert refusal(answer) == TOO_MANY
        else:
            self._arrived(answer, pin.to, by)
            assert answer.json()["pinId"] == pin.id
            pin.sent_at = self.model.now

    @precondition(lambda self: self.model.pins)
    @rule(data=st.data(), right=st.booleans())
    def check(self, data, right):
        pin = data.draw(st.sampled_from(self.model.pins))
        answer = self.client.check(pin.id, pin.code if right else pin.code[::-1] + "x")
        expected = self.model.check(pin, right=right)
        if len(expected) == 2:
            assert refusal(answer) == expected
            return
        assert answer.status_code == 200
        body = answer.json()
        assert (body["pinId"], body["msisdn"]) == (pin.id, pin.to)
        assert (body["verified"], body["attemptsRemaining"], body.get("pinError")) == expected

    @rule()
    def check_what_is_unknown(self):
        assert refusal(self.client.check("nope", "1234")) == NOT_FOUND

    @rule(seconds=st.sampled_from(SECONDS))
    def wait(self, seconds):
        self.client.advance(seconds)
        self.model.now += seconds

    @rule(to=st.sampled_from(NUMBERS), verified=st.sampled_from((None, True, False)))
    def list_verifications(self, to, verified):
        params = {"msisdn": to, "verified": None if verified is None else str(verified).lower()}
        path = f"/2fa/2/applications/{self.application_id}/verifications"
        start = 1_000_000_000
        assert self.client.get(path, params=params).json()["verifications"] == [
            {
                "msisdn": to,
                "verified": pin.verified_at is not None,
                "verifiedAt": 0 if pin.verified_at is None else (start + pin.verified_at) * 1000,
                "sentAt": (start + pin.sent_at) * 1000,
            }
            for pin in self.model.pins
            if pin.to == to and verified in {None, pin.verified_at is not None}
        ]

    def _arrived(self, answer, to, by):
        assert answer.status_code == 200
        body = answer.json()
        assert body["to"] == to
        expected = ("callStatus", "PENDING_ACCEPTED") if by else ("smsStatus", "MESSAGE_SENT")
        assert expected in body.items()
        (newest,) = self.client.get("/_simulator/messages?limit=1").json()["messages"]
        assert (newest["pinId"], newest["to"]) == (body["pinId"], to)
        assert newest["channel"] == ("VOICE" if by else "SMS")
        assert len(self.client.inbox()) == len(self.model.sends)


# A failure takes minutes to be made small; without one it is seconds.
@pytest.mark.timeout(400)
def test_simulator_and_model_answer_the_same(client, simulator):
    """Whatever is sent, resent, checked and waited for, in whatever order: the same answers."""
    run_state_machine_as_test(
        type("Bound", (Comparison,), {"client": client, "state": simulator.state}),
        settings=settings(
            max_examples=50,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
