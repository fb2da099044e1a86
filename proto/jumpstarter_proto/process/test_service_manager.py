from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jumpstarter_proto.process import ServiceManager
from jumpstarter_proto.process.service_manager import MAX_STATUS_LENGTH, MIN_PING_SECONDS, STATUS_SECONDS


class Systemd:
    """The socket that systemd reads."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)

    def heard(self) -> list[str]:
        """All messages since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["a file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "a file" else f"@jumpstarter-test-{tmp_path}"
    found = Systemd(address)
    with found.socket:
        yield found


def test_systemd_hears_of_start_reload_and_end(systemd: Systemd) -> None:
    manager = ServiceManager(lambda: "2 boards", systemd.environment)
    manager.ready()
    assert systemd.heard() == ["READY=1\nSTATUS=2 boards"]
    before = time.monotonic_ns() // 1000
    with manager.reloading():
        [message] = systemd.heard()
        reloading, _, since = message.partition("\nMONOTONIC_USEC=")
        assert reloading == "RELOADING=1"
        assert before <= int(since) <= time.monotonic_ns() // 1000
    assert systemd.heard() == ["READY=1"]
    manager.stopping()
    assert systemd.heard() == ["STOPPING=1"]


def test_each_time_that_systemd_stops_to_listen_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    manager = ServiceManager(environment={"NOTIFY_SOCKET": address})
    for said in (1, 2):
        for _ in range(2):
            assert not manager.store("x", 0)
        assert caplog.text.count("systemd cannot be notified") == said
        with Systemd(address).socket:
            assert manager.store("x", 0)
        os.unlink(address)


def test_it_is_ready_again_when_a_reload_fails(systemd: Systemd) -> None:
    manager = ServiceManager(environment=systemd.environment)
    with pytest.raises(ValueError, match="broken"), manager.reloading():
        raise ValueError("broken")
    assert systemd.heard()[-1] == "READY=1"


def test_programs_that_a_daemon_starts_do_not_inherit_the_socket(systemd: Systemd) -> None:
    systemd.environment |= {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    ServiceManager(environment=systemd.environment)
    assert systemd.environment == {"PATH": "/bin"}


async def test_the_watchdog_hears_the_event_loop_twice_in_its_time(
    systemd: Systemd, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    manager = ServiceManager(environment=systemd.environment | {"WATCHDOG_USEC": "30000000"})
    nursery.start_soon(manager.run)
    await wait_all_tasks_blocked()
    assert systemd.heard() == ["WATCHDOG=1"]
    for _ in range(3):
        mock_clock.jump(14.9)
        await wait_all_tasks_blocked()
        assert systemd.heard() == []
        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        assert systemd.heard() == ["WATCHDOG=1"]


async def test_a_new_status_is_sent_once(
    systemd: Systemd, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    said = ["free"]
    manager = ServiceManager(lambda: said[0], systemd.environment)
    nursery.start_soon(manager.run)
    manager.ready()
    said[0] = "leased"
    for expected in (["READY=1\nSTATUS=free"], ["STATUS=leased"], []):
        await wait_all_tasks_blocked()
        assert systemd.heard() == expected
        mock_clock.jump(STATUS_SECONDS)


def test_a_peers_words_in_the_status_are_not_a_message(systemd: Systemd) -> None:
    manager = ServiceManager(lambda: "rpi4 refused\nMAINPID=1" + "x" * 5000, systemd.environment)
    manager.ready()
    [message] = systemd.heard()
    ready, status = message.split("\n")
    assert (ready, status[:36]) == ("READY=1", r"STATUS=rpi4 refused\nMAINPID=1xxxxxxx"[:36])
    assert len(status) < MAX_STATUS_LENGTH + 20


@pytest.mark.parametrize(
    "watchdog",
    [
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "often"},
        {"WATCHDOG_USEC": "9" * 400},
        {"WATCHDOG_USEC": "9" * 5000},
        {},
    ],
)
async def test_a_watchdog_that_is_not_for_this_process_hears_nothing(
    watchdog: dict[str, str], systemd: Systemd, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    manager = ServiceManager(environment=systemd.environment | watchdog)
    nursery.start_soon(manager.run)
    for _ in range(3):
        await wait_all_tasks_blocked()
        mock_clock.jump(100)
    assert systemd.heard() == []


async def test_a_timeout_that_nobody_can_keep_does_not_use_a_whole_processor(
    systemd: Systemd, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    manager = ServiceManager(environment=systemd.environment | {"WATCHDOG_USEC": "1"})
    nursery.start_soon(manager.run)
    await wait_all_tasks_blocked()
    assert systemd.heard() == ["WATCHDOG=1"]
    mock_clock.jump(MIN_PING_SECONDS * 0.9)
    await wait_all_tasks_blocked()
    assert systemd.heard() == []
    mock_clock.jump(MIN_PING_SECONDS)
    await wait_all_tasks_blocked()
    assert systemd.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/notify"])
async def test_a_daemon_runs_without_systemd(address: str, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager(lambda: "free", {"NOTIFY_SOCKET": address} if address else {})
    manager.ready()
    with manager.reloading():
        pass
    manager.stopping()
    assert len(caplog.records) == (1 if address else 0)  # said once, not with each message
    with trio.move_on_after(0):
        await manager.run()


async def test_a_full_queue_does_not_block_the_event_loop(
    systemd: Systemd, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel's queue of a datagram socket is short; systemd may be busy for long."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as other, suppress(BlockingIOError):
        while True:
            other.sendto(b"x", systemd.socket.getsockname())
    manager = ServiceManager(environment=systemd.environment | {"WATCHDOG_USEC": "1000000"})
    nursery.start_soon(manager.run)
    await wait_all_tasks_blocked()
    [record] = caplog.records
    assert "temporarily unavailable" in record.getMessage()  # and it did not time out
