"""Sockets can be made and reached wherever temporary files are and wherever their users want them."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, socket_folder, unix_listener

PREFIX = "jumpstarter-lease-"
LONGEST_NAME = "s" * 16


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder whose path has more bytes than an address."""
    path = tmp_path / ("d" * 120)
    path.mkdir()
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="js-", dir="/tmp") as folder:
        yield Path(folder)


def temporary_files(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def bind(path: Path) -> None:
    """As a program would that knows nothing of us. OSError if the path is too long."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(path))


def test_a_socket_folder_is_where_temporary_files_are_if_that_is_short(
    monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    temporary_files(monkeypatch, short)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
    with socket_folder(PREFIX) as folder:
        assert folder.parent == short
        assert folder.stat().st_mode & 0o777 == 0o700
        bind(folder / LONGEST_NAME)
    assert not folder.exists()


@pytest.mark.parametrize("length", [*range(61, 67), 120])
def test_a_socket_folder_has_room_for_a_name_of_16_bytes_whatever_the_length_of_tmpdir(
    monkeypatch: pytest.MonkeyPatch, short: Path, length: int
) -> None:
    place = short / ("t" * (length - len(str(short)) - 1))
    place.mkdir()
    temporary_files(monkeypatch, place)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    with socket_folder(PREFIX) as folder:
        bind(folder / LONGEST_NAME)


@pytest.mark.parametrize("runtime", ["", "relative", "/no/such/folder", "far"])
def test_a_runtime_directory_that_will_not_do_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, far: Path, runtime: str
) -> None:
    temporary_files(monkeypatch, far)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(far) if runtime == "far" else runtime)
    with socket_folder(PREFIX) as folder:
        assert str(folder.parent) in ("/run", "/tmp")
        bind(folder / LONGEST_NAME)


async def test_a_socket_with_a_long_path_is_there_and_can_be_reached(far: Path) -> None:
    path = far / "exporter.sock"
    listener = unix_listener(path, mode=0o660)
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o660
    descriptors = set(os.listdir("/proc/self/fd"))
    async with listener, await connect_unix(path) as near, await listener.accept() as other:
        await near.send_all(b"x")
        assert await other.receive_some(1) == b"x"
    with pytest.raises(RpcError, match="is the exporter running") as caught:
        await connect_unix(path)
    assert caught.value.code is StatusCode.UNAVAILABLE
    await trio.lowlevel.checkpoint()
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors), "a folder's descriptor was left open"


async def test_a_socket_with_a_short_path_is_bound_to_that(short: Path) -> None:
    async with unix_listener(short / "s") as listener:
        assert listener.socket.getsockname() == str(short / "s")  # as `ss` and lsof show it


def test_a_socket_whose_name_alone_is_too_long_is_a_sentence(far: Path) -> None:
    with pytest.raises(OSError, match="the socket's name is too long"):
        unix_listener(far / ("n" * 100))
