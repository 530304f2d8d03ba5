"""Where the tables are, and whether this role's sessions find them there."""

from __future__ import annotations

from sqlalchemy import Engine, text

from otpqueue.domain.errors import DatabaseMisconfigured
from otpqueue.store.engine import connection

_TABLES = text(
    """
    SELECT to_regclass('otp_requests') IS NOT NULL AS found,
           current_schema() AS schema,
           current_setting('search_path') AS path,
           (SELECT string_agg(quote_ident(n.nspname), ', ' ORDER BY n.nspname)
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relname = 'otp_requests' AND c.relkind IN ('r', 'p')) AS elsewhere
    """
)


def check(engine: Engine, *, migrating: bool = False) -> None:
    """Raise DatabaseMisconfigured if sessions do not find the tables, or cannot create them.

    A database without tables is valid. Raises DatabaseUnavailable.
    """
    with connection(engine) as conn:
        tables = conn.execute(_TABLES).one()
    if tables.found:
        return
    if tables.elsewhere:
        raise DatabaseMisconfigured(
            f"the tables are in the schema {tables.elsewhere}, which this role does not see with its "
            f"search_path, {tables.path}: change that (`ALTER ROLE ... SET search_path = ...`), grant USAGE "
            "on the schema, or use a database of its own for another instance"
        )
    if migrating and tables.schema is None:
        raise DatabaseMisconfigured(
            "there is no schema to make the tables in: nothing in this role's search_path exists, which is "
            f"{tables.path}"
        )
