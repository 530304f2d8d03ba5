"""Children that are forks: what they inherit, how they end, and that they go with their parent."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")
FORKER = Path(__file__).with_name("forker.py")


def fork(what: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Run one piece of the forker; return what it and its children printed to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, FORKER, what, folder],
        input="not for children",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_what_a_child_is_given(tmp_path: Path) -> None:
    """A child has the environment it was given, its own session and title, and no open file of its parent."""
    (told, childs_end, seen, parents_end), _ = fork("environment", tmp_path)

    assert told["environment"] == {"ONLY": "this"}
    assert told["stdin"] == ""
    assert told["open"] == []
    assert told["session"]
    assert told["default"]
    assert told["interruptible"]
    assert told["blocked"] == []
    assert (told["comm"], told["command_line"]) == ("child", "a child")
    assert seen["code"] == 0
    # Each process runs what was registered in it, and nothing of the other's.
    assert childs_end == {"child_atexit": seen["child"]}
    assert parents_end == {"parent_atexit": seen["parent"]}


def test_how_a_child_ends(tmp_path: Path) -> None:
    """A child ends as a program does: exit codes, what is wrong on stderr, and after its threads."""
    told, stderr = fork("endings", tmp_path)

    codes = {one["name"]: one["code"] for one in told if "name" in one}
    assert codes == {"returned": 0, "number": 3, "text": 1, "error": 1, "thread": 0, "signal": -9}
    assert {"thread": "done"} in told
    assert "what is wrong\n" in stderr
    assert "LookupError: no broker today" in stderr


def test_stopped_and_started_again(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed, and the same object starts another one."""
    (stopped, again, ended), _ = fork("stubborn", tmp_path)

    assert stopped == {"first": -9, "running": False}
    assert again == {"running": True, "another": True}
    assert ended == {"running": False}


def test_no_fork_beside_threads(tmp_path: Path) -> None:
    """A process with a second thread refuses to fork; when the thread has ended it does."""
    (refused, forked), _ = fork("threaded", tmp_path)

    assert "must not be forked" in refused["error"]
    assert forked == {"code": 0}


def test_children_end_with_a_killed_parent(tmp_path: Path, gone: Callable[..., bool]) -> None:
    """When the parent is killed, each child gets its death signal, and none holds a lock of the parent."""
    parent = subprocess.Popen([sys.executable, FORKER, "locked", tmp_path], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    told: dict[str, int] = {}
    while len(told) < 2:
        told |= json.loads(parent.stdout.readline())
    parent.kill()
    parent.wait()

    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    began = time.monotonic()
    os.kill(told["child"], 0)
    assert gone(told["killed"])
    assert gone(told["child"])
    assert time.monotonic() - began < 5
    parent.stdout.close()
