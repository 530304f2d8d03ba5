"""What the tables of all subjects share: the metadata, column types and storage parameters."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

Time = TIMESTAMP(timezone=True)


def one_of(column: str, values: Iterable[StrEnum]) -> str:
    """Return the SQL condition that a column has one of these values."""
    listed = ", ".join(f"'{value.value}'" for value in sorted(values))
    return f"{column} IN ({listed})"


VACUUMED_OFTEN = {
    # A row passes through the partial indexes of its states within minutes. A query for the oldest entry of
    # such an index also reads the dead entries before it, until a vacuum removes them. By default a vacuum
    # starts when a fifth of the rows are dead, and skips indexes while those are on less than a fiftieth of
    # the pages: the larger the table, the more dead entries each claim would read.
    "autovacuum_vacuum_threshold": "20000",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_analyze_threshold": "20000",
    "autovacuum_analyze_scale_factor": "0.01",
    "vacuum_index_cleanup": "on",
}
