"""The OpenAPI document as an adversary reads it: schemathesis makes calls of it, good and bad ones.

Every answer must be a documented one, and never an error of ours. Some calls are made likelier to go deep: a
request that lives, a number that exists, a key that may do everything.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otpqueue import clock
from otpqueue.api import openapi
from otpqueue.api.catalog import ENDPOINTS
from tests.api.conftest import Caller, MakeCaller
from tests.conftest import NO_LIMITS

if TYPE_CHECKING:
    # Imported where it is used: at the top every pytest process would spend seconds on it to collect tests.
    from schemathesis import Case
    from schemathesis.schemas import APIOperation

FEW_CASES = 16
CASES_PER_OPERATION = [
    pytest.param(FEW_CASES, id="small"),
    pytest.param(300, id="full", marks=pytest.mark.full),
]
LEAST_SHARE = 1 / 3
"""Hypothesis makes no call twice."""
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, operations in openapi.build(ENDPOINTS)["paths"].items()
    for method in operations
    if method in METHODS
]
LIKELY = {
    "phone_number": st.integers(0, 999).map("+447700900{:03}".format),
    "phoneNumber": st.integers(0, 999).map("+447700900{:03}".format),
    "country": st.sampled_from([None, "GB", "US"]),
    "language": st.sampled_from([None, "en", "de"]),
    "session_id": st.sampled_from([None, "sent", "verified"]),
    "client_ip": st.sampled_from([None, "192.0.2.7", "2001:db8::7"]),
    "code": st.sampled_from(["123456", "000000"]),
    "return_url": st.just("https://shop.example/done"),
    "otp": st.sampled_from(["123456", "000000"]),
}
RECEIPTS_PASSWORD = "a password for reports"


@pytest.fixture
def attacker(make_caller: MakeCaller) -> Caller:
    """Return a caller with a key for everything."""
    caller = make_caller(
        OTPQUEUE_RECEIPTS_USER="infobip",
        OTPQUEUE_RECEIPTS_PASSWORD=RECEIPTS_PASSWORD,
        # One request is enough for an alert.
        OTPQUEUE_ALERT_RULES='{"number_requests": {"threshold": 0}}',
        # Each operation's calls begin with some for the same number.
        **NO_LIMITS,
    )
    caller.key = caller.new_key("send", "verify", "admin")
    caller.parts.clients.set(caller.client, "page.return_urls", "https://shop.example/done")
    return caller


@pytest.fixture
def live(attacker: Caller) -> list[str]:
    """Return the ids of requests in several states."""
    # Another number for each caller: one for all would be asked for too often in a day.
    other = f"+447700900{(int(attacker.number[-3:]) + 500) % 1000:03}"
    paths = [attacker.ask(phone_number=other)]
    for state in ("sent", "verified", "cancelled"):
        path, code = attacker.sent(session_id=state)
        paths.append(path)
        attacker.become(path, "resend_after = now()")
        if state == "verified":
            assert attacker.verify(path, code, session_id=state).status_code == 200
        if state == "cancelled":
            assert attacker.call("DELETE", path).status_code == 200
    return [path.rpartition("/")[2] for path in paths]


@pytest.fixture
def alerts(attacker: Caller, live: list[str]) -> list[str]:
    """Return the ids of some alerts."""
    attacker.parts.evaluate_alerts(now=clock.now())
    return [str(alert.id) for alert in attacker.parts.alert_admin.list()]


@cache
def read_operations() -> dict[str, APIOperation[Any, Any, Any]]:
    """Return the operations as schemathesis reads them from the document, by method and path."""
    import schemathesis

    found = schemathesis.openapi.from_dict(openapi.build(ENDPOINTS)).get_all_operations()
    return {operation.ok().label: operation.ok() for operation in found}


def test_every_operation_is_called() -> None:
    """Schemathesis finds those operations that the document names."""
    assert list(read_operations()) == OPERATIONS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", CASES_PER_OPERATION)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_documented(
    label: str, cases: int, attacker: Caller, live: list[str], alerts: list[str]
) -> None:
    """Whatever the document's schemas make, and whatever they forbid, is answered as the document says.

    Enough calls are made, and the operation is seen to do what it is for.
    """
    from schemathesis.specs.openapi import checks

    conformance = [
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    operation = read_operations()[label]
    answered: Counter[int] = Counter()
    headers = {"Authorization": _credentials(operation, attacker)}

    # The few cases of each run are always the same ones; the many of the full run are new each time.
    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=cases == FEW_CASES,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(operation, {"request_id": live, "alert_id": alerts}))
    def call(case: Case) -> None:
        response = case.call(app=attacker.app, headers=headers)
        answered[response.status_code] += 1
        assert response.status_code < 500, response.text
        case.validate_response(response, checks=conformance)

    call()
    takes_something = operation.body or len(operation.query) or len(operation.path_parameters)
    assert answered.total() >= LEAST_SHARE * cases or not takes_something, answered
    # No right code or token is guessed.
    assert min(answered) < 300 or label.endswith(("/verify", "/verify-otp", "/redeem")), answered


def _credentials(operation: APIOperation[Any, Any, Any], attacker: Caller) -> str:
    if operation.path == "/v1/infobip/receipts":
        return "Basic " + base64.b64encode(f"infobip:{RECEIPTS_PASSWORD}".encode()).decode()
    return f"Bearer {attacker.key}"


@st.composite
def _cases(draw: st.DrawFn, operation: APIOperation[Any, Any, Any], known: Mapping[str, list[str]]) -> Case:
    from schemathesis import GenerationMode

    mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    case = draw(operation.as_strategy(mode))
    if mode is GenerationMode.POSITIVE:
        for name in known.keys() & (case.path_parameters or {}):
            if draw(st.booleans()):
                case.path_parameters[name] = draw(st.sampled_from(known[name]))
        if "wait" in (case.query or {}):
            case.query["wait"] = draw(st.sampled_from([0, 0.01]))
        if isinstance(case.body, dict):
            for name in sorted(case.body.keys() & LIKELY):
                case.body[name] = draw(LIKELY[name])
    return case
