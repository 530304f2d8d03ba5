"""The provisioning plan: printed first, then applied without further changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.infobip import provisioning
from otpqueue.infobip.provisioning import ProvisioningFailed
from otpqueue.operations.request import RequestedCode
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import running
from otpqueue.store.engine import connection
from otpqueue.store.schema import provider_ids
from otpqueue.wiring import Parts
from tests.cli.forking import Forking
from tests.conftest import INFOBIP_KEY, NUMBER, MakeParts, Provider

APPLICATIONS = "/2fa/2/applications"
GERMAN = '{"de": "Ihr Code ist {{pin}}."}'
HOOK = "https://otp.example.com/v1/infobip/receipts"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    output: str
    errors: str


Run = Callable[..., Done]


def there(provider: Provider) -> list[dict[str, Any]]:
    """Return the applications, each with its templates."""
    found = provider.call("GET", APPLICATIONS).json()
    return [
        one | {"templates": provider.call("GET", f"{APPLICATIONS}/{one['applicationId']}/messages").json()}
        for one in found
    ]


def writes(provider: Provider) -> int:
    """Return how many calls were made so far that make or change something."""
    stats: dict[str, dict[str, int]] = provider.call("GET", "/_simulator/stats").json()["requests"]
    return sum(sum(counts.values()) for name, counts in stats.items() if name.startswith(("POST", "PUT")))


def provision(parts: Parts, **options: Any) -> Any:
    """Provision now."""
    return parts.provision(parts.transport, now=clock.now(), **options)


@pytest.fixture(scope="module")
def _forking() -> Iterator[Forking]:
    with closing(Forking()) as forking:
        yield forking


@pytest.fixture
def run(_forking: Forking, environment: dict[str, str], tmp_path: Path) -> Run:
    """Return a function that runs the command with settings that differ."""

    def run(*arguments: str, **differing: str) -> Done:
        ran = _forking.run(
            "provision",
            *arguments,
            folder=tmp_path,
            environment={**os.environ, **environment, **differing},
            typed=None,
        )
        lines = [line for line in ran.stdout.splitlines() if "[info " not in line]
        return Done(ran.returncode, "\n".join(lines), ran.stderr)

    return run


def test_dry_run_changes_nothing(make_parts: MakeParts, provider: Provider) -> None:
    """A dry run says what would be done and does nothing, at the provider and in our tables."""
    parts = make_parts(OTPQUEUE_TEMPLATES=GERMAN)

    planned = provision(parts, dry_run=True)

    assert planned.actions == (
        "create application 'otpqueue'",
        "create message template en",
        "create message template de",
    )
    assert planned.ids is None
    assert (there(provider), writes(provider)) == ([], 0)
    assert parts.provision.ids() is None
    with connection(parts.engine) as conn:
        assert conn.execute(select(provider_ids)).all() == []


def test_run_does_what_the_plan_said(make_parts: MakeParts, provider: Provider) -> None:
    """After a dry run the same is done, and a dry run after that has nothing to do."""
    parts = make_parts(OTPQUEUE_TEMPLATES=GERMAN)
    planned = provision(parts, dry_run=True)

    done = provision(parts)
    again = provision(parts, dry_run=True)

    assert done.actions == planned.actions
    assert (again.actions, again.ids) == ((), done.ids)


def test_command_prints_the_plan(run: Run, provider: Provider) -> None:
    """`--dry-run` prints what would be done; without it what was done, and the ids; then nothing is to do."""
    dry = run("--dry-run")
    assert (dry.exit_code, there(provider)) == (0, [])
    wet, again, dry_again = run(), run(), run("--dry-run")

    assert dry.output.splitlines() == [
        "would create application 'otpqueue'",
        "would create message template en",
    ]
    (application,) = there(provider)
    assert wet.output.splitlines() == [
        "create application 'otpqueue'",
        "create message template en",
        f"application {application['applicationId']}",
        f"message template en: {application['templates'][0]['messageId']}",
    ]
    assert again.output.splitlines()[0] == "nothing to do: everything is up to date"
    assert dry_again.output.splitlines() == ["nothing to do: everything is up to date"]


def test_second_run_writes_nothing(make_parts: MakeParts, provider: Provider) -> None:
    """An existing configuration is reused by every process, without a changing call."""
    first = provision(make_parts(OTPQUEUE_TEMPLATES=GERMAN, INFOBIP_SENDER_ID="447491163443"))
    before = writes(provider)

    again = provision(make_parts(OTPQUEUE_TEMPLATES=GERMAN, INFOBIP_SENDER_ID="447491163443"))

    assert (again.actions, again.ids) == ((), first.ids)
    assert writes(provider) == before
    assert len(there(provider)[0]["templates"]) == 2


def test_lost_memory(make_parts: MakeParts, provider: Provider) -> None:
    """Without remembered ids what is there is found by name and text."""
    parts = make_parts(OTPQUEUE_TEMPLATES=GERMAN, INDIA_DLT_PRINCIPAL_ENTITY_ID="1201159")
    first = provision(parts)
    with connection(parts.engine) as conn:
        conn.exec_driver_sql("DELETE FROM provider_ids")

    again = provision(parts)

    assert (again.actions, again.ids) == ((), first.ids)


@pytest.mark.parametrize(
    "drifted",
    [
        {"messageText": "{{pin}}"},
        {"pinLength": 4},
        {"pinType": "HEX"},
        {"language": "fr"},
    ],
    ids=str,
)
def test_template_that_drifted(make_parts: MakeParts, provider: Provider, drifted: dict[str, Any]) -> None:
    """A changed template is repaired by one complete update and keeps its id."""
    parts = make_parts(OTPQUEUE_TEMPLATES=GERMAN)
    first = provision(parts)
    path = f"{APPLICATIONS}/{first.ids.application_id}/messages"
    provider.call("PUT", f"{path}/{first.ids.message_ids['de']}", json=drifted).raise_for_status()
    before = writes(provider)

    repaired = provision(parts)

    assert repaired.actions == ("update message template de",)
    assert repaired.ids == first.ids
    assert writes(provider) == before + 1
    assert provision(parts).actions == ()


def test_text_that_the_settings_change(make_parts: MakeParts, provider: Provider) -> None:
    """A new text in the settings changes the template that is there."""
    first = provision(make_parts())

    changed = provision(make_parts(INFOBIP_MESSAGE_TEMPLATE="New: {{pin}}"))

    assert (changed.actions, changed.ids) == (("update message template en",), first.ids)
    (application,) = there(provider)
    assert [template["messageText"] for template in application["templates"]] == ["New: {{pin}}"]


def test_template_with_a_sender_that_must_go(make_parts: MakeParts, provider: Provider) -> None:
    """A sender cannot be taken away by an update, so there is another template; then there is peace."""
    first = provision(make_parts(INFOBIP_SENDER_ID="447491163443"))
    without = make_parts()

    second = provision(without)
    third = provision(without)

    assert second.actions == ("create message template en",)
    assert second.ids.message_ids != first.ids.message_ids
    assert third.actions == ()


def test_languages_of_one_text_do_not_share(make_parts: MakeParts, provider: Provider) -> None:
    """Two languages with the same text have templates of their own: one can change without the other."""
    same = '{"uk": "%s", "be": "%s"}'
    parts = make_parts(OTPQUEUE_TEMPLATES=same % ("A {{pin}}", "A {{pin}}"))
    provision(parts)
    with connection(parts.engine) as conn:
        conn.exec_driver_sql("DELETE FROM provider_ids")
    first = provision(parts)
    other = make_parts(OTPQUEUE_TEMPLATES=same % ("A {{pin}}", "B {{pin}}"))

    changed = provision(other)

    assert len(set(first.ids.message_ids.values())) == 3
    assert (changed.actions, changed.ids) == (("update message template be",), first.ids)
    assert provision(other).actions == ()


@pytest.mark.parametrize(
    ("drifted", "steps"),
    [
        ({"configuration": {"sendPinPerPhoneNumberLimit": "3/1d"}}, 1),
        ({"configuration": {"pinTimeToLive": "15m", "pinAttempts": 3}}, 1),
        ({"enabled": False}, 1),
        # The same in other words is the same.
        ({"configuration": {"pinTimeToLive": "300s", "verifyPinLimit": "20/1000ms"}}, 0),
    ],
    ids=str,
)
def test_application_that_drifted(
    make_parts: MakeParts, provider: Provider, drifted: dict[str, Any], steps: int
) -> None:
    """A changed application gets its complete configuration back in one update."""
    parts = make_parts()
    first = provision(parts)
    wanted = there(provider)[0]["configuration"]
    path = f"{APPLICATIONS}/{first.ids.application_id}"
    provider.call("PUT", path, json={"name": "otpqueue", **drifted}).raise_for_status()
    before = writes(provider)

    repaired = provision(parts)

    assert repaired.actions == ("update application 'otpqueue'",) * steps
    assert (repaired.ids, writes(provider)) == (first.ids, before + steps)
    if steps:
        (application,) = there(provider)
        assert (application["configuration"], application["enabled"]) == (wanted, True)


def test_limits_of_the_settings(make_parts: MakeParts, provider: Provider) -> None:
    """The provider's limits are ours, by setting, and never its own three codes a day."""
    provision(make_parts())
    (usual,) = there(provider)
    provision(
        make_parts(
            OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS="7",
            OTPQUEUE_TUNING_PROVIDER_VERIFY_LIMIT="5/2s",
            OTPQUEUE_PROVIDER_SENDS_PER_NUMBER="50/1d",
            OTPQUEUE_PROVIDER_SENDS="999/1h",
            OTPQUEUE_CODE_LIFETIME_S="120",
        )
    )
    (differing,) = there(provider)

    assert usual["configuration"]["sendPinPerPhoneNumberLimit"] == "100/1d"
    assert differing["configuration"] == {
        "pinAttempts": 7,
        "allowMultiplePinVerifications": True,
        "pinTimeToLive": "2m",
        "verifyPinLimit": "5/2s",
        "sendPinPerApplicationLimit": "999/1h",
        "sendPinPerPhoneNumberLimit": "50/1d",
    }


def twin(provider: Provider) -> str:
    """Make an application of our name by hand, and return its id."""
    answer = provider.call("POST", APPLICATIONS, json={"name": "otpqueue"})
    return str(answer.json()["applicationId"])


def test_two_applications_of_one_name(make_parts: MakeParts, provider: Provider) -> None:
    """Of two with our name the one used before is used again, wherever it stands, and the plan says so."""
    parts = make_parts()
    ours = provision(parts)
    twin(provider)

    again = provision(parts)

    (remark,) = again.actions
    assert remark == "2 applications are named 'otpqueue': using the one used before"
    assert again.ids == ours.ids


def test_remembered_one_need_not_be_the_first(make_parts: MakeParts, provider: Provider) -> None:
    """Memory decides, not the order of the list."""
    first = twin(provider)
    parts = make_parts()
    provision(parts)
    second = twin(provider)
    with connection(parts.engine) as conn:
        conn.exec_driver_sql("UPDATE provider_ids SET application_id = %s", (second,))

    again = provision(parts)

    assert again.ids.application_id == second != first
    assert "using the one used before" in again.actions[0]


def test_two_of_which_none_is_remembered(make_parts: MakeParts, provider: Provider) -> None:
    """Where none was used before, the first is used, and the plan says so."""
    first, _ = twin(provider), twin(provider)

    made = provision(make_parts())

    assert made.actions[0] == "2 applications are named 'otpqueue': using the first"
    assert made.ids.application_id == first


@pytest.fixture(scope="module", params=[200, 201])
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a simulator that answers 200, or 201, to an application that was made."""
    with running(Options(api_keys=(INFOBIP_KEY,), create_status=request.param)) as simulator:
        yield simulator.url


def test_create_answers_200_or_201(make_parts: MakeParts, answering: str) -> None:
    """Whichever way the provider says that it made an application, its id is taken."""
    parts = make_parts(INFOBIP_BASE_URL=answering)

    made = provision(parts)

    assert parts.provision.ids() == made.ids
    assert provision(parts).actions == ()


def test_wrong_key(make_parts: MakeParts) -> None:
    """A key that the provider refuses fails with its words, and nothing is remembered."""
    parts = make_parts(INFOBIP_API_KEY="wrong-key")

    with pytest.raises(ProvisioningFailed, match="Invalid login details") as error:
        provision(parts)

    assert "wrong-key" not in str(error.value)
    assert parts.provision.ids() is None


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_wrong_key_ends_the_command(run: Run, arguments: tuple[str, ...]) -> None:
    """The command says what the provider said, without a traceback."""
    result = run(*arguments, INFOBIP_API_KEY="wrong-key")

    assert result.exit_code == ExitCode.UNREACHABLE
    assert "Invalid login details" in result.errors
    assert "Traceback" not in result.errors


def test_ids_of_the_environment_win(make_parts: MakeParts, provider: Provider) -> None:
    """Ids that are given are used for every language, and nothing is looked at or changed."""
    provision(make_parts())
    before = writes(provider)
    given = make_parts(INFOBIP_APPLICATION_ID="A", INFOBIP_MESSAGE_ID="M", OTPQUEUE_TEMPLATES=GERMAN)

    made = provision(given)

    assert (made.ids.application_id, dict(made.ids.message_ids)) == ("A", {"en": "M"})
    assert given.provision.ids() == made.ids
    assert made.ids.get_message_id(language="de", country="IN") == "M"
    assert writes(provider) == before


def test_running_pump_notices_a_change(parts: Parts, client_id: UUID, provider: Provider) -> None:
    """What another process provisions is used by a pump that runs already, without a restart."""

    def sent() -> str:
        parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())
        parts.pump.run()
        return str(provider.messages(NUMBER)[0]["text"])

    first = sent()
    ids = parts.provision.ids()
    assert ids is not None
    path = f"{APPLICATIONS}/{ids.application_id}/messages"
    other = provider.call(
        "POST", path, json={"messageText": "Other {{pin}}", "pinType": "NUMERIC", "pinLength": 6}
    )
    with connection(parts.engine) as conn:
        conn.exec_driver_sql(
            "UPDATE provider_ids SET message_ids = jsonb_build_object('en', %s::text)",
            (other.json()["messageId"],),
        )

    assert not first.startswith("Other")
    assert sent().startswith("Other ")


def test_pump_starts_when_provisioned(make_parts: MakeParts, parts: Parts, client_id: UUID) -> None:
    """A worker that runs before provisioning sends as soon as it is done."""
    early = make_parts(INFOBIP_APP_NAME="later")
    request = early.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())
    early.pump.run()
    assert early.status(request.id, client_id=client_id).status == "queued"

    provision(make_parts(INFOBIP_APP_NAME="later"))
    early.pump.run()

    assert early.status(request.id, client_id=client_id).status == "sent"


def test_two_at_once(make_parts: MakeParts, provider: Provider) -> None:
    """Processes that provision at the same time wait for each other: one of everything, made once."""
    everyone = [make_parts(OTPQUEUE_TEMPLATES=GERMAN) for _ in range(4)]
    provider.fault(match={"path": APPLICATIONS, "method": "GET"}, latency_ms=30)

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(provision, everyone))

    assert sorted(len(one.actions) for one in made) == [0, 0, 0, 3]
    assert all(one.ids == made[0].ids for one in made)
    (application,) = there(provider)
    assert len(application["templates"]) == 2


def test_subscription(run: Run, provider: Provider) -> None:
    """`--subscribe` has reports of SMS pushed to an address, with the credentials that it asks for."""
    credentials = {"OTPQUEUE_RECEIPTS_USER": "u", "OTPQUEUE_RECEIPTS_PASSWORD": "p-secret"}

    result = run("--subscribe", HOOK, **credentials)

    assert result.exit_code == 0, result.errors
    assert f"pushes delivery reports to {HOOK}" in result.output
    assert "p-secret" not in result.output + result.errors
    (subscription,) = subscriptions(provider)
    assert subscription["events"] == ["DELIVERY"]
    profile = provider.call("GET", f"/subscriptions/1/profiles/{subscription['profile']['profileId']}").json()
    assert profile["webhook"]["notifyUrl"] == HOOK


def subscriptions(provider: Provider) -> list[dict[str, Any]]:
    """Return the subscriptions to reports of SMS."""
    found = provider.call("GET", "/subscriptions/1/subscription/SMS").json()
    return list(found["results"] if isinstance(found, dict) and "results" in found else found)


def test_dry_run_makes_no_subscription(run: Run, provider: Provider) -> None:
    """A dry run makes no subscription."""
    credentials = {"OTPQUEUE_RECEIPTS_USER": "u", "OTPQUEUE_RECEIPTS_PASSWORD": "p"}

    assert run("--dry-run", "--subscribe", HOOK, **credentials).exit_code == 0

    assert subscriptions(provider) == []


def test_subscription_needs_credentials(run: Run, provider: Provider) -> None:
    """Without receipt credentials the subscription fails and names the setting."""
    result = run("--subscribe", HOOK)

    assert result.exit_code == ExitCode.CONFIGURATION
    assert "OTPQUEUE_RECEIPTS_USER" in result.errors
    assert subscriptions(provider) == []


def test_subscription_that_is_refused(make_parts: MakeParts) -> None:
    """What the provider does not take fails with its words."""
    parts = make_parts()

    with pytest.raises(ProvisioningFailed):
        provisioning.subscribe_to_reports(parts.transport, url="", username="u", password="p")
