"""What to do about an open alert: one or two sentences for each rule, as short as one reads at night."""

from __future__ import annotations

URGENT = frozenset(
    {"success_rate", "queue_age", "circuit_open", "provider_misconfigured", "workers_silent"},
)
"""Rules whose alerts mean that people are waiting for codes now."""

ELSE = "docs/alerts.md tells what this rule looks at."

_TODO = {
    "success_rate": """
        See the reasons: words of the provider are Infobip's affair, a cap or a stop is ours. Look at a
        request that failed. `otpqueue stop-sending` keeps people from waiting for nothing.""",
    "number_requests": """
        A person in trouble, or somebody who pumps: see the number's requests. `otpqueue numbers block` keeps
        it out (docs/sending-policy.md).""",
    "number_wrong_codes": """
        Somebody guesses. The limits hold (docs/limits.md); if it goes on, `otpqueue numbers block`.""",
    "check_failures": """
        A bug in a client's form, or guessing at many numbers. See which client: BreakdownPage, by client.""",
    "client_wrong_codes": """
        A bug in this client's form, or guessing through it. Tell the client. OTPQUEUE_WRONG_SHARE_REFUSES
        refuses its new requests (docs/limits.md).""",
    "provider_5xx": """
        Infobip had errors of its own. Codes are tried again by themselves; look at its status page if it goes
        on.""",
    "provider_misconfigured": """
        Infobip refuses our key, application or template. Check INFOBIP_API_KEY, then `otpqueue provision`
        (docs/provider.md).""",
    "delivery_rate": """
        Codes are taken and do not arrive. See in which countries, and what the reports of an undelivered
        request say.""",
    "delivery_time": """
        Codes arrive late, so people ask again. See in which countries; ask Infobip about the route.""",
    "request_spike": """
        A campaign of a client, or pumping. See countries and clients. `otpqueue stop-sending --client NAME`
        holds one back.""",
    "expired_share": """
        Codes are sent and nobody types them: they do not arrive, or nobody wanted them (docs/guard.md).""",
    "verify_time": """
        People take longer than usual to type their code: it comes late, or a client's form has changed.""",
    "country_conversion": """
        Hardly anybody there verifies: it may be pumped (docs/guard.md). `otpqueue stop-sending --country XX`
        ends it at once.""",
    "queue_age": """
        Codes wait. Do workers live, does Infobip answer? If both, start more:
        `otpqueue worker --queues=send`.""",
    "cost_per_verified": """
        Dearer countries than usual, or sends that nobody verifies: see BreakdownPage.""",
    "circuit_open": """
        Infobip does not answer. Workers pause and probe by themselves; look at its status page.""",
    "workers_silent": """
        Nobody does the work of a queue: start workers, or beat (docs/operations.md).""",
    "webhook_disabled": """
        A client's webhook has failed for too long and is off. Tell the client, then
        `otpqueue webhooks enable`.""",
    "seal_key_worn": """
        The first key of OTPQUEUE_SEAL_KEYS has sealed half of what one key may. Replace it within weeks
        (docs/privacy.md).""",
}


def todo(rule: str) -> str:
    """Return what to do about an alert of a rule; commands stand in backquotes."""
    return " ".join(_TODO.get(rule, ELSE).split())
