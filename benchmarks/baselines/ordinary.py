"""Baseline *ordinary*: one Celery message per request, ORM sessions and `requests.post`.

Falcon under granian's WSGI interface. A request becomes a row and a message; the task reads the row, marks it
as being sent, calls the provider and records the outcome, in two transactions. Run as a program, this module
creates the table.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import falcon
import redis
import requests
from celery import Celery
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_LIMIT, _WINDOW_S = 3, 900

log = logging.getLogger("ordinary")
_environment = {"DATABASE_URL": "postgresql+psycopg://", "REDIS_URL": "redis://", **os.environ}
_engine = create_engine(_environment["DATABASE_URL"], pool_size=64, max_overflow=0)
_sessions: sessionmaker[Session] = sessionmaker(_engine)

tasks = Celery("ordinary", broker=_environment["REDIS_URL"])
tasks.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"max_connections": 256},
    broker_pool_limit=64,
)


class Base(DeclarativeBase):
    """The tables."""


class Request(Base):
    """A request for a code."""

    __tablename__ = "ordinary_requests"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    phone_number: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="queued", index=True)
    pin_id: Mapped[str | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


@tasks.task(name="send_otp", bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def send_otp(_task: Any, request_id: str) -> None:
    """Send one code."""
    with _sessions.begin() as session:
        request = session.get(Request, UUID(request_id), with_for_update=True)
        if request is None or request.status != "queued":
            return
        request.status, number = "sending", request.phone_number
    answer = requests.post(
        os.environ["PROVIDER_URL"] + "/2fa/2/pin?ncNeeded=false",
        json={"applicationId": "application", "messageId": "message", "to": number.removeprefix("+")},
        headers={"Authorization": "App benchmark"},
        timeout=15,
    )
    answer.raise_for_status()
    with _sessions.begin() as session:
        request = session.get_one(Request, UUID(request_id))
        request.status, request.pin_id, request.sent_at = "sent", answer.json()["pinId"], datetime.now(UTC)
    log.info(json.dumps({"event": "otp_sent", "id": request_id}))


class RequestOtp:
    """`POST /request-otp`."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Store a request and publish its message."""
        number = json.loads(req.bounded_stream.read(16384)).get("phoneNumber", "")
        if not _E164.fullmatch(number):
            raise falcon.HTTPBadRequest
        limit = self._redis.pipeline()
        limit.incr(f"limit:{number}")
        limit.expire(f"limit:{number}", _WINDOW_S, nx=True)
        if limit.execute()[0] > _LIMIT:
            raise falcon.HTTPTooManyRequests
        with _sessions.begin() as session:
            request = Request(id=uuid4(), phone_number=number, created_at=datetime.now(UTC))
            session.add(request)
            request_id = str(request.id)
        send_otp.delay(request_id)
        log.info(json.dumps({"event": "otp_requested", "id": request_id}))
        resp.status = falcon.HTTP_202
        resp.text = json.dumps({"success": True, "requestId": request_id})


class Live:
    """`GET /health/live`."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        resp.text = "{}"


def make() -> falcon.App[Any, Any]:
    """Return the application."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    app = falcon.App()
    app.add_route(
        "/request-otp", RequestOtp(redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=4096))
    )
    app.add_route("/health/live", Live())
    return app


web = make() if "PROVIDER_URL" in os.environ else None

if __name__ == "__main__":
    Base.metadata.create_all(_engine)
