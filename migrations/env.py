"""Run migrations one process at a time, and never wait long for a lock that traffic holds."""

from alembic import context
from sqlalchemy import Connection, text

from otpqueue.store import locks
from otpqueue.store.engine import allow_time
from otpqueue.store.functions import create_statements
from otpqueue.store.locks import Lock
from otpqueue.store.schema import metadata

WAIT_S = 600


def run(connection: Connection) -> None:
    # All in one transaction, which alone holds the lock and the time-outs: behind PgBouncer each transaction
    # may have another session, and what is missing is known only once the lock is held.
    connection.execution_options(isolation_level="READ COMMITTED")
    with connection.begin():
        allow_time(connection, WAIT_S)
        locks.take(connection, Lock.MIGRATE)
        allow_time(connection, 60)
        connection.execute(text("SET LOCAL lock_timeout = '4s'"))
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
        if set(context.get_context().get_current_heads()) == set(context.script.get_heads()):
            for statement in create_statements():
                connection.exec_driver_sql(statement)


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from otpqueue import settings  # only Alembic's own command needs all of it
    from otpqueue.wiring import Parts

    engine = Parts(settings.load()).engine
    with engine.connect() as own:
        run(own)
    engine.dispose()
