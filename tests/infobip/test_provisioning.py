"""Provisioning of Infobip: create, find and repair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from otpqueue.domain.templates import ProviderIds, TemplateKey
from otpqueue.infobip.provisioning import (
    ApplicationLimits,
    ProvisioningFailed,
    WantedConfiguration,
    apply_plan,
    make_plan,
)
from otpqueue.infobip.transport import Transport
from otpqueue.operations.provision import Provisioned
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import running
from tests.conftest import INFOBIP_KEY, MakeParts, Provider
from tests.infobip.conftest import API_KEY, Connect, ScriptedServer, http

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WANTED = WantedConfiguration(
    application_name="otpqueue",
    code_lifetime_s=300,
    limits=ApplicationLimits(
        pin_attempts=10,
        verify_pin="20/1s",
        sends_per_application="10000000/1d",
        sends_per_number="100/1d",
    ),
    texts={"en": "Code {{pin}}"},
    sender_id=None,
    india=None,
)
WANTED_TEMPLATE = WANTED.build_templates()[TemplateKey(language="en")]
CONFIGURATION = {
    "pinAttempts": 10,
    "allowMultiplePinVerifications": True,
    "pinTimeToLive": "5m",
    "verifyPinLimit": "20/1s",
    "sendPinPerApplicationLimit": "10000000/1d",
    "sendPinPerPhoneNumberLimit": "100/1d",
}

OURS = b'[{"name": "otpqueue", "applicationId": "A"}]'


@pytest.fixture
def transport(provider: Provider) -> Iterator[Transport]:
    """Yield connections to the simulator."""
    transport = Transport(
        base_url=provider.url, api_key=INFOBIP_KEY, connections=4, connect_timeout_s=1, timeout_s=5
    )
    yield transport
    transport.close()


def ensure(
    transport: Transport, wanted: WantedConfiguration, *, remembered: ProviderIds | None
) -> Provisioned:
    """Make a plan and carry it out, and return what was done."""
    planned = make_plan(transport, wanted, remembered=remembered)
    ids = apply_plan(transport, planned)
    return Provisioned(ids=ids, actions=tuple(planned.format_lines()))


def ids_of(made: Provisioned) -> ProviderIds:
    """Return the ids of a run that was no dry one."""
    assert made.ids is not None
    return made.ids


def applications(provider: Provider) -> list[dict[str, Any]]:
    """Return the applications that are there."""
    found: list[dict[str, Any]] = provider.call("GET", "/2fa/2/applications").json()
    return found


def templates(provider: Provider, application_id: str) -> list[dict[str, Any]]:
    """Return the templates of an application."""
    found: list[dict[str, Any]] = provider.call(
        "GET", f"/2fa/2/applications/{application_id}/messages"
    ).json()
    return found


def make_application(provider: Provider, **fields: Any) -> str:
    """Make an application by hand and return its id."""
    body = {"name": "otpqueue", "configuration": CONFIGURATION, **fields}
    answer = provider.call("POST", "/2fa/2/applications", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["applicationId"])


def test_first_run_makes_everything_as_wanted(transport: Transport, provider: Provider) -> None:
    """The application is made with its whole configuration, and the template with six digits."""
    made = ensure(transport, WANTED, remembered=None)

    (application,) = applications(provider)
    assert application["applicationId"] == ids_of(made).application_id
    assert (application["name"], application["enabled"]) == ("otpqueue", True)
    assert application["configuration"] == CONFIGURATION
    (template,) = templates(provider, ids_of(made).application_id)
    assert ids_of(made).message_ids == {"en": template["messageId"]}
    assert (template["messageText"], template["pinType"], template["pinLength"]) == (
        "Code {{pin}}",
        "NUMERIC",
        6,
    )
    assert template["language"] == "en"
    assert "senderId" not in template
    assert "regional" not in template
    assert made.actions == ("create application 'otpqueue'", "create message template en")


def test_second_run_does_nothing(transport: Transport, provider: Provider) -> None:
    """An up-to-date configuration is found with or without stored ids."""
    first = ensure(transport, WANTED, remembered=None)

    again = ensure(transport, WANTED, remembered=None)
    remembering = ensure(transport, WANTED, remembered=first.ids)

    assert again.ids == remembering.ids == first.ids
    assert again.actions == remembering.actions == ()
    assert len(applications(provider)) == len(templates(provider, ids_of(first).application_id)) == 1


@pytest.mark.parametrize(
    "drifted",
    [
        {"pinAttempts": 3},
        {"allowMultiplePinVerifications": False},
        {"pinTimeToLive": "15m"},
        {"pinTimeToLive": "5s"},
        {"verifyPinLimit": "1/3s"},
        {"sendPinPerPhoneNumberLimit": "3/1d"},
        {"sendPinPerPhoneNumberLimit": "100/1h"},
        {"sendPinPerApplicationLimit": "10000/1d"},
    ],
    ids=str,
)
def test_configuration_that_drifted_is_repaired(
    transport: Transport, provider: Provider, drifted: dict[str, Any]
) -> None:
    """A changed or manually created application gets our configuration and keeps its id."""
    application_id = make_application(provider, configuration=CONFIGURATION | drifted)

    made = ensure(transport, WANTED, remembered=None)

    (application,) = applications(provider)
    assert application["applicationId"] == ids_of(made).application_id == application_id
    assert application["configuration"] == CONFIGURATION
    assert made.actions[0] == "update application 'otpqueue'"


def test_application_with_the_providers_defaults_is_repaired(
    transport: Transport, provider: Provider
) -> None:
    """The provider's defaults, which would break the service, are replaced."""
    make_application(provider, configuration={})

    ensure(transport, WANTED, remembered=None)

    assert applications(provider)[0]["configuration"] == CONFIGURATION


def test_disabled_application_is_enabled(transport: Transport, provider: Provider) -> None:
    """An application that is switched off sends nothing; it is switched on."""
    make_application(provider, enabled=False)

    ensure(transport, WANTED, remembered=None)

    assert applications(provider)[0]["enabled"] is True


@pytest.mark.parametrize(
    "same",
    [
        {"pinTimeToLive": "300s"},
        {"pinTimeToLive": "300000ms"},
        {"verifyPinLimit": "20/s"},
        {"verifyPinLimit": "20/1000ms"},
        {"sendPinPerPhoneNumberLimit": "100/24h"},
        {"sendPinPerApplicationLimit": "10000000/d"},
    ],
    ids=str,
)
def test_same_meaning_in_other_words_is_no_drift(connect: Connect, same: dict[str, Any]) -> None:
    """Equal durations in different formats need no update."""
    application = {
        "applicationId": "A",
        "name": "otpqueue",
        "enabled": True,
        "configuration": CONFIGURATION | same,
        "verificationTimeout": None,
    }
    template = {"messageId": "M", "applicationId": "A", "pinPlaceholder": "{{pin}}", **WANTED_TEMPLATE}
    answers = (http(json.dumps([one]).encode()) for one in (application, template))
    with ScriptedServer(*answers) as server:
        made = ensure(connect(server.url), WANTED, remembered=None)

        assert made.ids == ProviderIds("A", {"en": "M"})
        assert made.actions == ()
        assert [request.split(b" ")[0] for request in server.requests] == [b"GET", b"GET"]


def test_of_two_applications_the_remembered_one_is_used(transport: Transport, provider: Provider) -> None:
    """The stored application is used and the operator is notified. Others are unchanged."""
    first, second = make_application(provider), make_application(provider)
    make_application(provider, name="another", configuration={})

    for remembered in (first, second):
        ids = ProviderIds(remembered, {"en": "gone"})
        made = ensure(transport, WANTED, remembered=ids)

        assert ids_of(made).application_id == remembered
        assert made.actions[0] == "2 applications are named 'otpqueue': using the one used before"
    assert ensure(transport, WANTED, remembered=None).actions == (
        "2 applications are named 'otpqueue': using the first",
    )
    assert len(applications(provider)) == 3
    assert (
        next(one for one in applications(provider) if one["name"] == "another")["configuration"]
        != CONFIGURATION
    )


def test_missing_application_is_created_again(transport: Transport, provider: Provider) -> None:
    """Stored ids that the account no longer knows are replaced."""
    made = ensure(transport, WANTED, remembered=ProviderIds("gone", {"en": "gone"}))

    assert [one["applicationId"] for one in applications(provider)] == [ids_of(made).application_id]


def test_template_is_changed_in_place(transport: Transport, provider: Provider) -> None:
    """A text or sender that changed is changed at the template that is remembered, which keeps its id."""
    first = ids_of(ensure(transport, WANTED, remembered=None))
    for wanted in (
        replace(WANTED, texts={"en": "PIN {{pin}}"}),
        replace(WANTED, texts={"en": "PIN {{pin}}"}, sender_id="Shop"),
    ):
        made = ensure(transport, wanted, remembered=first)

        assert made.ids == first
        assert made.actions == ("update message template en",)
        (template,) = templates(provider, first.application_id)
        assert (template["messageText"], template.get("senderId")) == ("PIN {{pin}}", wanted.sender_id)


def test_sender_that_is_wanted_no_more_goes(transport: Transport, provider: Provider) -> None:
    """An update may keep what it leaves out, so a template without a sender is another one, made once."""
    first = ids_of(ensure(transport, replace(WANTED, sender_id="Shop"), remembered=None))

    without = ensure(transport, WANTED, remembered=first)
    again = ensure(transport, WANTED, remembered=ids_of(without))

    assert without.actions == ("create message template en",)
    assert again.actions == ()
    assert again.ids == without.ids
    by_id = {one["messageId"]: one for one in templates(provider, first.application_id)}
    assert "senderId" not in by_id[ids_of(without).message_ids["en"]]
    assert by_id[first.message_ids["en"]]["senderId"] == "Shop"


def test_template_that_is_not_remembered_is_found_by_what_it_says(
    transport: Transport, provider: Provider
) -> None:
    """Without ids a template of another text or sender is not taken for ours, and stays as it is."""
    first = ids_of(ensure(transport, WANTED, remembered=None))
    other_text = ids_of(ensure(transport, replace(WANTED, texts={"en": "PIN {{pin}}"}), remembered=None))
    other_sender = ids_of(ensure(transport, replace(WANTED, sender_id="Shop"), remembered=None))
    back = ids_of(ensure(transport, WANTED, remembered=None))

    assert len({one.message_ids["en"] for one in (first, other_text, other_sender)}) == 3
    assert back == first
    found = templates(provider, first.application_id)
    assert [one.get("senderId") for one in found if one["messageId"] == other_sender.message_ids["en"]] == [
        "Shop"
    ]


def test_template_with_a_sender_is_not_taken_for_one_without(transport: Transport) -> None:
    """Where no sender is wanted, a template that has one is another template."""
    with_sender = ensure(transport, replace(WANTED, sender_id="Shop"), remembered=None)

    without = ensure(transport, WANTED, remembered=None)

    assert without.ids.get_message_id != with_sender.ids.get_message_id


@pytest.mark.parametrize(("seconds", "text"), [(300, "5m"), (60, "1m"), (90, "90s"), (45.4, "45s")])
def test_lifetime_of_a_code_is_the_applications(seconds: float, text: str) -> None:
    """The provider's code lives as long as ours."""
    assert (
        replace(WANTED, code_lifetime_s=seconds).build_application()["configuration"]["pinTimeToLive"] == text
    )


def test_created_may_be_answered_with_200(connect: Connect) -> None:
    """Infobip's documents disagree on 200 or 201: both are success."""
    with running(Options(api_keys=(API_KEY,), create_status=200)) as simulator:
        made = ensure(connect(simulator.url), WANTED, remembered=None)

    assert len(made.actions) == 2


def test_wrong_key_fails_in_the_providers_words(connect: Connect, provider: Provider) -> None:
    """A refusal carries the provider's identifier and text, for an operator to read, and no key."""
    with pytest.raises(ProvisioningFailed) as caught:
        ensure(connect(provider.url), WANTED, remembered=None)

    assert str(caught.value) == "Infobip refused with HTTP 401: UNAUTHORIZED: Invalid login details"
    assert API_KEY not in repr(caught.value)


def test_unreachable_provider_fails_with_a_hint(connect: Connect) -> None:
    """An unreachable server is reported with a hint to the base URL."""
    with ScriptedServer(lambda: [b""]) as server:
        transport = connect(server.url)

        with pytest.raises(ProvisioningFailed, match=r"cannot be reached .*INFOBIP_BASE_URL"):
            ensure(transport, WANTED, remembered=None)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([b'{"a": 1}'], "not a list"),
        ([b"<html>Welcome</html>"], "not a list"),
        ([b"[]", b"{}"], "no applicationId"),
        ([b"[]", b'{"applicationId": 5}'], "no applicationId"),
        ([b"[]", b'{"applicationId": ""}'], "no applicationId"),
        ([b"[1, null, {}]", b'{"applicationId": "A"}', b"[]"], "no messageId"),
        ([OURS, b"[[], 5]", b"{}", b"[]"], "no messageId"),
        ([OURS, b"{}"], "not a list"),
        ([b'[{"name": "otpqueue", "applicationId": 7}]'], "no applicationId"),
    ],
)
def test_answer_of_another_shape_fails(connect: Connect, answers: list[bytes], problem: str) -> None:
    """A server that is not Infobip is reported as such."""
    with ScriptedServer(*map(http, answers)) as server:
        transport = connect(server.url)

        with pytest.raises(ProvisioningFailed, match=problem):
            ensure(transport, WANTED, remembered=None)


def test_failure_half_way_is_reported_and_repaired(transport: Transport, provider: Provider) -> None:
    """A failed template fails the run. The next run uses the application it created."""
    provider.fault(match={"path": "/messages"}, times=2, status=500, body="<html>")
    with pytest.raises(ProvisioningFailed, match="HTTP 500: no reason given"):
        ensure(transport, WANTED, remembered=None)
    provider.clear_faults()

    made = ensure(transport, WANTED, remembered=None)

    assert made.actions == ("create message template en",)
    assert len(applications(provider)) == 1


def test_ids_are_remembered(make_parts: MakeParts, provider: Provider) -> None:
    """Before provisioning there are no ids; after it they are known without a call, to every process."""
    parts = make_parts()
    before = parts.provision.ids()

    made = parts.provision(parts.transport, now=NOW)

    assert before is None
    assert parts.provision.ids() == make_parts().provision.ids() == made.ids
    assert make_parts(INFOBIP_APP_NAME="other").provision.ids() is None


def test_ids_of_the_environment_win(make_parts: MakeParts, provider: Provider) -> None:
    """Ids that are given are used as they are, and nothing is provisioned."""
    make_parts().provision(make_parts().transport, now=NOW)
    parts = make_parts(INFOBIP_APPLICATION_ID="A", INFOBIP_MESSAGE_ID="M")

    made = parts.provision(parts.transport, now=NOW)

    assert made.ids == parts.provision.ids() == ProviderIds("A", {"en": "M"})
    assert len(applications(provider)) == 1


def test_failed_run_remembers_nothing(make_parts: MakeParts) -> None:
    """A run that was refused leaves no ids behind."""
    parts = make_parts(INFOBIP_API_KEY="wrong")

    with pytest.raises(ProvisioningFailed):
        parts.provision(parts.transport, now=NOW)

    assert parts.provision.ids() is None


def test_new_ids_replace_the_remembered_ones(make_parts: MakeParts, provider: Provider) -> None:
    """After the provider lost everything the next run's ids are in force."""
    parts = make_parts()
    first = parts.provision(parts.transport, now=NOW)
    provider.reset()

    second = parts.provision(parts.transport, now=NOW)

    assert second.ids != first.ids
    assert parts.provision.ids() == second.ids


def test_runs_at_once_make_one_of_each(make_parts: MakeParts, provider: Provider) -> None:
    """Processes that provision at the same time wait for each other: one application, one template."""
    everyone = [make_parts() for _ in range(4)]
    provider.fault(match={"path": "/2fa/2/applications"}, latency_ms=50)

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda parts: parts.provision(parts.transport, now=NOW), everyone))

    assert all(one.ids == made[0].ids for one in made)
    assert len(applications(provider)) == 1
    assert len(templates(provider, ids_of(made[0]).application_id)) == 1
    assert sorted(len(one.actions) for one in made) == [0, 0, 0, 2]
