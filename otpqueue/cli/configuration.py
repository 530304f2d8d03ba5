"""The settings in force, and the files that are generated from the settings."""

from __future__ import annotations

import click

from otpqueue import clock, policies
from otpqueue.cli.beside_dev import load_settings
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.output import json_option, print_facts
from otpqueue.settings import document


@click.command()
@click.option("--markdown", "form", flag_value="markdown", help="Print docs/settings.md instead.")
@click.option("--env", "form", flag_value="env", help="Print .env.example instead.")
@click.option(
    "--constants", "form", flag_value="constants", help="Print the constants of docs/contributing.md instead."
)
@json_option
@explain_errors
def settings(form: str | None, *, as_json: bool) -> None:
    """Check the settings and print the values in force. Secrets are hidden."""
    writers = {
        "markdown": document.write_page,
        "env": document.write_example,
        "constants": document.write_constants,
    }
    if form is not None:
        click.echo(writers[form](), nl=False)
        return
    current = load_settings()
    policies.check(current, today=clock.now().date())
    print_facts(document.list_settings(current), document.write_text(current).splitlines(), as_json=as_json)
