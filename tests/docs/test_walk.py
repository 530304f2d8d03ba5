"""Every code block of the README and the quickstart runs, in a fresh folder, as an ordinary user.

The short form uses the installed otpqueue and one `otpqueue dev`. The long form starts from a clone:
`pytest -n0 -s -m full tests/docs/test_walk.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.serving import free_port
from tests.docs import walking
from tests.docs.walking import INSTALL, Block, Step

pytestmark = pytest.mark.system
PAGES = ("README.md", "docs/quickstart.md")
READY_S = 90


@contextmanager
def running(command: str, folder: Path) -> Iterator[Path]:
    """Run a command that starts `otpqueue dev` in a folder; stop it afterwards."""
    log, described = folder / "dev.log", folder / ".otpqueue" / "dev.json"
    environment = walking.clean_environment(folder) | {"PORT": str(free_port())}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*walking.as_ordinary_user(), "bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_S + 300 * ("pip" in command)
        while not described.is_file():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield folder
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


@pytest.fixture(scope="module")
def beside_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a fresh folder with otpqueue in `.venv` and `otpqueue dev` running."""
    if not walking.can_become_ordinary():
        pytest.skip("root cannot become an ordinary user here: user namespaces are refused")
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    with running("exec .venv/bin/otpqueue dev", folder):
        yield folder


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str, beside_dev: Path, project: Path) -> None:
    """Every code block of the page runs, and prints what the page shows."""
    assert json.loads((beside_dev / ".otpqueue" / "dev.json").read_text())["api_url"]

    assert walking.walk(project / page, beside_dev) >= 2


def test_commands_to_install(project: Path) -> None:
    """The two pages install otpqueue with the same command; CI runs the README's command for the tests."""
    found = {
        page: [block.text for block in walking.read_blocks(project / page) if INSTALL in block.text]
        for page in PAGES
    }

    assert len(found["README.md"]) == 2
    assert found["README.md"][:1] == found["docs/quickstart.md"]
    assert found["README.md"][0].endswith("otpqueue dev\n")
    assert found["README.md"][1].endswith("pytest\n")


def test_readme_is_short(project: Path) -> None:
    """The README has 80 to 120 lines; the rest is in the documentation."""
    lines = (project / "README.md").read_text(encoding="utf-8").splitlines()

    assert 80 <= len(lines) <= 120


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (Path(__file__).parents[2] / ".git").exists(), reason="not a clone")
def test_from_a_fresh_clone(project: Path, tmp_path: Path) -> None:
    """A clone, the README's command, and its first verified code. Prints how long that took."""
    started = time.monotonic()
    clone = tmp_path / "otpqueue"
    subprocess.run(["git", "clone", "-q", project, clone], check=True)
    command = next(block.text for block in walking.read_blocks(clone / "README.md") if INSTALL in block.text)
    with running(command, clone):
        ready = time.monotonic()
        walking.walk(clone / "README.md", clone)
        done = time.monotonic()
    took = f"ready after {ready - started:.0f} s, all code of the README run after {done - started:.0f} s"
    sys.stdout.write(f"\nfresh clone: {took}\n")


def run_page(text: str, folder: Path) -> int:
    """Run a page with this text."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return walking.walk(page, folder)


def test_blocks_share_a_shell(tmp_path: Path) -> None:
    """A later block has the variables of an earlier one, and the output is compared."""
    assert run_page("```sh\nA=1\n```\n\n```sh\necho $A$A\n# → 11\necho 2\n# → 2\n```\n", tmp_path) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nfalse\n```\n", "page.md:2"),
        ("```sh\ntrue\necho $UNSET\n```\n", "UNSET"),
        ("```sh\necho one\n# → two\n```\n", "no 'two' in"),
        ("```sh\necho one\n# → one\necho two\n# → one\n```\n", "no 'one' in"),
        ("```java\nx\n```\n", "cannot be run"),
    ],
)
def test_broken_block_is_found(text: str, message: str, tmp_path: Path) -> None:
    """A command that fails, a missing variable, other output and a block in another language fail."""
    with pytest.raises(AssertionError, match=message):
        run_page(text, tmp_path)


def test_steps() -> None:
    """A shell block is split at the output it shows; a program is not."""
    shell = Block("sh", "a\n# → 1\nb\n", 1)
    program = Block("js", "a(); // → 1\nb(); // → 2\n", 1)

    assert walking.split_steps(shell) == [Step(shell, "a\n", "1"), Step(shell, "\nb\n", "")]
    assert walking.split_steps(program) == [Step(program, program.text, "1\n2")]
