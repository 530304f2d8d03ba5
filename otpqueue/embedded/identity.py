"""Chooses the user that PostgreSQL runs as: it refuses root, and initdb refuses a user id without a name.

Root is an ordinary user inside its own user namespace: no user is created, the files stay root's, and
a data folder below a home that only root may enter works. Where the kernel or the container
refuses user namespaces, the server runs as `postgres` or `nobody`, which must be able to reach its folder.
"""

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from otpqueue.embedded.errors import ChildFailed, NoUnprivilegedUser

_SERVICE_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class RunAs:
    """An identity for a child: our own user seen as id `uid` (`namespace`, Linux only), or another `user`."""

    kind: Literal["namespace", "user"]
    uid: int
    gid: int

    def __str__(self) -> str:
        """Return the form the stub reads."""
        return f"namespace:{self.uid}" if self.kind == "namespace" else f"user:{self.uid}:{self.gid}"


def choose_identity(usable: Callable[[RunAs], None]) -> RunAs | None:
    """Return the identity that PostgreSQL must run as; None means the current one.

    `usable` tries a candidate and raises ChildFailed if it does not work. Raises NoUnprivilegedUser if none
    does.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return None
    tried = []
    for candidate in list_candidates():
        try:
            usable(candidate)
        except ChildFailed as error:
            tried.append(f"  as {candidate}: {error}")
        else:
            return candidate
    raise NoUnprivilegedUser(
        f"PostgreSQL does not run as user id {os.geteuid()} (it refuses root, and ids without a name). Run "
        "as an ordinary user, allow user namespaces, let the user 'nobody' enter the data folder and the "
        "folder of the programs, or set DATABASE_URL to use a server that runs elsewhere. Tried:\n"
        + "\n".join(tried)
    )


def list_candidates() -> Iterator[RunAs]:
    """Yield the identities that are possible on this machine, best first."""
    if sys.platform == "linux" and (named := _some_named_user()):
        yield RunAs("namespace", named.pw_uid, named.pw_gid)
    if os.geteuid() != 0:
        return
    for name in _SERVICE_USERS:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            yield RunAs("user", user.pw_uid, user.pw_gid)


def give_folder(folder: Path, run_as: RunAs | None) -> None:
    """Change the owner of a folder and its content to the server's user. Does nothing unless we are root."""
    if os.geteuid() != 0:
        return
    uid, gid = (run_as.uid, run_as.gid) if run_as and run_as.kind == "user" else (0, 0)
    if all(path.lstat().st_uid == uid for path in (folder, *folder.iterdir())):
        return
    for parent, folders, files in os.walk(
        folder, topdown=False
    ):  # the top folder last: its owner shows that the rest is done
        for name in (*folders, *files):
            os.chown(Path(parent, name), uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)


def _some_named_user() -> pwd.struct_passwd | None:
    # initdb looks its user id up, so the one seen inside the namespace must have a name; 1000 often has none.
    with suppress(KeyError):
        return pwd.getpwnam("nobody")
    return next((user for user in pwd.getpwall() if user.pw_uid != 0), None)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
