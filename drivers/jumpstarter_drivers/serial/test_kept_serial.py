"""Ports that stay open: what is written to them when they are taken up, and what they are then."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_exporter.driver import DeviceBusy
from jumpstarter_proto.process import DescriptorStore, ServiceManager
from jumpstarter_proto.process.descriptor_table import name_of

from jumpstarter_drivers.serial.conftest import Cable
from jumpstarter_drivers.serial.kept_serial import FULL_BUFFER_BYTES, KeptSerial
from jumpstarter_drivers.serial.port import Port, PortLost, PortSettings, open_port
from tests.support.service_manager import DescriptorKeeper, until_waiting

Written = list[tuple[Any, ...]]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[DescriptorKeeper]:
    with DescriptorKeeper(tmp_path / "notify") as keeper:
        yield keeper


def started(systemd: DescriptorKeeper) -> DescriptorStore:
    """The store of a process that was started with what is kept."""
    manager = ServiceManager(environment={"NOTIFY_SOCKET": str(systemd.path)})
    return DescriptorStore(manager, systemd.copies())


async def restarted(systemd: DescriptorKeeper, port: Port, store: DescriptorStore) -> DescriptorStore:
    """The store of the next process."""
    store.hold()
    await port.aclose()
    for descriptor in store._table.take_unclaimed().values():
        os.close(descriptor)  # as the end of a process does
    return started(systemd)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """What is written to terminals."""
    calls: Written = []
    set_attributes, control = termios.tcsetattr, fcntl.ioctl

    def tcsetattr(*arguments: Any) -> None:
        calls.append(("tcsetattr", *arguments[1:]))
        set_attributes(*arguments)

    def ioctl(descriptor: int, request: int, argument: Any = 0, *more: Any) -> Any:
        if request == termios.TIOCMGET:
            return struct.pack("I", termios.TIOCM_RTS)  # a pty has no lines; this port has lost its DTR
        if request == termios.TIOCMBIS:
            calls.append(("raised", struct.unpack("I", argument)[0]))
            return argument
        if request == 0x402C542B:  # TCSETS2
            calls.append(("TCSETS2",))
        return control(descriptor, request, argument, *more)

    monkeypatch.setattr(termios, "tcsetattr", tcsetattr)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return calls


async def receive(port: Port, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            data += await port.receive()
    return data


async def test_a_port_is_taken_up_as_it_is_with_what_came_meanwhile(
    systemd: DescriptorKeeper, cable: Cable
) -> None:
    settings = PortSettings(str(cable.path), 115200)
    store = started(systemd)
    port = await open_port(settings, store)
    assert not port.stayed_open
    assert list(systemd.until_stored(1)) == [name_of(os.stat(cable.path).st_rdev)]
    store = await restarted(systemd, port, store)
    cable.write(b"meanwhile")
    port = await open_port(settings, store)
    assert port.stayed_open
    assert not port.is_full
    assert await receive(port, 9) == b"meanwhile"
    with trio.fail_after(10):
        assert await port.send(b"hello") == 5
    assert await cable.receive(5) == b"hello"
    with pytest.raises(DeviceBusy):
        await open_port(settings)
    await port.aclose()
    again = await open_port(settings)  # it was closed for good, so nobody has its lock
    await again.aclose()
    systemd.until_stored(0)


@pytest.mark.parametrize("baudrate", [115200, 250000])
async def test_nothing_is_written_to_a_port_that_is_as_configured(
    systemd: DescriptorKeeper, cable: Cable, baudrate: int, request: pytest.FixtureRequest
) -> None:
    settings = PortSettings(str(cable.path), baudrate, disable_hupcl=True, lines={"dtr": False})
    store = started(systemd)
    port = await open_port(settings, store)
    systemd.until_stored(1)
    store = await restarted(systemd, port, store)
    written: Written = request.getfixturevalue("written")
    port = await open_port(settings, store)
    assert port.stayed_open
    assert written == []
    await port.aclose()


@pytest.mark.parametrize(("before", "after"), [(9600, 115200), (115200, 250000), (250000, 500000)])
async def test_what_differs_from_the_configuration_is_written_once(
    systemd: DescriptorKeeper, cable: Cable, before: int, after: int, request: pytest.FixtureRequest
) -> None:
    store = started(systemd)
    port = await open_port(PortSettings(str(cable.path), before), store)
    systemd.until_stored(1)
    store = await restarted(systemd, port, store)
    written: Written = request.getfixturevalue("written")
    port = await open_port(PortSettings(str(cable.path), after), store)
    names = [call[0] for call in written]
    assert names.count("tcsetattr") == 1
    assert names.count("TCSETS2") == (1 if after == 250000 else 0)
    assert ("raised", termios.TIOCM_DTR) in written  # it was down
    assert ("raised", termios.TIOCM_RTS) not in written
    await port.aclose()


async def test_a_port_that_stands_still_meanwhile_may_have_lost_some(
    systemd: DescriptorKeeper, cable: Cable
) -> None:
    settings = PortSettings(str(cable.path), 115200)
    store = started(systemd)
    port = await open_port(settings, store)
    [descriptor] = systemd.until_stored(1).values()
    store = await restarted(systemd, port, store)
    cable.write(b"x" * (FULL_BUFFER_BYTES + 100))
    until_waiting(descriptor, FULL_BUFFER_BYTES)
    port = await open_port(settings, store)
    assert port.is_full
    assert await receive(port, FULL_BUFFER_BYTES + 100) == b"x" * (FULL_BUFFER_BYTES + 100)
    await port.aclose()


async def test_a_port_that_is_pulled_out_leaves_the_store(systemd: DescriptorKeeper, cable: Cable) -> None:
    store = started(systemd)
    port = await open_port(PortSettings(str(cable.path), 115200), store)
    [name] = systemd.until_stored(1)
    cable.pull_out()
    with trio.fail_after(10), pytest.raises(PortLost):
        await port.receive()
    await port.aclose()
    systemd.until_heard(f"FDSTOREREMOVE=1\nFDNAME={name}")
    assert systemd.until_stored(0) == {}


async def test_what_cannot_be_set_up_is_closed_and_opened_by_its_name_at_the_next_try(
    systemd: DescriptorKeeper, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PortSettings(str(cable.path), 115200)
    store = started(systemd)
    port = await open_port(settings, store)
    systemd.until_stored(1)
    store = await restarted(systemd, port, store)
    with monkeypatch.context() as broken:

        def fails(self: KeptSerial, *_: object) -> None:
            raise OSError("broken")

        broken.setattr(KeptSerial, "_reconfigure_port", fails)
        with pytest.raises(Exception, match="broken"):
            await open_port(settings, store)
    port = await open_port(settings, store)
    assert not port.stayed_open
    await port.aclose()


async def test_an_opening_that_is_cancelled_leaves_nothing_in_the_store(
    systemd: DescriptorKeeper, cable: Cable, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on, and closes what nobody wants any more."""
    store = started(systemd)
    began, go_on = trio.Event(), threading.Event()
    keep = DescriptorStore.keep

    def late(self: DescriptorStore, descriptor: int) -> None:
        trio.from_thread.run_sync(began.set)
        go_on.wait(10)
        keep(self, descriptor)

    monkeypatch.setattr(DescriptorStore, "keep", late)
    scope = trio.CancelScope()

    async def opening() -> None:
        with scope:
            await open_port(PortSettings(str(cable.path), 115200), store)

    nursery.start_soon(opening)
    await began.wait()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    go_on.set()
    name = name_of(os.stat(cable.path).st_rdev)
    await trio.to_thread.run_sync(systemd.until_heard, f"FDSTOREREMOVE=1\nFDNAME={name}")
    assert systemd.until_stored(0) == {}
