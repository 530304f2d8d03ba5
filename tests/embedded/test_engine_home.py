"""The folder of one instance."""

import os
from pathlib import Path

import pytest

from otpqueue.embedded import AlreadyRunning, EngineHome
from otpqueue.embedded.errors import DataUnusable
from otpqueue.embedded.home import free_port, load_password, make_private_folder


def test_second_supervisor_is_refused(tmp_path: Path) -> None:
    """While one holds the folder another is refused, with the folder and the holder named."""
    with EngineHome(tmp_path / "data") as home:
        with pytest.raises(AlreadyRunning, match=f"{home.path} .*process {os.getpid()}") as refused:
            EngineHome(home.path).acquire()
        assert refused.value.path == home.path
    with EngineHome(tmp_path / "data"):
        pass


def test_password_is_private_and_kept(tmp_path: Path) -> None:
    """A password is made once, in a file that only its owner may read."""
    file = tmp_path / "password"
    assert load_password(file) == load_password(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["password"]


def test_folder_is_private(tmp_path: Path) -> None:
    """A folder for data is made so that only its owner may enter."""
    make_private_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_folder_of_another_user_is_refused() -> None:
    """An ordinary user is told when the folder is not theirs."""
    if os.geteuid() == 0:
        pytest.skip("root may use every folder")
    with pytest.raises(DataUnusable, match="another user"):
        make_private_folder(Path("/root" if Path("/root").exists() else "/var/root"))


def test_free_port_is_not_one_for_outgoing_connections() -> None:
    """Ports are chosen below the range that the kernel gives to clients."""
    assert 1024 < free_port() < 32768
