"""`otpqueue completion`: the completion scripts of shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash  eval "$(otpqueue completion bash)"    in ~/.bashrc (bash 4.4 or newer)
    zsh   eval "$(otpqueue completion zsh)"     in ~/.zshrc, after compinit
    fish  otpqueue completion fish > ~/.config/fish/completions/otpqueue.fish
    """  # noqa: D301 - click needs the character \b, not its escape
    root = click.get_current_context().find_root()
    script = get_completion_class(shell)
    if script is None:
        raise RuntimeError(f"click has no completion for {shell}")
    click.echo(script(root.command, {}, "otpqueue", "_OTPQUEUE_COMPLETE").source())
