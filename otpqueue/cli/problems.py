"""The problem codes of the API."""

from __future__ import annotations

import click

from otpqueue.api import problem_page
from otpqueue.api.problems import PROBLEMS


@click.command()
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="Print docs/problems.md instead.")
def problems(code: str | None, *, markdown: bool) -> None:
    """List the problem codes of the API, or explain one CODE."""
    if markdown:
        click.echo(problem_page.write_page(), nl=False)
    elif code is None:
        click.echo(problem_page.write_table(), nl=False)
    elif code in PROBLEMS:
        click.echo(problem_page.write_text(PROBLEMS[code]), nl=False)
    else:
        raise click.BadParameter(
            f"No problem has the code {code}. `otpqueue problems` lists all.", param_hint="CODE"
        )
