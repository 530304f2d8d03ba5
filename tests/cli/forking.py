"""Runs `otpqueue` commands as processes of their own that need not import everything anew.

Importing takes ten times as long as most commands do. This program has done that, and forks for each command:
what runs is a fresh process, with the arguments, environment, folder and standard input that were asked for.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from otpqueue.cli import COMMANDS, main

for _module in {entry.module for entry in COMMANDS.values()}:
    import_module(f"otpqueue.cli.{_module}")


class Forking:
    """The program below, as tests see it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forking"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        typed: str | None,
        terminal: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; with `terminal`, what is typed comes from one."""
        assert self._process.stdin
        assert self._process.stdout
        files = [folder / f".{name}" for name in ("stdin", "stdout", "stderr")]
        files[0].write_text(typed or "")
        wanted = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": dict(environment),
            "terminal": terminal,
        }
        print(
            json.dumps(wanted | {"files": [str(file) for file in files]}),
            file=self._process.stdin,
            flush=True,
        )
        code = int(self._process.stdout.readline())
        said = [file.read_text() for file in files[1:]]
        for file in files:
            file.unlink()
        return subprocess.CompletedProcess(["otpqueue", *arguments], code, *said)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _become(wanted: Mapping[str, Any]) -> NoReturn:
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    for descriptor, (path, flags) in enumerate(
        zip(wanted["files"], (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2), strict=True)
    ):
        os.dup2(os.open(path, flags, 0o600), descriptor)
    if wanted["terminal"]:
        ours, theirs = pty.openpty()
        os.write(ours, Path(wanted["files"][0]).read_bytes())
        os.dup2(theirs, 0)
    code: object = 1
    try:
        main(wanted["arguments"], prog_name="otpqueue")
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(bool(code)))


def _serve(wishes: Sequence[str] | Any) -> None:
    for line in wishes:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - to `Forking.run`


if __name__ == "__main__":
    _serve(sys.stdin)
