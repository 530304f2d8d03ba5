"""Migrate a database to the schema of this version."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from otpqueue.store import placement
from otpqueue.store.engine import connection

_ALEMBIC = threading.Lock()
"""Alembic keeps the context of a run in a module variable."""


def upgrade(engine: Engine) -> None:
    """Apply the missing migrations. Safe when several processes or threads call it at once.

    Raises DatabaseUnavailable when the database cannot be reached, DatabaseMisconfigured when its sessions do
    not find the existing tables.
    """
    placement.check(engine, migrating=True)
    with _ALEMBIC, connection(engine) as conn:
        config = _config()
        config.attributes["connection"] = conn
        command.upgrade(config, "head")


def _config() -> Config:
    package = Path(__file__).resolve().parent.parent
    checkout, wheel = package.parent / "migrations", package / "_migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(checkout if checkout.is_dir() else wheel).replace("%", "%%")
    )
    return config
