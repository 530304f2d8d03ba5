"""What to do about an open alert, in a few short sentences for each rule."""

from __future__ import annotations

URGENT = frozenset(
    {"success_rate", "queue_age", "circuit_open", "provider_misconfigured", "workers_silent"},
)
"""Rules that open an alert when people do not get codes."""

ELSE = "docs/alerts.md describes what this rule measures."

_TODO = {
    "success_rate": """
        Check the reasons: provider reasons come from Infobip, a cap or a stop from us. Open a
        failed request. `otpqueue stop-sending` makes callers fail at once while nothing can be
        sent.""",
    "number_requests": """
        A person who gets no codes, or traffic pumping: check the requests for this number.
        `otpqueue numbers block` stops sending to it (docs/sending-policy.md).""",
    "number_wrong_codes": """
        The codes of this number are being guessed. The limits hold (docs/limits.md). If it
        continues, use `otpqueue numbers block`.""",
    "check_failures": """
        A fault in a client's form, or codes of many numbers are being guessed. Find the client:
        Countries, by client.""",
    "client_wrong_codes": """
        A fault in this client's form, or codes are being guessed through it. Notify the client.
        OTPQUEUE_WRONG_SHARE_REFUSES refuses its new requests (docs/limits.md).""",
    "provider_5xx": """
        Infobip answered with server errors. Workers retry automatically. If it continues, check the
        status page of Infobip.""",
    "provider_misconfigured": """
        Infobip refuses the API key, the application or a template. Check INFOBIP_API_KEY, then run
        `otpqueue provision` (docs/provider.md).""",
    "delivery_rate": """
        Infobip accepts codes that are not delivered. Compare countries, and check the delivery
        reports of an undelivered request.""",
    "delivery_time": """
        Codes are delivered late, so people request them again. Compare countries; ask Infobip about
        the route.""",
    "request_spike": """
        A campaign of a client, or traffic pumping. Compare countries and clients. `otpqueue
        stop-sending --client NAME` stops one client.""",
    "expired_share": """
        Codes are sent and not entered: they are not delivered, or this is traffic pumping
        (docs/guard.md).""",
    "verify_time": """
        People enter codes much later or sooner than usual. Later: slow delivery, or a change in a
        client's form. Sooner: automated verification.""",
    "country_conversion": """
        Few codes to this country are verified: possible traffic pumping (docs/guard.md). `otpqueue
        stop-sending --country XX` stops it at once.""",
    "queue_age": """
        Codes wait to be sent. Check that workers run and that Infobip answers. If both are so,
        start more workers: `otpqueue worker --queues=send`.""",
    "cost_per_verified": """
        More expensive countries than usual, or codes that are not verified: check Countries.""",
    "circuit_open": """
        Calls to Infobip fail; the reasons show why. No answer: check DNS, firewall and proxy. 5xx:
        check the status page of Infobip. 401, 403, 404: check the API key, then `otpqueue
        provision`. Workers resume automatically.""",
    "workers_silent": """
        Beat, or all workers of a queue, do not work: start them (docs/operations.md).""",
    "webhook_disabled": """
        A client's webhook failed too long and was disabled. Notify the client, then run `otpqueue
        webhooks enable`.""",
    "seal_key_worn": """
        The first key of OTPQUEUE_SEAL_KEYS has sealed half of what one key may. Replace it within weeks
        (docs/privacy.md).""",
}


def todo(rule: str) -> str:
    """Return what to do about an alert of a rule; commands are in backquotes."""
    return " ".join(_TODO.get(rule, ELSE).split())
