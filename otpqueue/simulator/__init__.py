"""A local stand-in for the Infobip 2FA HTTP API, in one process, with its state in memory.

It imports nothing else of otpqueue, so it can serve any client of that API::

    python -m otpqueue.simulator --api-key my-test-key

What the real service does is taken from Infobip's OpenAPI document for 2FA, version 3.210.0. Where that
says nothing, the choice is an option (see `options.Options`), marked INFERRED there.
"""
