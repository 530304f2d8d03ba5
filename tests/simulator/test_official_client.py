"""The provider's own Python client drives every 2FA operation, and understands every answer.

The package is `infobip-api-python-client`, of the extra `test`; without it these tests are skipped.
"""

import importlib
import re
from types import SimpleNamespace

import pytest


class OfficialClient:
    """The package, imported when a test first uses it.

    The import takes seconds, which every pytest process would spend to collect the tests.
    """

    def __getattr__(self, name):
        """Return what the package calls so. pytest asks each object of a module for names of its own."""
        if name.startswith(("_", "pytest")):
            raise AttributeError(name)
        return getattr(importlib.import_module("infobip_api_client"), name)


infobip = OfficialClient()

TO = "41793026727"
MAIL = "ann@example.com"


@pytest.fixture
def api(client_with):
    """Return the official client's 2FA and SMS calls, and a client of the same simulator."""
    pytest.importorskip(
        "infobip_api_client",
        reason="NOT TESTED against the provider's own client: pip install infobip-api-python-client==6.0.0",
    )
    # The official client knows 200 alone for a created application, the OpenAPI document 201.
    with client_with(create_status=200) as client:
        configuration = infobip.Configuration(host=client.url, api_key="test-key", retries=0)
        with infobip.ApiClient(configuration) as connection:
            from infobip_api_client.api.sms_api import SmsApi
            from infobip_api_client.api.tfa_api import TfaApi

            yield SimpleNamespace(tfa=TfaApi(connection), sms=SmsApi(connection), simulator=client)


def application(api, **changes):
    """Create an application with roomy limits."""
    configuration = {
        "pin_attempts": 3,
        "send_pin_per_phone_number_limit": "100/1d",
        "verify_pin_limit": "100/1s",
        **changes,
    }
    return api.tfa.create_tfa_application(
        infobip.TfaApplicationRequest(
            name="shop", enabled=True, configuration=infobip.TfaApplicationConfiguration(**configuration)
        )
    )


def message(api, application_id):
    """Create a template with every field there is."""
    india = infobip.TfaIndiaDltOptions(principal_entity_id="p", content_template_id="c", tele_marketer_id="t")
    return api.tfa.create_tfa_message_template(
        application_id,
        infobip.TfaCreateMessageRequest(
            message_text="Code {{pin}}",
            pin_type=infobip.TfaPinType.NUMERIC,
            pin_length=6,
            language=infobip.TfaLanguage.EN,
            sender_id="Shop",
            repeat_dtmf="1#",
            speech_rate=1.5,
            voice_name="Joanna",
            regional=infobip.TfaRegionalOptions(india_dlt=india),
        ),
    )


def sending(application_id, message_id, **changes):
    """Return the request of a send by SMS or voice."""
    return infobip.TfaStartAuthenticationRequest(
        application_id=application_id, message_id=message_id, to=TO, **changes
    )


def test_applications(api):
    """Operations 1 to 4: list, create, get and update applications."""
    assert api.tfa.get_tfa_applications() == []
    created = application(api)
    assert re.fullmatch("[0-9A-F]{32}", created.application_id)
    assert created.configuration.pin_time_to_live == "15m"
    assert api.tfa.get_tfa_applications() == [created]
    assert api.tfa.get_tfa_application(created.application_id) == created
    updated = api.tfa.update_tfa_application(
        created.application_id, infobip.TfaApplicationRequest(name="new", enabled=False)
    )
    assert (updated.name, updated.enabled, updated.configuration) == ("new", False, created.configuration)


def test_message_templates(api):
    """Operations 5 to 8: list, create, get and update templates."""
    application_id = application(api).application_id
    created = message(api, application_id)
    assert (created.pin_placeholder, created.language) == ("{{pin}}", infobip.TfaLanguage.EN)
    assert created.regional.india_dlt.tele_marketer_id == "t"
    (listed,) = api.tfa.get_tfa_message_templates(application_id)
    assert listed == api.tfa.get_tfa_message_template(application_id, created.message_id)
    assert listed.message_text == created.message_text
    updated = api.tfa.update_tfa_message_template(
        application_id,
        created.message_id,
        infobip.TfaUpdateMessageRequest(message_text="New {{pin}}", pin_type=infobip.TfaPinType.HEX),
    )
    assert (updated.message_text, updated.pin_type, updated.sender_id) == ("New {{pin}}", "HEX", "Shop")


def test_email_templates(api):
    """Operations 9 and 10: create and update templates of e-mail."""
    application_id = application(api).application_id
    created = api.tfa.create_tfa_email_message_template(
        application_id,
        infobip.TfaCreateEmailMessageRequest(
            email_template_id=1234, var_from=f"Shop <{MAIL}>", landing_page_id="1_23456", pin_length=6
        ),
    )
    assert (created.email_template_id, created.pin_length, created.pin_type) == (1234, 6, "NUMERIC")
    updated = api.tfa.update_tfa_email_message_template(
        application_id,
        created.message_id,
        infobip.TfaUpdateEmailMessageRequest(email_template_id=5678, pin_type=infobip.TfaPinType.ALPHA),
    )
    assert (updated.email_template_id, updated.pin_length, updated.pin_type) == (5678, 6, "ALPHA")
    assert updated.var_from == f"Shop <{MAIL}>"


def test_sms(api):
    """Operations 11 and 12: send and resend by SMS, with and without number look-up."""
    application_id = application(api).application_id
    message_id = message(api, application_id).message_id
    request = sending(application_id, message_id, placeholders={"name": "Ann"}, track_delivery=True)
    sent = api.tfa.send_tfa_pin_code_over_sms(request)
    assert (sent.to, sent.nc_status, sent.sms_status) == (TO, "NC_DESTINATION_REACHABLE", "MESSAGE_SENT")
    assert sent.external_message_id
    skipped = api.tfa.send_tfa_pin_code_over_sms(request, nc_needed=False)
    assert skipped.nc_status is None
    again = api.tfa.resend_tfa_pin_code_over_sms(
        sent.pin_id, infobip.TfaResendPinRequest(placeholders={"name": "Ann"}, track_delivery=True)
    )
    assert (again.pin_id, again.sms_status) == (sent.pin_id, "MESSAGE_SENT")
    assert again.external_message_id != sent.external_message_id


def test_voice(api):
    """Operations 13 and 14: send and resend by voice."""
    application_id = application(api).application_id
    request = sending(application_id, message(api, application_id).message_id, var_from="41793026000")
    sent = api.tfa.send_tfa_pin_code_over_voice(request)
    assert (sent.to, sent.call_status) == (TO, "PENDING_ACCEPTED")
    again = api.tfa.resend_tfa_pin_code_over_voice(sent.pin_id, infobip.TfaResendPinRequest())
    assert (again.pin_id, again.call_status) == (sent.pin_id, "PENDING_ACCEPTED")


def test_email(api):
    """Operations 15 and 16: send and resend by e-mail."""
    application_id = application(api).application_id
    template = api.tfa.create_tfa_email_message_template(
        application_id, infobip.TfaCreateEmailMessageRequest(email_template_id=1234)
    )
    sent = api.tfa.send2fa_pin_code_over_email(
        infobip.TfaStartEmailAuthenticationRequest(
            application_id=application_id,
            message_id=template.message_id,
            to=MAIL,
            var_from=MAIL,
            placeholders={"name": "Ann"},
            landing_page_placeholders={"a": "b"},
        )
    )
    assert (sent.to, sent.email_status.name) == (MAIL, "PENDING_ACCEPTED")
    again = api.tfa.resend2fa_pin_code_over_email(
        sent.pin_id, infobip.TfaResendPinRequestViaEmail(placeholders={"name": "Ann"})
    )
    assert (again.pin_id, again.email_status.name) == (sent.pin_id, "PENDING_ACCEPTED")


def test_verify_and_verifications(api):
    """Operations 17 and 18: verify a wrong and the right PIN, and read the verification status."""
    application_id = application(api).application_id
    sent = api.tfa.send_tfa_pin_code_over_sms(
        sending(application_id, message(api, application_id).message_id)
    )
    wrong = api.tfa.verify_tfa_phone_number(sent.pin_id, infobip.TfaVerifyPinRequest(pin="wrong"))
    assert (wrong.verified, wrong.pin_error, wrong.attempts_remaining) == (False, "WRONG_PIN", 2)
    (pin,) = (entry["pin"] for entry in api.simulator.inbox(TO))
    right = api.tfa.verify_tfa_phone_number(sent.pin_id, infobip.TfaVerifyPinRequest(pin=pin))
    assert (right.verified, right.pin_error, right.msisdn) == (True, None, TO)
    (record,) = api.tfa.get_tfa_verification_status(
        TO, application_id, verified=True, sent=True
    ).verifications
    assert (record.msisdn, record.verified) == (TO, True)
    assert record.verified_at >= record.sent_at


def test_errors(api):
    """Refusals become the client's exceptions, with the body parsed."""
    with pytest.raises(infobip.exceptions.NotFoundException) as missing:
        api.tfa.get_tfa_application("nope")
    assert missing.value.data.request_error.service_exception.message_id == "NOT_FOUND"
    with pytest.raises(infobip.exceptions.BadRequestException) as bad:
        application(api, pin_time_to_live="soon")
    exception = bad.value.data.request_error.service_exception
    assert exception.message_id == "BAD_REQUEST"
    assert list(exception.validation_errors) == ["configuration.pinTimeToLive"]
    api.simulator.fault(status=500, times=1)
    with pytest.raises(infobip.exceptions.ServiceException):
        api.tfa.get_tfa_applications()
    stranger = infobip.Configuration(host=api.simulator.url, api_key="wrong", retries=0)
    api.tfa.api_client.configuration = stranger
    with pytest.raises(infobip.exceptions.UnauthorizedException):
        api.tfa.get_tfa_applications()


def test_reports(api):
    """The client's call for delivery reports understands those of a tracked PIN."""
    application_id = application(api).application_id
    message_id = message(api, application_id).message_id
    sent = api.tfa.send_tfa_pin_code_over_sms(sending(application_id, message_id, track_delivery=True))
    api.simulator.advance(2)
    *_, last = api.sms.get_outbound_sms_message_delivery_reports(message_id=sent.external_message_id).results
    assert (last.message_id, last.to, last.sender) == (sent.external_message_id, TO, "Shop")
    assert (last.status.group_name, last.status.name) == ("DELIVERED", "DELIVERED_TO_HANDSET")
    assert (last.error.group_name, last.error.permanent) == ("OK", False)
    assert (last.price.price_per_message, last.price.currency) == (0.01, "EUR")
    assert last.done_at > last.sent_at
