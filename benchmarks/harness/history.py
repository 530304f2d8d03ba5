"""Fill a database with ended requests and their attempts, checks, moves and receipts.

A few codes go the whole way first: requested, sent, delivered, verified. Their rows are then copied inside
Postgres, with new ids, hashes and times, whatever columns the tables of that version have.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import verify
from benchmarks.harness import http1, numbers, stage
from benchmarks.harness.stage import Otpqueue, Stage

_TEMPLATES = 20
_CHUNK = 250_000
_KEPT_DAYS = 30
OLD_SHARE = 0.1
"""Of the requests of a history: those that a purge deletes."""

_REQUESTS = "otp_requests"
_WHILE_FILLING = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "8GB"}
# Each copy's number, moment and id: a UUIDv7 of the moment, the rest from the number. Oldest first.
_PLAN = sql.SQL("""
CREATE TEMP TABLE bench_plan ON COMMIT DROP AS
SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(seed, 1, 3)
               || '8' || substr(seed, 4, 15))::uuid AS id,
       n % (SELECT count(*) FROM bench_templates.otp_requests) AS place
FROM (SELECT n, {oldest}::timestamptz + {span}::interval * (n::float8 / {rows}) AS at, md5(n::text) AS seed
      FROM generate_series({first}::bigint, {last}::bigint) AS s (n)) AS moments
""")


@dataclass(frozen=True)
class Column:
    """A column of a table to copy."""

    name: str
    type: str
    differs: bool
    """Whether no two of the templates have the same value, so copies must not either."""


class History:
    """The past of one database."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._tables = [name for name in self._candidates() if self._count(name)]
        self._columns = {name: self._columns_of(name) for name in self._tables}

    def fill(self, rows: int, *, span: timedelta, until: timedelta) -> float:
        """Make `rows` requests over `span`, the newest `until` ago; return how many seconds it took."""
        begin = time.monotonic()
        # Joined in the order of the plan, rows are stored in the order of their time without a sort.
        self._connection.execute("SET enable_mergejoin = off")
        self._keep_templates()
        restore = self._drop_indexes()
        oldest = self._one(sql.SQL("SELECT now() - {} - {}").format(span, until))
        for first in range(1, rows + 1, _CHUNK):
            last = min(first + _CHUNK - 1, rows)
            with self._connection.transaction():
                # No triggers, no look at foreign keys: what they would add is copied, too.
                self._connection.execute("SET LOCAL session_replication_role = replica")
                about = {"first": first, "last": last, "rows": rows, "oldest": oldest, "span": span}
                self._connection.execute(_PLAN.format(**about))
                for table in self._tables:
                    self._connection.execute(self._copy(table))
        for statement in restore:
            self._connection.execute(statement.encode())
        self._connection.execute("DROP SCHEMA bench_templates CASCADE")
        for table in self._tables:
            self._connection.execute(sql.SQL("VACUUM (ANALYZE, FREEZE) {}").format(sql.Identifier(table)))
        self._connection.execute("CHECKPOINT")
        return time.monotonic() - begin

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return how many rows and how many bytes, with indexes, each table has."""
        sized = sql.SQL("SELECT pg_total_relation_size({})")
        return {name: (self._count(name), int(self._one(sized.format(name)))) for name in self._tables}

    def _candidates(self) -> list[str]:
        found = self._connection.execute(
            "SELECT c.table_name FROM information_schema.columns AS c"
            " JOIN pg_class AS r ON r.oid = quote_ident(c.table_name)::regclass AND r.relkind IN ('r', 'p')"
            "  AND NOT r.relispartition"
            " WHERE c.table_schema = 'public' AND c.column_name = 'request_id' ORDER BY 1"
        )
        return [_REQUESTS, *(name for (name,) in found)]

    def _count(self, table: str) -> int:
        return int(self._one(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))))

    def _columns_of(self, table: str) -> list[Column]:
        found = self._connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s"
            " AND is_identity = 'NO' AND is_generated = 'NEVER' ORDER BY ordinal_position",
            [table],
        ).fetchall()
        return [Column(name, kind, self._differs(table, name, kind)) for name, kind in found]

    def _differs(self, table: str, column: str, kind: str) -> bool:
        if kind != "text":
            return False
        statement = sql.SQL("SELECT count({0}) > 1 AND count(DISTINCT {0}) = count(*) FROM {1}")
        return bool(self._one(statement.format(sql.Identifier(column), sql.Identifier(table))))

    def _keep_templates(self) -> None:
        self._connection.execute("CREATE SCHEMA bench_templates")
        for table in self._tables:
            # Requests are numbered, and what belongs to them by their request.
            numbered = sql.SQL(
                "CREATE TABLE bench_templates.{0} AS SELECT t.*, r.place AS bench_place, r.at AS bench_at"
                " FROM public.{0} AS t JOIN (SELECT id, created_at AS at, row_number() OVER (ORDER BY id) - 1"
                " AS place FROM public.{1}) AS r ON r.id = t.{2}"
            )
            key = sql.Identifier("id" if table == _REQUESTS else "request_id")
            self._connection.execute(numbered.format(sql.Identifier(table), sql.Identifier(_REQUESTS), key))

    def _copy(self, table: str) -> sql.Composed:
        columns = self._columns[table]
        return sql.SQL(
            "INSERT INTO public.{table} ({names}) SELECT {values}"
            " FROM bench_plan AS g JOIN bench_templates.{table} AS t ON t.bench_place = g.place"
        ).format(
            table=sql.Identifier(table),
            names=sql.SQL(", ").join(sql.Identifier(one.name) for one in columns),
            values=sql.SQL(", ").join(self._value(one) for one in columns),
        )

    def _value(self, column: Column) -> sql.Composed:
        name = sql.Identifier(column.name)
        if column.type == "uuid" and column.name in {"id", "request_id"}:
            # Others' own ids are of the same moment, and need not be different from the request's.
            return sql.SQL("g.id").format()
        if column.type == "timestamp with time zone":
            return sql.SQL("g.at + (t.{} - t.bench_at)").format(name)
        if column.type == "bytea" and "hash" in column.name:
            return sql.SQL("CASE WHEN t.{} IS NOT NULL THEN sha256(({} || g.n)::bytea) END").format(
                name, column.name
            )
        if column.differs:
            return sql.SQL("CASE WHEN t.{} IS NOT NULL THEN upper(left(md5(g.n::text), 20)) END").format(name)
        return sql.SQL("t.{}").format(name)

    def _drop_indexes(self) -> list[str]:
        """Drop indexes that no primary key needs; return what makes them again."""
        found = self._connection.execute(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), c.conname,"
            "       i.indrelid::regclass::text, pg_get_constraintdef(c.oid)"
            " FROM pg_index AS i"
            " LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.contype = 'u'"
            " WHERE i.indrelid = ANY(%s::regclass[]) AND NOT i.indisprimary",
            [self._tables],
        ).fetchall()
        restore = []
        for index, definition, constraint, table, constrained in found:
            if constraint is None:
                self._connection.execute(f"DROP INDEX {index}".encode())
                restore.append(definition)
            else:
                self._connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}".encode())
                restore.append(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {constrained}")
        return restore

    def _one(self, statement: sql.Composed) -> Any:
        return self._connection.execute(statement).fetchall()[0][0]


def make(on: Stage, ours: Otpqueue, rows: int) -> str:
    """Make a database with so many ended requests, or find it in the kept folder, and return its URL.

    The newest are a day old. One in `1 / OLD_SHARE` is older than the retention.
    """
    ours.prepare(on)
    name = f"history_{ours.name}_{rows}"
    kept = on.find_database(name)
    if kept:
        ours.migrate(on, kept)
        return kept
    url = on.new_database(ours.template)
    _live(on, ours, url)
    with psycopg.connect(stage.plain(url), autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        # What is lost in a crash is filled again. The vacuum at the end replaces those of autovacuum.
        for setting, value in _WHILE_FILLING.items():
            connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SET statement_timeout = 0")
        history = History(connection)
        seconds = history.fill(
            rows, span=timedelta(days=_KEPT_DAYS - 1) / (1 - OLD_SHARE), until=timedelta(days=1)
        )
        size = sum(size for _, size in history.sizes().values())
        parts = ", ".join(f"{name} {count}" for name, (count, _) in history.sizes().items())
        print(
            f"{ours.name}: {rows} requests filled in in {seconds:.0f} s, {size / 1e9:.2f} GB ({parts})",
            flush=True,
        )
        for setting in _WHILE_FILLING:
            connection.execute(f"ALTER SYSTEM RESET {setting}".encode())
        connection.execute("SELECT pg_reload_conf()")
    return on.keep_database(url, name) if on.keeps else url


def _live(on: Stage, ours: Otpqueue, url: str) -> None:
    """Have a few codes sent, delivered and verified."""
    mine: Iterator[str] = itertools.islice(numbers.ordinary(), 500_000, None)
    on.set_latency(stage.Latency(send_s=0.005, verify_s=0.005))
    with ours.running(on, sends=True, database_url=url, receipts=True) as running:
        checks = verify.sent_codes(on, running, mine, _TEMPLATES)
        reported = "SELECT count(*) FROM receipts WHERE request_id IS NOT NULL"
        stage.until(lambda: stage.rows(url, reported)[0][0] == _TEMPLATES, running.children)
        load = http1.closed(running.port, iter(checks), connections=4, expected=200)
        if load.failed:
            raise SystemExit(f"codes were not verified: {load.failed}")
        # Statistics are added up within some seconds.
        time.sleep(1)
