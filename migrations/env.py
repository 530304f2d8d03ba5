"""Run migrations one process at a time, and never wait long for a lock that traffic holds."""

import os

from alembic import context
from sqlalchemy import Connection, text

from otpqueue.store.engine import make_engine
from otpqueue.store.schema import metadata

ADVISORY_LOCK = 0x6F7470_0001


def run(connection: Connection) -> None:
    # Ours is in autocommit; a migration is one transaction, done or not.
    connection.execution_options(isolation_level="READ COMMITTED")
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    try:
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("RESET lock_timeout"))
        connection.execute(text("RESET statement_timeout"))
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with make_engine(os.environ["DATABASE_URL"], pool_size=1).connect() as own:
        run(own)
