"""The program that starts every child: it changes identity, ties the child to its parent, and execs.

    python -I -S stub.py PARENT_PID DEATH_SIGNAL RUN_AS FOLDER UNSET PROGRAM [ARGUMENT...]

RUN_AS is empty, `namespace:UID` or `user:UID:GID`; FOLDER is the working directory or empty; UNSET is a comma
separated list of environment variables the program must not see. It is a separate program instead of
`subprocess`'s preexec_fn, which may deadlock in a process with threads.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

if sys.platform == "linux":
    import ctypes  # here and not later: after a change of user our own library may be out of reach

FAILED = 125
"""Exit code if the program could not be started; 125 is what env(1) and docker use for their own failures."""

_CLONE_NEWUSER = 0x10000000  # <linux/sched.h>
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> NoReturn:
    """Replace this process by the program, or exit with FAILED and the reason on stderr."""
    parent, death_signal, run_as, folder, unset, *command = arguments
    try:
        if run_as:
            _change_identity(*run_as.split(":"))
        if sys.platform == "linux":
            tie_to_parent(int(death_signal), int(parent))
        if folder:
            os.chdir(folder)  # after the change of user: that user must be able to enter
        reset_signals()
        for name in filter(None, unset.split(",")):
            os.environ.pop(name, None)
        os.execvp(command[0], command)  # noqa: S606 - to exec is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
    sys.stderr.flush()
    os._exit(FAILED)


def _change_identity(kind: str, uid: str, gid: str = "") -> None:
    if kind == "user":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
        return
    real_uid, real_gid = os.geteuid(), os.getegid()
    _libc("unshare", _CLONE_NEWUSER)  # os.unshare() came with Python 3.12
    # user_namespaces(7): without privilege one may map only one's own ids, the group after denying setgroups.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {real_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {real_gid} 1")


def tie_to_parent(death_signal: int, parent: int) -> None:
    """Have the kernel send `death_signal` to us when the parent ends. Raises OSError if it already has."""
    # After the change of identity, which clears it: PR_SET_PDEATHSIG(2const).
    _libc("prctl", _PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError(f"the supervisor (process {parent}) is gone")


def reset_signals() -> None:
    """Restore the default actions of the signals that end a process, and unblock all signals."""
    # Ignored and blocked signals survive exec; a server started by nohup or a shell's `&` must still stop.
    for each in (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGPIPE,
        signal.SIGXFSZ,
    ):
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _libc(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


if __name__ == "__main__":
    main(sys.argv[1:])
