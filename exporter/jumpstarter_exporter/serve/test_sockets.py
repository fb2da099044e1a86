"""Who gets the daemon's socket."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jumpstarter_proto import private_runtime

from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.sockets import (
    SocketError,
    claimed_socket,
    default_path,
    path_to_ask,
    shared_group,
)


def bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    return listening


def test_only_one_may_have_it_and_the_next_is_told_who(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    complaint = rf"another exporter \(process {os.getpid()}\) listens on {path}; stop it, or choose another"
    with claimed_socket(path), pytest.raises(SocketError, match=complaint), claimed_socket(path):
        pass
    with claimed_socket(path):
        pass


def test_nothing_is_left_of_the_number_of_a_process_before(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    lock = tmp_path / "exporter.sock.lock"
    lock.write_text("123456789012345\nmore\n")
    with claimed_socket(path):
        assert lock.read_text() == f"{os.getpid()}\n"
    with claimed_socket(tmp_path / "boards" / "rpi4.sock"):
        assert (tmp_path / "boards" / "rpi4.sock.lock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("user", "own", "others", "is_given"),
    [
        (0, 0, [], True),
        (1000, 1000, [27, 4242], True),
        (1000, 4242, [], True),
        (1000, 1000, [27], False),
    ],
)
def test_the_socket_is_for_the_group_if_this_process_may_give_it_away(
    monkeypatch: pytest.MonkeyPatch, user: int, own: int, others: list[int], is_given: bool
) -> None:
    group = grp.struct_group(("jumpstarter", "x", 4242, []))
    monkeypatch.setattr(grp, "getgrnam", {"jumpstarter": group}.__getitem__)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: own)
    monkeypatch.setattr(os, "getgroups", lambda: others)
    assert shared_group() == (4242 if is_given else None)
    monkeypatch.setattr(grp, "getgrnam", {}.__getitem__)
    assert shared_group() is None, "there is no such group on this host"


def test_a_socket_of_a_dead_process_is_replaced_and_the_own_one_removed(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    bound(path).close()
    with claimed_socket(path):
        assert not path.exists()
        bound(path).close()
    assert not path.exists()


def test_a_live_socket_without_a_lock_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    with bound(path) as listening:
        listening.listen()
        with pytest.raises(SocketError, match="another exporter listens"), claimed_socket(path):
            pass
    assert path.exists()


def test_what_is_not_a_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    path.write_text("precious")
    with pytest.raises(SocketError, match="exists and is not a socket"), claimed_socket(path):
        pass
    assert path.read_text() == "precious"


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    program = (
        "import os, pathlib, sys\n"
        "from jumpstarter_exporter.serve.sockets import claimed_socket\n"
        "with claimed_socket(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    with claimed_socket(path):
        pass


def test_a_place_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SocketError, match="no socket can be made at"),
        claimed_socket(tmp_path / "file" / "exporter.sock"),
    ):
        pass


def test_default_is_the_systems_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, user = tmp_path / "run" / "jumpstarter" / "exporter.sock", tmp_path / "user"
    monkeypatch.setattr(sockets, "SYSTEM", system)
    monkeypatch.delenv("JUMPSTARTER_RUNTIME_DIRECTORY")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(user))
    monkeypatch.setattr(private_runtime, "PLACE", str(tmp_path))
    private = tmp_path / f"jumpstarter-{os.geteuid()}"
    assert default_path() == private / "exporter.sock"
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o755)
    with pytest.raises(
        SocketError, match=r"is not a private folder .* export JUMPSTARTER_RUNTIME_DIRECTORY=FOLDER"
    ):
        default_path()
    user.mkdir()
    assert default_path() == user / "jumpstarter" / "exporter.sock"
    system.parent.mkdir(parents=True)
    assert default_path() == system


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user who is not root, whoever runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_who_may_use_the_services_socket_but_not_make_one_there_asks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user of the group jumpstarter does, who has no session of their own, as by SSH to the image."""
    tmp_path.chmod(0o755)
    # Relative, as not all folders above are open to others.
    monkeypatch.chdir(tmp_path)
    system = Path("run/exporter.sock")
    system.parent.mkdir()
    monkeypatch.setattr(sockets, "SYSTEM", system)
    monkeypatch.delenv("JUMPSTARTER_RUNTIME_DIRECTORY")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "user")
    system.parent.chmod(0o555)
    monkeypatch.setattr(private_runtime, "PLACE", "nowhere")
    with as_nobody(), pytest.raises(SocketError, match="export JUMPSTARTER_RUNTIME_DIRECTORY=FOLDER"):
        path_to_ask()
    system.parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(system))
        system.chmod(0o666)
        system.parent.chmod(0o555)
        with as_nobody():
            assert path_to_ask() == system
            monkeypatch.setenv("JUMPSTARTER_RUNTIME_DIRECTORY", "/chosen")
            assert path_to_ask() == Path("/chosen/exporter.sock")
        system.parent.chmod(0o755)


def test_a_program_that_is_just_being_started_keeps_the_path_from_nobody(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    copy = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(copy, fcntl.LOCK_EX)
    os.write(copy, f"{os.getpid()}\n".encode())
    exec_ = threading.Timer(0.05, os.close, [copy])
    exec_.start()
    with claimed_socket(path):
        exec_.join()
