"""A local stand-in for the Infobip 2FA HTTP API, in one process.

It imports nothing else of otpqueue, so it can serve any client of that API::

    python -m otpqueue.simulator --api-key my-test-key

What the real service does is taken from Infobip's OpenAPI documents, version 3.210.0. Where those say
nothing, the choice is an option (see `options.Options`), marked INFERRED there.

A request passes `gate` (faults, authorization), a resource in `resources` or `account`, and then `sending`
or `verifying`. `state` is what is remembered; `outbox` and `pushing` bring delivery reports to webhooks.
"""
