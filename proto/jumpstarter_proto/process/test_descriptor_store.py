"""With real terminals, and the socket of a service manager."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jumpstarter_proto.process import DescriptorStore, ServiceManager, descriptor_store
from jumpstarter_proto.process.descriptor_store import CLAIM_SECONDS
from jumpstarter_proto.process.descriptor_table import name_of


class Manager:
    """What systemd hears, with the descriptors of it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))
        self.told = ServiceManager(environment={"NOTIFY_SOCKET": str(path)})
        self.stored: dict[str, int] = {}

    def heard(self) -> list[str]:
        """All messages since the last call, on one line each."""
        messages: list[str] = []
        while True:
            try:
                message, descriptors, *_ = socket.recv_fds(self.socket, 4096, 4)
            except BlockingIOError:
                return messages
            messages.append(message.decode().replace("\n", " "))
            name = messages[-1].rpartition("FDNAME=")[2]
            if descriptors:
                [self.stored[name]] = descriptors
            else:
                os.close(self.stored.pop(name))

    def close(self) -> None:
        self.socket.close()
        for descriptor in self.stored.values():
            os.close(descriptor)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


class Terminal:
    """A port, as a process opens it, and its other end."""

    def __init__(self) -> None:
        self.far, self.port = pty.openpty()
        self.path = os.ttyname(self.port)
        self.name = name_of(os.stat(self.path).st_rdev)

    def hang_up(self) -> None:
        os.close(self.far)

    def close(self) -> None:
        for descriptor in (self.far, self.port):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def lock(path: str) -> None:
    """Raises BlockingIOError while somebody has the lock of the port at that path."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_a_port_is_kept_until_it_is_closed_for_good(manager: Manager, terminal: Terminal) -> None:
    store = DescriptorStore(manager.told)
    fcntl.flock(terminal.port, fcntl.LOCK_EX)
    store.keep(terminal.port)
    assert manager.heard() == [f"FDSTORE=1 FDNAME={terminal.name}"]
    assert os.ttyname(manager.stored[terminal.name]) == terminal.path
    store.release(terminal.port)
    lock(terminal.path)  # though systemd has not heard of it yet
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]
    store.release(terminal.port)
    assert manager.heard() == []


def test_what_was_kept_is_taken_up_once(manager: Manager, terminal: Terminal) -> None:
    store = DescriptorStore(manager.told, {terminal.name: terminal.port})
    assert store.has(terminal.path)
    assert store.take(terminal.path) == terminal.port
    assert store.take(terminal.path) is None
    assert not store.has(terminal.path)
    assert manager.heard() == []  # systemd has it still
    manager.stored[terminal.name] = os.dup(terminal.port)
    store.release(terminal.port)
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]


def test_a_port_that_is_another_device_now_is_not_taken(
    manager: Manager, terminal: Terminal, tmp_path: Path
) -> None:
    other = Terminal()
    link = tmp_path / "usb-board-port0"
    link.symlink_to(other.path)
    store = DescriptorStore(manager.told, {terminal.name: terminal.port})
    assert store.take(str(link)) is None
    assert store.take(str(tmp_path / "nothing")) is None
    assert store.take(str(tmp_path)) is None
    link.unlink()
    link.symlink_to(terminal.path)
    assert store.take(str(link)) == terminal.port
    other.close()


def test_a_port_that_hangs_up_before_it_is_taken_leaves_the_store(
    manager: Manager, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = os.fstat(terminal.port).st_rdev
    manager.stored[terminal.name] = os.dup(terminal.port)
    store = DescriptorStore(manager.told, {terminal.name: terminal.port})
    terminal.hang_up()
    # The node of a pty goes at once; that of an adapter goes when udevd has heard of it.
    monkeypatch.setattr(descriptor_store, "_device_at", lambda path: device)
    assert store.take(terminal.path) is None
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]
    assert not is_open(terminal.port)


@pytest.mark.parametrize("kind", ["hung up", "another name", "no terminal"])
def test_what_is_not_what_its_name_says_is_closed_and_leaves_the_store(
    kind: str, manager: Manager, terminal: Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    name, port = terminal.name, terminal.port
    if kind == "hung up":
        terminal.hang_up()
    elif kind == "another name":
        name = "port-188-0"
    else:
        os.dup2(os.open(os.devnull, os.O_RDONLY), port)
    manager.stored[name] = os.open(os.devnull, os.O_RDONLY)
    store = DescriptorStore(manager.told, {name: port})
    assert store.take(terminal.path) is None
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={name}"]
    assert not is_open(port)
    assert f"the port {name}, which systemd has kept, is gone" in caplog.text


async def test_what_nobody_takes_is_closed_and_leaves_the_store(
    manager: Manager,
    terminal: Terminal,
    mock_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Terminal()
    manager.stored = {terminal.name: os.dup(terminal.port), other.name: os.dup(other.port)}
    store = DescriptorStore(manager.told, {terminal.name: terminal.port, other.name: other.port})
    assert store.take(other.path) == other.port
    ended = trio.Event()

    async def run() -> None:
        await store.run()
        ended.set()

    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    mock_clock.jump(CLAIM_SECONDS - 0.1)
    await wait_all_tasks_blocked()
    assert is_open(terminal.port)
    mock_clock.jump(0.1)
    await ended.wait()
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]
    assert not is_open(terminal.port)
    assert is_open(other.port)
    assert f"{terminal.path} was open before this start and is not any board's now" in caplog.text
    other.close()


def test_what_is_closed_at_the_end_of_the_process_is_kept(manager: Manager, terminal: Terminal) -> None:
    store = DescriptorStore(manager.told)
    store.keep(terminal.port)
    manager.heard()
    store.hold()
    store.release(terminal.port)
    os.close(terminal.port)
    assert manager.heard() == []
    again = store.take(terminal.path)  # the end may take its time, and somebody may want it meanwhile
    assert again is not None
    assert os.ttyname(again) == terminal.path
    terminal.hang_up()
    store.release(again)
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]  # it is not there any more
    os.close(again)


async def test_what_nobody_has_taken_at_the_end_is_kept(
    manager: Manager, terminal: Terminal, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    store = DescriptorStore(manager.told, {terminal.name: terminal.port})
    ended = trio.Event()

    async def run() -> None:
        await store.run()
        ended.set()

    nursery.start_soon(run)
    store.hold()
    await wait_all_tasks_blocked()
    mock_clock.jump(CLAIM_SECONDS)
    await ended.wait()
    assert manager.heard() == []
    assert is_open(terminal.port)


def test_a_number_that_the_kernel_gives_to_the_next_device_is_stored_anew(
    manager: Manager, terminal: Terminal
) -> None:
    store = DescriptorStore(manager.told)
    store.keep(terminal.port)
    second = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    store.keep(second)
    store.release(terminal.port)  # it is not what is stored under the name
    assert manager.heard() == [
        f"FDSTORE=1 FDNAME={terminal.name}",
        f"FDSTOREREMOVE=1 FDNAME={terminal.name}",
        f"FDSTORE=1 FDNAME={terminal.name}",
    ]
    store.release(second)
    assert manager.heard() == [f"FDSTOREREMOVE=1 FDNAME={terminal.name}"]
    os.close(second)


def test_what_is_not_a_terminal_is_not_kept(manager: Manager) -> None:
    store = DescriptorStore(manager.told)
    with open(os.devnull) as device, socket.socket() as connection:
        store.keep(device.fileno())
        store.keep(connection.fileno())
    assert manager.heard() == []


@pytest.mark.parametrize("told", [None, ServiceManager(environment={})])
def test_without_systemd_nothing_is_kept(told: ServiceManager | None, terminal: Terminal) -> None:
    store = DescriptorStore(told)
    fcntl.flock(terminal.port, fcntl.LOCK_EX)
    store.keep(terminal.port)
    store.release(terminal.port)
    with pytest.raises(BlockingIOError):
        lock(terminal.path)  # it was never ours to unlock
