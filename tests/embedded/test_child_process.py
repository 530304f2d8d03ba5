"""Children: started, watched, stopped, and gone with their supervisor."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otpqueue.embedded import ChildFailed, ChildProcess
from otpqueue.embedded.errors import NotMainThread

SLEEP = "import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + SLEEP


def python(code: str) -> list[str | Path]:
    """Return the command that runs this code."""
    return [sys.executable, "-c", code]


def says(log: Path, word: str) -> Callable[[], None]:
    """Return a check that a child has written this word to its log."""

    def check() -> None:
        if word not in log.read_text():
            raise LookupError(word)

    return check


def test_early_exit_is_reported_with_output(tmp_path: Path) -> None:
    """A child that ends before it is ready fails with its exit code and the end of its output."""
    log = tmp_path / "log"
    log.write_text("an old story\n")
    child = ChildProcess("worker", python("raise SystemExit('no broker today')"), log=log)
    child.start()
    child.wait(10)
    with pytest.raises(ChildFailed, match="no broker today") as failure:
        child.wait_ready()
    assert failure.value.returncode == 1
    assert failure.value.name == "worker"
    assert "an old story" not in failure.value.tail


def test_missing_program_is_reported(tmp_path: Path) -> None:
    """A program that does not exist fails with its name."""
    child = ChildProcess("api", ["/nowhere/api"], log=tmp_path / "log")
    child.start()
    child.wait(10)
    with pytest.raises(ChildFailed, match=r"cannot start /nowhere/api: .*No such file"):
        child.wait_ready()


def test_never_ready_is_stopped(tmp_path: Path, gone: Callable[..., bool]) -> None:
    """A child that is not ready in time is stopped, and the error names the last problem."""
    log = tmp_path / "log"
    child = ChildProcess("api", python(SLEEP), ready=says(log, "listening"), log=log)
    child.start()
    with pytest.raises(ChildFailed, match=r"not ready after 0\.3 s.*LookupError\('listening'\)"):
        child.wait_ready(0.3)
    assert gone(child.pid)


def test_stop_ladder_ends_in_sigkill(tmp_path: Path, gone: Callable[..., bool]) -> None:
    """A child that ignores SIGTERM is killed when its grace is over; to stop it again does nothing."""
    log = tmp_path / "log"
    child = ChildProcess("stubborn", python(STUBBORN), ready=says(log, "deaf"), log=log)
    child.start()
    child.wait_ready()
    began = time.monotonic()
    child.stop(grace=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert child.returncode == -signal.SIGKILL
    assert not child.running
    assert gone(child.pid)
    child.stop()


def test_start_again_after_death(tmp_path: Path) -> None:
    """The same object starts a new child after the first was killed."""
    child = ChildProcess("worker", python(SLEEP), log=tmp_path / "log")
    child.start()
    first = child.pid
    os.kill(first, signal.SIGKILL)
    child.wait(5)
    assert (child.running, child.returncode) == (False, -signal.SIGKILL)
    child.start()
    child.start()
    assert child.running
    assert child.pid != first
    child.stop()


def test_orphans_of_a_crashed_child_are_ended(tmp_path: Path, gone: Callable[..., bool]) -> None:
    """When a child is killed, the processes it had started in its own group are ended too."""
    log = tmp_path / "log"
    code = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True)"
    )
    child = ChildProcess("worker", python(f"{code}; {SLEEP}"), ready=says(log, "\n"), log=log)
    child.start()
    child.wait_ready()
    grandchild = int(log.read_text())
    os.kill(grandchild, 0)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(5)
    assert gone(grandchild)


def test_own_session_and_clean_signals(tmp_path: Path) -> None:
    """A child leads its own session, and signals that we ignore or block still stop it."""
    log = tmp_path / "log"
    child = ChildProcess(
        "worker", python(f"print('up', flush=True); {SLEEP}"), ready=says(log, "up"), log=log
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        child.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGTERM, before)
    child.wait_ready()
    assert os.getsid(child.pid) == child.pid
    child.stop(grace=10)
    assert child.returncode == -signal.SIGTERM


def test_environment_is_exactly_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child with an environment of its own sees nothing of ours, not even what its loader would obey."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    monkeypatch.setenv("PGHOST", "elsewhere")
    log = tmp_path / "log"
    ChildProcess("env", ["/usr/bin/env"], env={"ONLY": "this"}, log=log).run(timeout=10)
    names = {line.partition("=")[0] for line in log.read_text().splitlines()}
    assert names - {"LC_CTYPE"} == {"ONLY"}  # Python sets LC_CTYPE in the C locale: PEP 538


def test_started_only_from_the_main_thread(tmp_path: Path) -> None:
    """Off the main thread `start` refuses, because the child would die with that thread."""
    if sys.platform != "linux":
        pytest.skip("only Linux ties a child to a thread")
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            ChildProcess("worker", python(SLEEP), log=tmp_path / "log").start()
        except NotMainThread as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_child_ends_with_a_killed_supervisor(gone: Callable[..., bool]) -> None:
    """`kill -9` of the supervisor takes its children with it."""
    if sys.platform != "linux":
        pytest.skip("macOS cannot tie a child to its parent")
    code = f"""
import time
from otpqueue.embedded import ChildProcess
child = ChildProcess("worker", [{sys.executable!r}, "-c", {STUBBORN!r}])
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert supervisor.stdout.readline() == "deaf\n"
        supervisor.kill()
    assert gone(child)
