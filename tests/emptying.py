"""Empty a database that many tests share: a hundred times as quick as a copy of the template."""

from __future__ import annotations

from sqlalchemy import Connection

from otpqueue.store.schema import metadata

_TABLES = ", ".join(f"'{table.name}'" for table in reversed(metadata.sorted_tables))
_LARGE_BYTES = 1024 * 1024

# TRUNCATE makes new files for each table and index. It is left for tables that have grown, as no vacuum runs.
# As a replica the session fires no triggers, which would count what is deleted.
_EMPTY = f"""
DO $$
DECLARE
    name text;
    grown boolean := false;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOREACH name IN ARRAY ARRAY[{_TABLES}] LOOP
        IF pg_relation_size(name::regclass) > {_LARGE_BYTES} THEN
            grown := true;
        ELSIF pg_relation_size(name::regclass) > 0 THEN
            EXECUTE 'DELETE FROM ' || quote_ident(name);
        END IF;
    END LOOP;
    IF grown THEN
        EXECUTE 'TRUNCATE ' || array_to_string(ARRAY[{_TABLES}], ', ');
    END IF;
END
$$
"""


def empty_tables(conn: Connection) -> None:
    """Delete every row of every table."""
    conn.exec_driver_sql(_EMPTY)
