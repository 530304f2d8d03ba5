"""The use cases of the service, one per module.

A request passes through request, send, status, verify and cancel. `sweep` and `expire` end unfinished
requests.
`provision` and `access.keys` set up what a request needs.

Dependencies (the provider, the way to wake a worker) are passed in. Nothing here depends on HTTP servers or
Celery.
"""
