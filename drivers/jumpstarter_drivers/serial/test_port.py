"""Ports of every kind, opened by pyserial for real."""

from __future__ import annotations

import os
import socket
import termios
import threading
import time
from pathlib import Path

import pytest
import serial as pyserial
import serial.rfc2217
import trio
import trio.testing
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing

from jumpstarter_drivers.serial.conftest import Cable, tcp_server, upper
from jumpstarter_drivers.serial.port import Port, PortLost, PortSettings, open_port

# pyserial's rfc2217 client names and daemonises its thread the old way.
old_threads = pytest.mark.filterwarnings("ignore:set.* is deprecated:DeprecationWarning")


def settings(url: str | Path, *, disable_hupcl: bool = False) -> PortSettings:
    return PortSettings(str(url), 115200, disable_hupcl)


async def receive(port: Port, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            data += await port.receive()
    return data


async def send(port: Port, data: bytes) -> None:
    with trio.fail_after(10):
        while data:
            data = data[await port.send(data) :]


async def test_terminal_both_ways(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    cable.write(b"\x00\xffU-Boot\r\n")
    assert await receive(port, 10) == b"\x00\xffU-Boot\r\n"
    await send(port, b"\x03\x04\r\n\x11")
    assert cable.read(5) == b"\x03\x04\r\n\x11"
    await port.aclose()


async def test_receiving_waits_without_a_thread_or_a_clock(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    got: list[bytes] = []

    async def take() -> None:
        got.append(await port.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        statistics = trio.lowlevel.current_statistics()
        assert statistics.seconds_to_next_deadline == float("inf")
        assert getattr(statistics.io_statistics, "tasks_waiting_read", 1) >= 1
        cable.write(b"x")
    assert got == [b"x"]
    await port.aclose()


async def test_sending_to_a_board_that_does_not_read_waits_and_can_be_cancelled(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    total = 0
    with trio.move_on_after(0.2) as scope:
        while True:
            total += await port.send(b"x" * 4096)
    assert scope.cancelled_caught
    assert len(cable.read(total)) == total
    with trio.fail_after(5):
        await port.aclose()


async def test_what_was_sent_arrives_also_when_the_port_is_closed_at_once(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    await send(port, b"poweroff\r")
    await port.aclose()
    assert cable.read(9) == b"poweroff\r"


async def test_terminal_that_is_pulled_out_is_lost(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    cable.write(b"last")
    assert await receive(port, 4) == b"last"
    cable.pull_out()
    with trio.fail_after(5), pytest.raises(PortLost, match=r"the device is gone|hung up"):
        await port.receive()
    with pytest.raises(PortLost):
        await send(port, b"x" * 100)
    await port.aclose()


async def test_closing_ends_a_receive_that_waits(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            with pytest.raises(PortLost):
                await port.receive()

        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        await port.aclose()
        await port.aclose()


@pytest.mark.parametrize("disable", [True, False])
async def test_hang_up_on_close_is_as_configured(cable: Cable, disable: bool) -> None:
    terminal = os.open(cable.path, os.O_RDWR | os.O_NOCTTY)
    attributes = termios.tcgetattr(terminal)
    attributes[2] |= termios.HUPCL  # as a UART has it; a pty has not
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    port = await open_port(settings(cable.path, disable_hupcl=disable))
    assert bool(termios.tcgetattr(terminal)[2] & termios.HUPCL) is not disable
    await port.aclose()
    os.close(terminal)


async def test_two_programs_cannot_share_a_terminal(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    with pytest.raises(DeviceBusy, match=r"is open in this exporter itself"):
        await open_port(settings(cable.path))
    await port.aclose()
    again = await open_port(settings(cable.path))
    await again.aclose()


async def test_line_that_a_port_does_not_have(cable: Cable) -> None:
    port = await open_port(settings(cable.path))
    with pytest.raises(DeviceFailed, match="has no DTR line"):
        await port.set_line("dtr", True)
    await port.aclose()


async def test_what_is_not_a_port(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing, match=r"there is no .*ttyUSB0; check the cable"):
        await open_port(settings(tmp_path / "ttyUSB0"))
    (tmp_path / "file").touch()
    with pytest.raises(DeviceFailed, match="cannot be used as a serial port"):
        await open_port(settings(tmp_path / "file"))
    with pytest.raises(DeviceMissing, match="cannot be opened"):
        await open_port(settings("magic://x"))


async def test_loopback_url() -> None:
    port = await open_port(settings("loop://"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, port, b"hello" * 1000)
        assert await receive(port, 5000) == b"hello" * 1000
    await port.set_line("rts", False)
    await port.aclose()


async def test_a_port_that_returns_has_its_lines_as_its_users_had_set_them() -> None:
    port = await open_port(PortSettings("loop://", 115200, lines={"dtr": False, "rts": True}))
    try:
        assert (port._serial.dtr, port._serial.rts, port._serial.baudrate) == (False, True, 115200)
        await port.set_line("dtr", True)
        assert (port._serial.dtr, port._serial.rts) == (True, True)
    finally:
        await port.aclose()


async def test_closing_ends_a_receive_in_a_thread() -> None:
    port = await open_port(settings("loop://"))
    with trio.fail_after(5):
        with trio.move_on_after(0.05):
            await port.receive()
        await port.aclose()


async def test_socket_url() -> None:
    with tcp_server(upper) as number:
        port = await open_port(settings(f"socket://127.0.0.1:{number}"))
        await send(port, b"quiet")
        assert await receive(port, 5) == b"QUIET"
        await port.set_line("dtr", True)
        await port.drain()
        await port.aclose()


async def test_socket_that_ends_is_lost() -> None:
    with tcp_server(lambda connection: None) as number:
        port = await open_port(settings(f"socket://127.0.0.1:{number}"))
        with trio.fail_after(5), pytest.raises(PortLost, match="hung up"):
            await port.receive()
        await port.aclose()


async def test_socket_without_a_server_is_missing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
    with pytest.raises(DeviceMissing, match="check its address and that its server runs"):
        await open_port(settings(f"socket://127.0.0.1:{number}"))


class Rfc2217Server:
    """pyserial's own RFC 2217 server, in front of its loopback port."""

    def __init__(self) -> None:
        self.device = pyserial.serial_for_url("loop://", timeout=0.05)
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._connection.sendall(data)

    def __call__(self, connection: socket.socket) -> None:
        self._connection = connection
        manager = serial.rfc2217.PortManager(self.device, self)
        ended = threading.Event()

        def from_device() -> None:
            while not ended.is_set():
                if data := self.device.read(self.device.in_waiting or 1):
                    self.write(b"".join(manager.escape(data)))

        thread = threading.Thread(target=from_device)
        thread.start()
        try:
            while data := connection.recv(1024):
                self.device.write(b"".join(manager.filter(data)))
        except OSError:
            pass
        finally:
            ended.set()
            thread.join()


@old_threads
async def test_rfc2217_url() -> None:
    server = Rfc2217Server()
    with tcp_server(server) as number:
        port = await open_port(settings(f"rfc2217://127.0.0.1:{number}"))
        assert server.device.baudrate == 115200
        await send(port, b"\xff over the network \xff")
        assert await receive(port, 20) == b"\xff over the network \xff"
        await port.set_line("dtr", False)
        await port.aclose()


@old_threads
async def test_rfc2217_server_that_dies_is_lost() -> None:
    with tcp_server(Rfc2217Server()) as number:
        port = await open_port(settings(f"rfc2217://127.0.0.1:{number}"))
    with trio.fail_after(10), pytest.raises(PortLost):
        await port.receive()
    await port.aclose()


@old_threads
async def test_a_port_that_is_open_when_nobody_waits_for_it_any_more_is_closed() -> None:
    came, answers, left = threading.Event(), threading.Event(), threading.Event()
    server = Rfc2217Server()

    def serve(connection: socket.socket) -> None:
        came.set()
        answers.wait(10)
        server(connection)
        left.set()

    with tcp_server(serve) as number:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_port, settings(f"rfc2217://127.0.0.1:{number}"))
            await trio.to_thread.run_sync(came.wait, 10)
            nursery.cancel_scope.cancel()
        answers.set()
        assert await trio.to_thread.run_sync(left.wait, 20), "the server's only client is still there"


@old_threads
async def test_a_port_that_is_open_in_the_moment_when_its_opener_is_cancelled_is_closed() -> None:
    left = threading.Event()
    server = Rfc2217Server()

    def serve(connection: socket.socket) -> None:
        server(connection)
        left.set()

    with tcp_server(serve) as number:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_port, settings(f"rfc2217://127.0.0.1:{number}"))
            await trio.testing.wait_all_tasks_blocked()
            # The event loop has much to do, and hears of nothing while a thread opens it and is done.
            for is_opening in (True, False):
                while any("open_port" in one.name for one in threading.enumerate()) is not is_opening:
                    time.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(left.wait, 20), "the server's only client is still there"
