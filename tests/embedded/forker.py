"""A process that forks children as `otpqueue dev` does; the tests of `ForkedProcess` read what it prints.

    python forker.py WHAT FOLDER

A program of its own, because a process that is forked may have one thread only, and pytest has more.
"""

import atexit
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from otpqueue.embedded import ForkedProcess


def say(**facts: object) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def child(run: object, **options: object) -> ForkedProcess:
    """Return a child that runs a function."""
    return ForkedProcess("child", run, title="a child", **options)


def environment(folder: Path) -> None:
    """Have a child tell what it was given, while we handle and block signals and have a file open."""
    for each in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(each, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    atexit.register(lambda: say(parent_atexit=os.getpid()))
    os.environ["OURS"] = "1"

    def tell() -> None:
        atexit.register(lambda: say(child_atexit=os.getpid()))
        say(
            environment=dict(os.environ),
            stdin=sys.stdin.read(),
            open=[fd for fd in range(3, 64) if _is_open(fd)],
            session=os.getsid(0) == os.getpid(),
            default=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            interruptible=signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            blocked=[int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            comm=Path("/proc/self/comm").read_text().strip(),
            command_line=Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode(),
        )

    with (folder / "open").open("w"):
        started = child(tell, env={"ONLY": "this"})
        started.start()
        say(code=started.wait(10), parent=os.getpid(), child=started.pid)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def endings(_: Path) -> None:
    """Have children end in every way."""

    def fail() -> None:
        raise LookupError("no broker today")

    def leave_a_thread() -> None:
        threading.Thread(target=lambda: (time.sleep(0.3), say(thread="done"))).start()

    def end_with(code: object) -> None:
        sys.exit(code)

    for name, run in {
        "returned": lambda: None,
        "number": lambda: end_with(3),
        "text": lambda: end_with("what is wrong"),
        "error": fail,
        "thread": leave_a_thread,
        "signal": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }.items():
        started = child(run)
        started.start()
        say(name=name, code=started.wait(10))


def stubborn(_: Path) -> None:
    """Stop a child that ignores SIGTERM, start it again, and let it be killed."""

    def ignore() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    started = child(ignore)
    started.start()
    first = started.pid
    time.sleep(0.3)
    started.stop(grace=0.3)
    say(first=started.returncode, running=started.running)
    started.start()
    say(running=started.running, another=started.pid != first)
    started.stop(grace=0)
    say(running=started.running)


def threaded(_: Path) -> None:
    """Fork beside a thread, and after it."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        child(lambda: None).start()
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        say(error=str(error))
    ended.set()
    thread.join()
    started = child(lambda: None)
    started.start()
    say(code=started.wait(10))


def locked(folder: Path) -> None:
    """Hold a lock, have a child that outlives us for a moment and a grandchild, and wait to be killed."""
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def outlive() -> None:
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), os._exit(0)))
        say(child=os.getpid())
        while True:
            time.sleep(1)

    started = child(outlive, death_signal=signal.SIGTERM)
    started.start()
    killed = child(lambda: (say(killed=os.getpid()), time.sleep(600)))
    killed.start()
    time.sleep(600)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
