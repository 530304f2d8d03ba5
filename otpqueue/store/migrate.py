"""Migrate a database to the schema of this version."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import DatabaseMisconfigured
from otpqueue.store import placement
from otpqueue.store.engine import connection

_ALEMBIC = threading.Lock()
"""Alembic keeps the context of a run in a module variable."""


def upgrade(engine: Engine) -> None:
    """Apply the missing migrations. Safe when several processes or threads call it at once.

    Raises DatabaseUnavailable when the database cannot be reached, DatabaseMisconfigured when its sessions do
    not find the existing tables, or when a newer version of otpqueue has migrated it.
    """
    placement.check(engine, migrating=True)
    config = _config()
    with _ALEMBIC, connection(engine) as conn:
        _require_known_revision(conn, config)
    with _ALEMBIC, connection(engine) as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "head")


@dataclass(frozen=True)
class SchemaRevision:
    """The schema's revision, and the one of this version."""

    current: str | None
    """None for a database without tables."""
    head: str
    is_known: bool
    """Whether this version knows the current revision. A newer version may have migrated the database."""


def read_revision(engine: Engine) -> SchemaRevision:
    """Return the revision of the database's schema. Raises DatabaseUnavailable."""
    with connection(engine) as conn:
        return _read_revision(conn, _config())


def _read_revision(conn: Connection, config: Config) -> SchemaRevision:
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(conn).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaRevision(current, str(scripts.get_current_head()), current is None or current in known)


def _require_known_revision(conn: Connection, config: Config) -> None:
    """Raise DatabaseMisconfigured for a revision that this version does not have: after a rollback."""
    revision = _read_revision(conn, config)
    if not revision.is_known:
        raise DatabaseMisconfigured(
            f"A newer version of otpqueue has migrated this database (revision {revision.current}). "
            "Use `otpqueue migrate` of that version. After a rollback, start the processes without migrating."
        )


def _config() -> Config:
    package = Path(__file__).resolve().parent.parent
    checkout, wheel = package.parent / "migrations", package / "_migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(checkout if checkout.is_dir() else wheel).replace("%", "%%")
    )
    return config
