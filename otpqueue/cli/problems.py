"""The problem codes of the API."""

from __future__ import annotations

import click

from otpqueue.api import problem_page
from otpqueue.api.problems import PROBLEMS
from otpqueue.cli.output import json_option, print_facts


@click.command()
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="Print docs/problems.md instead.")
@json_option
def problems(code: str | None, *, markdown: bool, as_json: bool) -> None:
    """List the problem codes of the API, or explain one CODE."""
    if markdown:
        click.echo(problem_page.write_page(), nl=False)
    elif code is None:
        facts = [problem_page.describe_problem(one) for one in PROBLEMS.values()]
        print_facts({"problems": facts}, problem_page.write_table().splitlines(), as_json=as_json)
    elif code in PROBLEMS:
        text = problem_page.write_text(PROBLEMS[code]).splitlines()
        print_facts(problem_page.describe_problem(PROBLEMS[code]), text, as_json=as_json)
    else:
        raise click.BadParameter(
            f"No problem has the code {code}. `otpqueue problems` lists all.", param_hint="CODE"
        )
