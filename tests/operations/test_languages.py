"""Languages, senders and India's registration, from the settings to the message."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from otpqueue import clock
from otpqueue.domain.request import Channel
from otpqueue.operations.request import RequestedCode
from otpqueue.settings import SettingsError, load
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, MakeParts, Provider
from tests.operations.looking import Rows

TEXTS = {"de": "Ihr Code ist {{pin}}.", "pt": "O código é {{pin}}.", "pt-br": "Seu código é {{pin}}."}
ENGLISH = "Your code is {{pin}}."
BRITISH, AMERICAN, INDIAN, BRAZILIAN = "+447700900123", "+12025550143", "+919876543210", "+5511961234567"


@dataclass(frozen=True)
class LanguageSender:
    """Provisioned parts, and the messages that they send."""

    parts: Parts
    client_id: UUID
    provider: Provider

    def send(self, number: str, **wanted: Any) -> dict[str, Any]:
        """Have a code sent and return the message."""
        self.parts.request(
            RequestedCode(phone_number=number, **wanted), client_id=self.client_id, now=clock.now()
        )
        self.parts.pump.run()
        return self.provider.messages(number)[0]

    def text(self, number: str, **wanted: Any) -> str:
        """Have a code sent and return the text with the code replaced by its placeholder."""
        message = self.send(number, **wanted)
        return str(message["text"]).replace(str(message["pin"]), "{{pin}}")

    def templates(self) -> list[dict[str, Any]]:
        """Return the templates at the provider."""
        ids = self.parts.provision.ids()
        assert ids
        path = f"/2fa/2/applications/{ids.application_id}/messages"
        found: list[dict[str, Any]] = self.provider.call("GET", path).json()
        return found


MakeSender = Callable[..., LanguageSender]


@pytest.fixture
def make_sender(make_parts: MakeParts, client_id: UUID, provider: Provider) -> MakeSender:
    """Return a function that provisions parts with other settings. Maps become JSON."""

    def make(**differing: Any) -> LanguageSender:
        values = {
            name: json.dumps(value) if isinstance(value, dict) else value for name, value in differing.items()
        }
        parts = make_parts(
            INFOBIP_MESSAGE_TEMPLATE=ENGLISH, INFOBIP_APP_NAME="languages", **NO_LIMITS, **values
        )
        parts.provision(parts.transport, now=clock.now())
        return LanguageSender(parts, client_id, provider)

    return make


def test_languages(make_sender: MakeSender) -> None:
    """The text is in the requested language, that language without its region, or English."""
    sender = make_sender(OTPQUEUE_TEMPLATES=TEXTS)

    for language, text in {
        "de": TEXTS["de"],
        "de-AT": TEXTS["de"],
        "DE": TEXTS["de"],
        "pt-BR": TEXTS["pt-br"],
        "pt_BR": TEXTS["pt-br"],
        "pt-PT": TEXTS["pt"],
        "pt": TEXTS["pt"],
        "fr-CA": ENGLISH,
        "en-GB": ENGLISH,
        None: ENGLISH,
    }.items():
        assert sender.text(BRITISH, language=language) == text, language


def test_region_without_its_language(make_sender: MakeSender) -> None:
    """Without a text for the language or its region, another region gets English."""
    sender = make_sender(OTPQUEUE_TEMPLATES={"pt-br": TEXTS["pt-br"]})

    assert sender.text(BRITISH, language="pt-PT") == ENGLISH


def test_english_may_be_among_the_others(make_sender: MakeSender) -> None:
    """A text for `en` is the fallback."""
    sender = make_sender(OTPQUEUE_TEMPLATES={"en": "Code: {{pin}}"})

    assert sender.text(BRITISH, language="xx") == "Code: {{pin}}"


def test_language_of_a_call(make_sender: MakeSender) -> None:
    """A call has the same text, and its template names the language if the provider can speak it."""
    sender = make_sender(OTPQUEUE_TEMPLATES=TEXTS | {"uk": "Код {{pin}}"})

    message = sender.send(BRITISH, language="de", channel=Channel.VOICE)

    assert message["channel"] == "VOICE"
    assert message["text"].startswith("Ihr Code ist ")
    spoken = {template["messageText"]: template.get("language") for template in sender.templates()}
    assert spoken == {
        ENGLISH: "en",
        TEXTS["de"]: "de",
        TEXTS["pt"]: None,
        TEXTS["pt-br"]: "pt_br",
        "Код {{pin}}": None,
    }


def test_language_of_a_resend(make_sender: MakeSender, parts: Parts) -> None:
    """A resend has the same code in the same language."""
    sender = make_sender(OTPQUEUE_TEMPLATES=TEXTS)
    first = sender.send(BRITISH, language="de")
    rows = Rows(parts.engine)
    request = rows.requests()[-1]
    rows.change(request["id"], resend_after=clock.now())

    sender.parts.resend(request["id"], client_id=sender.client_id, channel=None, now=clock.now())
    sender.parts.pump.run()

    assert sender.provider.messages(BRITISH)[0]["text"] == first["text"]


SENDERS = {"US": "18335550100", "IN": "MYBRND"}


def test_senders(make_sender: MakeSender) -> None:
    """A country's sender takes precedence. The default one is omitted where only numbers are allowed."""
    sender = make_sender(INFOBIP_SENDER_ID="MyBrand", OTPQUEUE_SENDERS=SENDERS)

    senders = {number: sender.send(number)["from"] for number in (BRITISH, AMERICAN, INDIAN, BRAZILIAN)}

    assert senders == {BRITISH: "MyBrand", AMERICAN: "18335550100", INDIAN: "MYBRND", BRAZILIAN: None}


def test_common_number(make_sender: MakeSender) -> None:
    """A default sender that is a number is used everywhere."""
    sender = make_sender(INFOBIP_SENDER_ID="447491163443")

    assert {sender.send(number)["from"] for number in (BRITISH, AMERICAN, BRAZILIAN)} == {"447491163443"}


def test_sender_of_a_resend(make_sender: MakeSender, parts: Parts) -> None:
    """A resend has the sender of the first message."""
    sender = make_sender(INFOBIP_SENDER_ID="MyBrand")
    sender.send(BRAZILIAN)
    rows = Rows(parts.engine)
    request = rows.requests()[-1]
    rows.change(request["id"], resend_after=clock.now())

    sender.parts.resend(request["id"], client_id=sender.client_id, channel=None, now=clock.now())
    sender.parts.pump.run()

    assert [message["from"] for message in sender.provider.messages(BRAZILIAN)] == [None, None]


def test_no_sender(make_sender: MakeSender) -> None:
    """Without senders the provider chooses one."""
    assert make_sender().send(BRITISH)["from"] is None


DLT = {"INDIA_DLT_PRINCIPAL_ENTITY_ID": "1201159", "INDIA_DLT_CONTENT_TEMPLATE_ID": "1107158"}


def test_india(make_sender: MakeSender, parts: Parts) -> None:
    """Numbers of India get one template, which has the registration, in any language."""
    sender = make_sender(OTPQUEUE_TEMPLATES={"hi": "कोड {{pin}}"}, OTPQUEUE_SENDERS=SENDERS, **DLT)
    templates = {template["messageId"]: template for template in sender.templates()}
    registered = [template for template in templates.values() if "regional" in template]

    (template,) = registered
    assert template["regional"] == {
        "indiaDlt": {"principalEntityId": "1201159", "contentTemplateId": "1107158"}
    }
    assert template["messageText"] == ENGLISH
    assert len(templates) == 3
    assert sender.text(INDIAN, language="hi") == ENGLISH
    assert sender.text(BRITISH, language="hi") == "कोड {{pin}}"
    ids = sender.parts.provision.ids()
    assert ids is not None
    assert ids.get_message_id(language="hi", country="IN") == template["messageId"]
    assert ids.get_message_id(language=None, country="GB") != template["messageId"]


def test_india_without_a_registered_text(make_sender: MakeSender) -> None:
    """The registration of the text is optional."""
    sender = make_sender(INDIA_DLT_PRINCIPAL_ENTITY_ID="1201159")

    (regional,) = [one["regional"] for one in sender.templates() if "regional" in one]
    assert regional == {"indiaDlt": {"principalEntityId": "1201159"}}


def test_no_registration(make_sender: MakeSender) -> None:
    """Without a registration there is no template for India, and its numbers get the default one."""
    sender = make_sender()

    assert len(sender.templates()) == 1
    assert sender.text(INDIAN) == ENGLISH


@pytest.mark.parametrize(
    ("differing", "problem"),
    [
        ({"OTPQUEUE_TEMPLATES": "{"}, "OTPQUEUE_TEMPLATES"),
        ({"OTPQUEUE_TEMPLATES": '["de"]'}, "OTPQUEUE_TEMPLATES"),
        ({"OTPQUEUE_TEMPLATES": '{"de": 7}'}, "OTPQUEUE_TEMPLATES"),
        ({"OTPQUEUE_TEMPLATES": '{"de": "Ihr Code"}'}, "must contain {{pin}}"),
        ({"OTPQUEUE_TEMPLATES": '{"German": "{{pin}}"}'}, "'German' must be a language"),
        ({"OTPQUEUE_TEMPLATES": '{"pt_BR": "{{pin}}"}'}, "'pt_BR' must be a language"),
        ({"OTPQUEUE_SENDERS": "x"}, "OTPQUEUE_SENDERS"),
        ({"OTPQUEUE_SENDERS": '{"usa": "18335550100"}'}, "'usa' must be a country"),
        ({"OTPQUEUE_SENDERS": '{"GB": "<b>"}'}, "must be a number or at most 11"),
        ({"INDIA_DLT_CONTENT_TEMPLATE_ID": "1"}, "INDIA_DLT_PRINCIPAL_ENTITY_ID"),
        ({"INDIA_DLT_PRINCIPAL_ENTITY_ID": "1" * 31}, "INDIA_DLT_PRINCIPAL_ENTITY_ID"),
        ({"OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS": "4"}, "OTPQUEUE_MAX_CHECKS"),
        ({"OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS": "11"}, "OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS"),
        ({"OTPQUEUE_PROVIDER_SENDS_PER_NUMBER": "many"}, "OTPQUEUE_PROVIDER_SENDS_PER_NUMBER"),
        ({"OTPQUEUE_TUNING_PROVIDER_VERIFY_LIMIT": "1/3"}, "OTPQUEUE_TUNING_PROVIDER_VERIFY_LIMIT"),
        ({"OTPQUEUE_RECEIPTS_USER": "u"}, "must be given together"),
        ({"OTPQUEUE_RECEIPTS_PASSWORD": "p"}, "must be given together"),
    ],
    ids=str,
)
def test_problems_are_reported_at_start(
    environment: dict[str, str], differing: dict[str, str], problem: str
) -> None:
    """Invalid settings are rejected by name when they are read."""
    with pytest.raises(SettingsError) as error:
        load(environment | differing, dotenv=None)

    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("differing", "problem"),
    [
        ({"OTPQUEUE_SENDERS": '{"US": "Brand"}'}, "US does not take alphanumeric senders"),
        ({"OTPQUEUE_SENDERS": '{"GB": "TwelveChars1"}'}, "at most 11 letters"),
        ({"INFOBIP_SENDER_ID": "TwelveChars1"}, "at most 11 letters"),
    ],
    ids=str,
)
def test_senders_that_cannot_be(make_parts: MakeParts, differing: dict[str, str], problem: str) -> None:
    """A sender that a country rejects is reported before anything is provisioned or sent."""
    (name,) = differing

    with pytest.raises(SettingsError, match=f"{name}: .*{problem}"):
        make_parts(**differing)


def test_all_problems_are_reported_together(environment: dict[str, str]) -> None:
    """All problems with texts and senders are reported together."""
    texts = json.dumps({"German": "{{pin}}", "de": "x"})

    with pytest.raises(SettingsError) as error:
        load(environment | {"OTPQUEUE_TEMPLATES": texts, "OTPQUEUE_SENDERS": '{"x": "y"}'}, dotenv=None)

    for problem in ("'German'", "'de'", "'x'", "'y'"):
        assert problem in str(error.value)
