"""How long the console's pages take with a million requests in the tables.

    python -m benchmarks console [--requests 1000000] [--times 30]

An embedded Postgres (durable, as in production), filled with requests of thirty days, each with an attempt, a
check, a report and two moves, and with the roll-ups that they would have left: of each minute for a week, of
each hour for thirty days. Then `otpqueue api`, called by HTTP as a browser calls it, one page after another.
Prints what each page took.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import requests
from sqlalchemy import Connection, Engine, text

from otpqueue import clock
from otpqueue.embedded import ChildProcess, EngineHome, Postgres, Valkey
from otpqueue.embedded.home import free_port
from otpqueue.settings import load
from otpqueue.store import migrate
from otpqueue.store.engine import allow_time, connection, make_engine, transaction
from otpqueue.store.sessions import TimeLimits
from otpqueue.wiring import Parts

AT_MOST_MS = 300.0
"""What the first page and the list must keep."""

NUMBER = "+447700900123"
CLIENTS = ("bank", "portal", "shop")
COUNTRIES = ("GB", "DE", "FR", "US", "IN", "BR", "ID")
SEALED = 2_000
"""This many of the newest requests have a number that can be decrypted; the others are never viewed."""

TABLES = ("otp_requests", "send_attempts", "checks", "receipts", "moves")
FILL = (
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, country, channel,
                              status, reason, send_state, checks_allowed, checks_used, created_at,
                              updated_at, send_by, sent_at, expires_at, finished_at, client_reference)
    SELECT gen_random_uuid(), (SELECT id FROM clients WHERE name = (CAST(:clients AS text[]))[1 + n % 3]),
           decode(repeat('00', 41), 'hex'), 'k1',
           CASE WHEN n % 200 = 0 THEN CAST(:number_hash AS bytea) ELSE sha256(n::text::bytea) END,
           (CAST(:countries AS text[]))[1 + n % 7], 'sms', status,
           CASE status WHEN 'verified' THEN 'code_correct' WHEN 'expired' THEN 'code_lifetime'
                       ELSE 'provider_refused' END,
           'idle', 5, 1, at, at, at + interval '90 s', at, at + interval '5 min', at, 'login-' || n
    FROM (SELECT n, now() - n * interval '30 days' / CAST(:requests AS int) AS at,
                 CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 6 = 0 THEN 'expired'
                      ELSE 'verified' END AS status
          FROM generate_series(1, CAST(:requests AS int)) AS n) AS made
    """,
    (
        "INSERT INTO send_attempts (request_id, number, worker, claimed_at, finished_at, outcome,"
        " http_status, latency_ms, pin_id, external_message_id, delivery, price, currency)"
        " SELECT id, 1, 'web-1:4711', created_at, created_at, 'accepted', 200, 120, id::text, id::text,"
        " 'delivered', 0.04, 'EUR' FROM otp_requests"
    ),
    (
        "INSERT INTO checks (request_id, number, started_at, finished_at, verdict, http_status, latency_ms)"
        " SELECT id, 1, created_at, created_at, 'correct', 200, 90 FROM otp_requests"
    ),
    (
        "INSERT INTO receipts (id, message_id, delivery, status, received_at, request_id, attempt)"
        " SELECT gen_random_uuid(), id::text, 'delivered', 'DELIVERED_TO_HANDSET', created_at, id, 1"
        " FROM otp_requests"
    ),
    (
        "INSERT INTO moves (request_id, at, of, was, became)"
        " SELECT id, created_at, 'status', 'queued', 'sent' FROM otp_requests, generate_series(1, 2)"
    ),
)
ROLL_UPS = """
    INSERT INTO {table} (at, client_id, country, channel, metric, label, n, total)
    SELECT at, client.id, country, 'sms', what[1], what[2], 1 + (random() * {most})::int, 150
    FROM generate_series(date_trunc('{step}', now()) - interval '{back}', now(), interval '1 {step}') AS at,
         (SELECT id, row_number() OVER (ORDER BY name) AS place FROM clients) AS client,
         unnest(CAST(:countries AS text[])) WITH ORDINALITY AS c (country, number),
         (VALUES (ARRAY['requested', '']), (ARRAY['sent', '']), (ARRAY['delivered', '']),
                 (ARRAY['undelivered', '']), (ARRAY['verified', '']), (ARRAY['checks', 'correct']),
                 (ARRAY['checks', 'wrong']), (ARRAY['failed', 'provider_refused']),
                 (ARRAY['refused', 'limit_number_15m']), (ARRAY['cost', 'EUR']),
                 (ARRAY['accept_to_sent', '100']), (ARRAY['accept_to_sent', '200']),
                 (ARRAY['accept_to_sent', '500']), (ARRAY['sent_to_delivered', '2000']),
                 (ARRAY['sent_to_delivered', '5000']), (ARRAY['provider_sends', '200'])) AS w (what)
    WHERE {chosen}
"""
ALERTS = """
    INSERT INTO alerts (id, rule, subject, state, value, threshold, window_s, sample, evaluated_at, opened_at,
                        closed_at, evidence)
    SELECT gen_random_uuid(), 'country_conversion', 'X' || n, CASE WHEN n <= 5 THEN 'open' ELSE 'closed' END,
           0.2, 0.3, 3600, 60, now(), now() - n * interval '1 h',
           CASE WHEN n > 5 THEN now() END, '{"figures": {"sent": 60}}'
    FROM generate_series(1, 1000) AS n
"""


def fill(engine: Engine, parts: Parts, count: int) -> None:
    """Store requests with their trails, roll-ups and alerts."""
    values = {
        "clients": list(CLIENTS),
        "countries": list(COUNTRIES),
        "requests": count,
        "number_hash": parts.vault.number_hash(NUMBER),
    }

    def work(conn: Connection) -> None:
        allow_time(conn, 3600)
        for table in TABLES:
            # What triggers would write down for each row is filled in below.
            conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in FILL:
            conn.execute(text(statement), values)
        for table in TABLES:
            conn.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
        # A country belongs to one client in one minute, and to all of them within the hour.
        of_minute = "client.place = 1 + (number + extract(epoch FROM at)::bigint / 60) % 3"
        minutes = ROLL_UPS.format(
            table="stats_minutes", step="minute", back="7 days", most=8, chosen=of_minute
        )
        hours = ROLL_UPS.format(table="stats_hours", step="hour", back="30 days", most=200, chosen="true")
        for statement in (minutes, hours, ALERTS):
            conn.execute(text(statement), {"countries": list(COUNTRIES)})

    transaction(engine, work)
    seal_newest(engine, parts)
    with connection(engine) as conn:
        conn.execute(text("VACUUM ANALYZE"))


def seal_newest(engine: Engine, parts: Parts) -> None:
    """Give the newest requests numbers that open."""

    def work(conn: Connection) -> None:
        newest = text("SELECT id FROM otp_requests ORDER BY created_at DESC LIMIT :limit")
        sealed = [
            {"id": id_, "key_id": key_id, "sealed": body}
            for (id_,) in conn.execute(newest, {"limit": SEALED})
            for key_id, body in [parts.vault.seal(NUMBER, row_id=id_)]
        ]
        change = "UPDATE otp_requests SET number_sealed = :sealed, seal_key_id = :key_id WHERE id = :id"
        conn.execute(text(change), sealed)

    transaction(engine, work)


class Browser:
    """An operator's browser, logged in."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._session = url, requests.Session()
        page = self.get("/console/log-in")
        self._session.post(
            f"{url}/console/log-in", data={"token": token(page), "key": key}, timeout=10
        ).raise_for_status()

    def get(self, path: str) -> str:
        """Open a page."""
        answer = self._session.get(self._url + path, timeout=60)
        answer.raise_for_status()
        return answer.text

    def find(self, wanted: str) -> str:
        """Search for an id or a number."""
        page = self.get("/console/settings")
        data = {"token": token(page), "wanted": wanted}
        answer = self._session.post(f"{self._url}/console/requests/find", data=data, timeout=60)
        answer.raise_for_status()
        return answer.text

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def token(page: str) -> str:
    """Return what the page's forms bring along."""
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found  # noqa: S101
    return found[1]


def pages(browser: Browser) -> Mapping[str, Callable[[], object]]:
    """Return what is measured, by name."""
    listed = browser.get("/console/requests")
    one = re.findall(r'href="(/console/requests/[0-9a-f-]{36})"', listed)[0]
    deep = "/console/requests"
    for _ in range(20):
        link = re.search(r'href="([^"]*cursor=[^"]*)" rel="next"', browser.get(deep))
        assert link  # noqa: S101
        deep = link[1].replace("&amp;", "&")
    return {
        "Now": lambda: browser.get("/console"),
        "Now, 24 hours": lambda: browser.get("/console?span=24h"),
        "Requests": lambda: browser.get("/console/requests"),
        "Requests, 20 pages on": lambda: browser.get(deep),
        "Requests, failed": lambda: browser.get("/console/requests?status=failed"),
        "Requests, none such": lambda: browser.get("/console/requests?status=locked"),
        "Requests of a client": lambda: browser.get("/console/requests?client=shop&last=24h"),
        "Requests of a number, and a page": lambda: browser.find(NUMBER),
        "One request": lambda: browser.get(one),
        "Alerts": lambda: browser.get("/console/alerts"),
        "Countries, 24 hours": lambda: browser.get("/console/countries"),
        "Countries, 7 days": lambda: browser.get("/console/countries?span=7d"),
        "Clients, 1 hour": lambda: browser.get("/console/countries?by=client&span=1h"),
        "Settings": lambda: browser.get("/console/settings"),
    }


def measure(browser: Browser, times: int) -> None:
    """Open every page so often, and print what each took."""
    print(f"{'':<34}{'median':>9}{'p95':>9}{'max':>9}   ms")
    for name, opened in pages(browser).items():
        took = []
        for _ in range(times):
            start = time.perf_counter()
            opened()
            took.append((time.perf_counter() - start) * 1000)
        p95 = statistics.quantiles(took, n=20, method="inclusive")[18]
        slow = "   over 300" if p95 > AT_MOST_MS else ""
        print(f"{name:<34}{statistics.median(took):>9.0f}{p95:>9.0f}{max(took):>9.0f}{slow}")


def run(folder: Path, *, count: int, times: int) -> None:
    """Fill, serve, measure."""
    with (
        EngineHome(folder) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        environment = {
            "DATABASE_URL": postgres.create_database("benchmark"),
            "REDIS_URL": valkey.url,
            "INFOBIP_BASE_URL": "http://127.0.0.1:9",
            "INFOBIP_API_KEY": "none",
            "OTPQUEUE_SEAL_KEYS": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "OTPQUEUE_HASH_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "OTPQUEUE_LOG_LEVEL": "ERROR",
        }
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        api = ChildProcess(
            "api",
            [sys.executable, "-m", "otpqueue", "api", "--port", str(port)],
            ready=lambda: requests.get(f"{url}/health/live", timeout=1).raise_for_status(),
            env={**os.environ, **environment},
            log=home.path / "api.log",
        )
        with closing(Parts(load(environment, dotenv=None))) as parts:
            patient = TimeLimits(statement_s=3600)
            engine = make_engine(environment["DATABASE_URL"], pool_size=2, limits=patient)
            migrate.upgrade(engine)
            for client in CLIENTS:
                parts.keys.client_id(client, now=clock.now())
            key = parts.keys.create(client="shop", scopes=frozenset({"admin"}), now=clock.now())
            began = time.perf_counter()
            fill(engine, parts, count)
            with connection(engine) as conn:
                rows = {
                    table: conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 - ours
                    for table in ("otp_requests", "stats_minutes", "stats_hours", "alerts")
                }
            engine.dispose()
            print(f"filled in {time.perf_counter() - began:.0f} s: {rows}")
            try:
                api.start()
                api.wait_ready(60)
                with closing(Browser(url, key)) as browser:
                    measure(browser, times)
            finally:
                api.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), count=given.requests, times=given.times)


if __name__ == "__main__":
    main()
