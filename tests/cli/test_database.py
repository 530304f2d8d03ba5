"""Databases that no process of ours can work with: what each of them says, and that it ends."""

from __future__ import annotations

import pytest

from otpqueue.cli.exits import ExitCode
from tests.cli.conftest import Shell
from tests.store.conftest import other_engine  # noqa: F401 - a fixture
from tests.store.test_sessions import MakeDatabase, make_database  # noqa: F401 - a fixture


def said(shell: Shell, command: str, url: str, exit_code: int = ExitCode.CONFIGURATION) -> str:
    """Return the last line that a command says, which must fail and end."""
    result = shell.run(*command.split(), DATABASE_URL=url)
    assert result.returncode == exit_code
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_that_keeps_no_utf8(
    shell: Shell,
    make_database: MakeDatabase,  # noqa: F811
    encoding: str,
) -> None:
    """Every command says in one sentence what is wrong."""
    url = make_database(template=None, encoding=encoding)

    for command in ("migrate", "api", "worker", "beat", "keys list"):
        last = said(shell, command, url)
        assert last.startswith(f"Error: the database's encoding is {encoding}, and must be UTF8"), command


@pytest.mark.parametrize("path", ["elsewhere", '"$user"', "''"])
def test_tables_out_of_sight(
    shell: Shell,
    make_database: MakeDatabase,  # noqa: F811
    path: str,
) -> None:
    """With a search_path that does not lead to the tables, every process says where they are."""
    url = make_database(search_path=path)

    for command in ("migrate", "api", "worker", "beat"):
        last = said(shell, command, url)
        assert last.startswith("Error: the tables are in the schema public, which this role does not see"), (
            command
        )


def test_no_schema_for_tables(shell: Shell, make_database: MakeDatabase) -> None:  # noqa: F811
    """`migrate` says why it cannot make them."""
    url = make_database(template=None, encoding="UTF8", search_path="nowhere")

    assert said(shell, "migrate", url) == (
        "Error: there is no schema to make the tables in: nothing in this role's search_path exists, which "
        "is nowhere"
    )


def test_schema_that_belongs_to_others(shell: Shell, make_database: MakeDatabase) -> None:  # noqa: F811
    """A role that may make no tables is told what Postgres says of that."""
    url = make_database(template=None, encoding="UTF8", search_path="information_schema", role="pg_monitor")

    assert (
        said(shell, "migrate", url, ExitCode.DENIED)
        == "Error: The database denied access: permission denied for schema information_schema"
    )
