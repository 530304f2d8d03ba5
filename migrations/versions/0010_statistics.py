"""Statistics: what happens is written to an outbox, from which it is added up by the minute and the hour."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from otpqueue.store.functions import create_trigger_statement

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)

STAT_BUCKET = """
CREATE FUNCTION stat_bucket(ms bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce((ARRAY[
        50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10000, 15000,
        20000, 30000, 45000, 60000, 90000, 120000, 180000, 300000, 600000, 1800000,
        3600000
    ])[1 + width_bucket(greatest(ms, 1) - 1, ARRAY[
        50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10000, 15000,
        20000, 30000, 45000, 60000, 90000, 120000, 180000, 300000, 600000, 1800000,
        3600000
    ]::bigint[])]::text, 'inf')
$$
"""
STAT_MS = """
CREATE FUNCTION stat_ms(began timestamptz, ended timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(round(extract(epoch FROM ended - began) * 1000), 0)::bigint
$$
"""
TELL_OF_REQUEST_MADE = """
CREATE FUNCTION otp_requests_tell_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), NEW.channel,
            'requested', '', 1, 0);
    RETURN NULL;
END
$$
"""
REQUEST_MADE_TRIGGER = create_trigger_statement("otp_requests_made_statistics")
TELL_OF_REQUEST_MOVED = """
CREATE FUNCTION otp_requests_tell_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'sent' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.sent_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'sent', '', 'accept_to_sent', stat_bucket(ms), 1, ms
        FROM stat_ms(NEW.created_at, coalesce(NEW.sent_at, NEW.updated_at)) AS ms;
    ELSIF NEW.status = 'verified' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.verified_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'verified', '', 'sent_to_verified', stat_bucket(ms),
               1, ms
        FROM stat_ms(coalesce(NEW.sent_at, NEW.created_at), coalesce(NEW.verified_at, NEW.updated_at)) AS ms;
    ELSE
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
        VALUES (date_trunc('minute', coalesce(NEW.finished_at, NEW.updated_at)), NEW.client_id,
                coalesce(NEW.country, 'ZZ'), NEW.channel, NEW.status,
                CASE WHEN NEW.status <> 'expired' OR NEW.sent_at IS NULL THEN coalesce(NEW.reason, '')
                     WHEN NEW.check_number > 0 THEN 'checked' ELSE 'unchecked' END, 1, 0);
    END IF;
    RETURN NULL;
END
$$
"""
REQUEST_MOVED_TRIGGER = create_trigger_statement("otp_requests_moved_statistics")
TELL_OF_ATTEMPTS = """
CREATE FUNCTION send_attempts_tell_statistics() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', told.at), r.client_id, coalesce(r.country, 'ZZ'), a.channel,
           told.metric, told.label, told.also, told.also_label, sum(a.sign), sum(a.sign * told.total)
    FROM (SELECT 1 AS sign, * FROM new_attempts UNION ALL SELECT -1, * FROM old_attempts) AS a
    JOIN otp_requests AS r ON r.id = a.request_id
    CROSS JOIN LATERAL (
        SELECT coalesce(a.finished_at, a.claimed_at), 'attempts', a.outcome,
               CASE WHEN a.latency_ms IS NOT NULL THEN 'provider_sends' END,
               CASE WHEN a.latency_ms IS NOT NULL THEN coalesce(a.http_status::text, 'none') END,
               coalesce(a.latency_ms, 0)::numeric
        WHERE a.outcome IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), 'delivered', '', 'sent_to_delivered',
               stat_bucket(stat_ms(a.finished_at, a.done_at)), stat_ms(a.finished_at, a.done_at)
        WHERE a.delivery = 'delivered' AND a.done_at IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), a.delivery, '', NULL, NULL, 0
        WHERE a.delivery = 'undelivered' OR (a.delivery = 'delivered' AND a.done_at IS NULL)
        UNION ALL
        SELECT coalesce(a.finished_at, a.claimed_at), 'cost', coalesce(a.currency, ''), NULL, NULL, a.price
        WHERE a.price IS NOT NULL
    ) AS told (at, metric, label, also, also_label, total)
    WHERE NOT r.is_test
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    HAVING sum(a.sign) <> 0 OR sum(a.sign * told.total) <> 0;
    RETURN NULL;
END
$$
"""
ATTEMPTS_TRIGGER = create_trigger_statement("send_attempts_statistics")
TELL_OF_CHECK = """
CREATE FUNCTION checks_tell_statistics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', coalesce(c.finished_at, c.started_at)), r.client_id,
           coalesce(r.country, 'ZZ'), r.channel, 'checks', c.verdict,
           CASE WHEN c.latency_ms IS NOT NULL THEN 'provider_checks' END,
           CASE WHEN c.latency_ms IS NOT NULL THEN coalesce(c.http_status::text, 'none') END,
           c.sign, c.sign * coalesce(c.latency_ms, 0)
    FROM (
        VALUES (1, NEW.finished_at, NEW.started_at, NEW.verdict, NEW.http_status, NEW.latency_ms),
               (-1, OLD.finished_at, OLD.started_at, OLD.verdict, OLD.http_status, OLD.latency_ms)
    ) AS c (sign, finished_at, started_at, verdict, http_status, latency_ms)
    JOIN otp_requests AS r ON r.id = NEW.request_id
    WHERE c.verdict IS NOT NULL AND NOT r.is_test;
    RETURN NULL;
END
$$
"""
CHECK_TRIGGER = create_trigger_statement("checks_statistics")
TELL_OF_REFUSAL_FIRST = """
CREATE FUNCTION refusals_tell_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count, 0);
    RETURN NULL;
END
$$
"""
REFUSAL_FIRST_TRIGGER = create_trigger_statement("refusals_first_statistics")
TELL_OF_REFUSAL_MORE = """
CREATE FUNCTION refusals_tell_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count - OLD.count, 0);
    RETURN NULL;
END
$$
"""
REFUSAL_MORE_TRIGGER = create_trigger_statement("refusals_more_statistics")
TRIGGERS = (
    ("refusals", "refusals_first_statistics"),
    ("refusals", "refusals_more_statistics"),
    ("checks", "checks_statistics"),
    ("send_attempts", "send_attempts_statistics"),
    ("otp_requests", "otp_requests_moved_statistics"),
    ("otp_requests", "otp_requests_made_statistics"),
)
FUNCTIONS = (
    "refusals_tell_first()",
    "refusals_tell_more()",
    "checks_tell_statistics()",
    "send_attempts_tell_statistics()",
    "otp_requests_tell_made()",
    "otp_requests_tell_moved()",
    "stat_ms(timestamptz, timestamptz)",
    "stat_bucket(bigint)",
)


def upgrade() -> None:
    # Without a default, or with a constant one, a new column rewrites no row.
    op.add_column("send_attempts", sa.Column("reported_at", Time))
    op.add_column("refusals", sa.Column("country", sa.Text()))
    op.add_column(
        "refusals", sa.Column("is_test", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.create_table(
        "stat_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("also", sa.Text()),
        sa.Column("also_label", sa.Text()),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("stat_events_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "5000",
            "autovacuum_vacuum_cost_delay": "0",
            "vacuum_truncate": "false",
        },
    )
    _create_sums("stats_minutes", "50")
    _create_sums("stats_hours", "45")
    for statement in (
        STAT_BUCKET,
        STAT_MS,
        *(TELL_OF_REQUEST_MADE, REQUEST_MADE_TRIGGER, TELL_OF_REQUEST_MOVED, REQUEST_MOVED_TRIGGER),
        *(TELL_OF_ATTEMPTS, ATTEMPTS_TRIGGER),
        *(TELL_OF_CHECK, CHECK_TRIGGER),
        *(TELL_OF_REFUSAL_FIRST, REFUSAL_FIRST_TRIGGER, TELL_OF_REFUSAL_MORE, REFUSAL_MORE_TRIGGER),
    ):
        op.execute(statement)


def _create_sums(name: str, fillfactor: str) -> None:
    key = ("at", "client_id", "country", "channel", "metric", "label")
    op.create_table(
        name,
        sa.Column("at", Time, nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        *(sa.Column(column, sa.Text(), nullable=False) for column in key[2:]),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"{name}_pkey")),
        postgresql_with={"fillfactor": fillfactor},
    )


def downgrade() -> None:
    for table, trigger in TRIGGERS:
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for table in ("stats_hours", "stats_minutes", "stat_events"):
        op.drop_table(table)
    op.drop_column("refusals", "is_test")
    op.drop_column("refusals", "country")
    op.drop_column("send_attempts", "reported_at")
