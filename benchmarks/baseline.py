"""The conventional shape, to compare with: one Celery message per request, two transactions, requests.post.

It is what most services of this kind do, written as well as that shape allows: its own table, a connection
pool, a session per thread.
"""

from __future__ import annotations

import os
import threading
from uuid import UUID

import requests
from celery import Celery
from sqlalchemy import create_engine, text

app = Celery("baseline", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    task_routes={"send_one": {"queue": "baseline"}},
    broker_connection_retry_on_startup=True,
)
_engine = create_engine(os.environ["DATABASE_URL"], pool_size=64, max_overflow=0)
_local = threading.local()


@app.task(name="send_one")
def send_one(request_id: str) -> None:
    """Send one code."""
    session = _local.__dict__.setdefault("session", requests.Session())
    with _engine.begin() as conn:
        number = conn.execute(
            text(
                "UPDATE baseline SET status = 'sending', claimed_at = clock_timestamp() "
                "WHERE id = :id AND status = 'queued' RETURNING number"
            ),
            {"id": UUID(request_id)},
        ).scalar_one_or_none()
    if number is None:
        return
    answer = session.post(
        os.environ["INFOBIP_BASE_URL"] + "/2fa/2/pin?ncNeeded=false",
        json={
            "applicationId": os.environ["BASELINE_APPLICATION_ID"],
            "messageId": os.environ["BASELINE_MESSAGE_ID"],
            "to": number,
        },
        headers={"Authorization": f"App {os.environ['INFOBIP_API_KEY']}"},
        timeout=15,
    )
    with _engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE baseline SET status = 'sent', pin_id = :pin_id, sent_at = clock_timestamp() "
                "WHERE id = :id"
            ),
            {"id": UUID(request_id), "pin_id": answer.json()["pinId"]},
        )
