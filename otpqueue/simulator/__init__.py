"""A local stand-in for the Infobip 2FA HTTP API, in one process.

It imports no other module of otpqueue, so it can serve any client of that API::

    python -m otpqueue.simulator --api-key my-test-key

Behaviour follows Infobip's OpenAPI documents, version 3.210.0. Where they leave behaviour open, it is an
option (see `options.Options`), marked INFERRED there.

A request passes `middleware` (faults, authorization), a resource in `resources` or `account`, and then
`sending` or `verifying`. `state` holds all state in memory; `outbox` and `pushing` push delivery reports to
webhooks.
"""
