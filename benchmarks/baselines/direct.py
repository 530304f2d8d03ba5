"""Baseline *direct*: calls the provider inside the request, as the guide does, tuned for this shape.

Falcon under granian's WSGI interface, one urllib3 pool per process, and two round trips to Redis: a script
that counts the requests of a number (3 in 15 minutes) and a SETEX that keeps the pinId for the check. Nothing
else is stored: a crash loses the requests in progress, and the caller waits for the provider.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import Any

import falcon
import redis
import urllib3

_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_KEEP_S = 300
_LIMIT, _WINDOW_S = 3, 900
_COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return n
"""

log = logging.getLogger("direct")


class Provider:
    """The two calls of the 2FA API."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        # Every thread may have a call under way.
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1024, retries=False, timeout=15)
        self._headers = {"Authorization": "App benchmark", "Content-Type": "application/json"}

    def send(self, number: str) -> str:
        """Have a code sent and return its pinId."""
        body = {"applicationId": "application", "messageId": "message", "to": number.removeprefix("+")}
        return str(self._post("/2fa/2/pin?ncNeeded=false", body)["pinId"])

    def verify(self, pin_id: str, code: str) -> bool:
        """Return whether the code is right."""
        return self._post(f"/2fa/2/pin/{pin_id}/verify", {"pin": code})["verified"] is True

    def _post(self, path: str, body: dict[str, str]) -> Any:
        answer = self._pool.request(
            "POST", self._base_url + path, body=json.dumps(body), headers=self._headers
        )
        if answer.status != 200:
            raise falcon.HTTPServiceUnavailable
        return json.loads(answer.data)


class RequestOtp:
    """`POST /request-otp`."""

    def __init__(self, client: redis.Redis, provider: Provider) -> None:
        self._redis, self._provider = client, provider
        self._count = client.register_script(_COUNT)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send a code and remember its pinId."""
        number = json.loads(req.bounded_stream.read(16384)).get("phoneNumber", "")
        if not _E164.fullmatch(number):
            raise falcon.HTTPBadRequest
        if int(self._count(keys=[f"limit:{number}"], args=[_WINDOW_S])) > _LIMIT:
            raise falcon.HTTPTooManyRequests
        self._redis.setex(f"pin:{number}", _KEEP_S, self._provider.send(number))
        log.info(json.dumps({"event": "otp_sent", "number": f"...{number[-2:]}"}))
        resp.status = falcon.HTTP_202
        resp.text = json.dumps({"success": True, "message": "OTP sent"})


class VerifyOtp:
    """`POST /verify-otp`."""

    def __init__(self, client: redis.Redis, provider: Provider) -> None:
        self._redis, self._provider = client, provider

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Check a code."""
        given = json.loads(req.bounded_stream.read(16384))
        key = f"pin:{given['phoneNumber']}"
        pin_id = self._redis.get(key)
        if not pin_id or not self._provider.verify(str(pin_id), given["otp"]):
            raise falcon.HTTPBadRequest
        self._redis.delete(key)
        log.info(json.dumps({"event": "otp_verified"}))
        resp.text = json.dumps({"success": True})


class Live:
    """`GET /health/live`."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        resp.text = "{}"


def make() -> falcon.App[Any, Any]:
    """Return the application."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    client = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=4096, decode_responses=True)
    provider = Provider(os.environ["PROVIDER_URL"])
    app = falcon.App()
    app.add_route("/request-otp", RequestOtp(client, provider))
    app.add_route("/verify-otp", VerifyOtp(client, provider))
    app.add_route("/health/live", Live())
    return app


web = make() if "PROVIDER_URL" in os.environ else None
