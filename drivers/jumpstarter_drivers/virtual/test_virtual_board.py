"""The board on its pty, driven from the far end as a serial driver does."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from jumpstarter_drivers.virtual import virtual_board as board_module
from jumpstarter_drivers.virtual.firmware import Firmware, FirmwareState
from jumpstarter_drivers.virtual.image import BadImage, BootImage
from jumpstarter_drivers.virtual.virtual_board import SimulatedBoard


class Console:
    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        self.stream = trio.lowlevel.FdStream(fd)
        self.seen = b""

    async def expect(self, wanted: bytes) -> bytes:
        with trio.fail_after(30):
            while wanted not in self.seen:
                data = await self.stream.receive_some()
                assert data, f"console closed before {wanted!r}"
                self.seen += data
        before, _, self.seen = self.seen.partition(wanted)
        return before + wanted


@asynccontextmanager
async def running(board: SimulatedBoard) -> AsyncIterator[Console]:
    async with trio.open_nursery() as nursery:
        await nursery.start(board.run)
        console = Console(board.console)
        async with console.stream:
            yield console
        nursery.cancel_scope.cancel()


def make(image: BootImage | BadImage | OSError | None = None) -> SimulatedBoard:
    async def load() -> BootImage:
        await trio.lowlevel.checkpoint()
        if isinstance(image, Exception):
            raise image
        return image or BootImage("demo", "1.0", 512, "ab" * 32)

    return SimulatedBoard(Firmware(hostname="rpi4", boot_seconds=0), load)


async def test_boots_logs_in_and_runs_a_command_through_the_pty() -> None:
    board = make()
    async with running(board) as console:
        board.power_on()
        assert b"image demo 1.0" in await console.expect(b"rpi4 login: ")
        await console.stream.send_all(b"root\n")
        await console.expect(b"# ")
        await console.stream.send_all(b"uname -r\n")
        assert await console.expect(b"# ") == b"uname -r\r\n6.6.0-virtual\r\n# "


@pytest.mark.parametrize(
    ("fault", "words"),
    [(BadImage("no card"), b"no card"), (OSError(5, "Input/output error"), b"card error, Input")],
)
async def test_unreadable_card_is_told_on_the_console(fault: BadImage | OSError, words: bytes) -> None:
    board = make(fault)
    async with running(board) as console:
        board.power_on()
        assert words in await console.expect(b"power-cycle the board.\r\n")


async def test_power_off_while_the_card_is_read_starts_no_kernel() -> None:
    reading = trio.Event()
    cancelled = trio.Event()

    async def load() -> BootImage:
        reading.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    firmware = Firmware(boot_seconds=0)
    board = SimulatedBoard(firmware, load)
    async with running(board) as console:
        board.power_on()
        await console.expect(b"autoboot")
        await reading.wait()
        board.power_off()
        await cancelled.wait()
        assert firmware.state is FirmwareState.OFF
        assert not board.powered


async def test_power_cycles_boot_again_and_again() -> None:
    board = make()
    async with running(board) as console:
        for _ in range(3):
            board.power_on()
            await console.expect(b"login: ")
            board.power_off()
        board.power_on()
        board.power_off()
        board.power_on()
        await console.expect(b"login: ")


@pytest.mark.parametrize("patience", [0.0, 3600.0])
async def test_board_waits_for_no_reader_and_forgets_without_power(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(board_module, "_MAX_LAG_SECONDS", patience)
    board = make()
    async with running(board) as console:
        board.power_on()
        await console.expect(b"login: ")
        await console.stream.send_all(b"root\n")
        await console.expect(b"# ")
        for _ in range(40):
            # Far more than a pty holds, and nobody reads it.
            await console.stream.send_all(b"dmesg\n")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert bool(board._output) == (patience > 0)
        board.power_off()
        assert not board._output
        board.power_on()
        await console.expect(b"U-Boot SPL")
        await console.expect(b"login: ")


async def test_console_does_not_echo_before_anybody_has_set_it_up() -> None:
    board = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(board.run)
        fd = os.open(board.console, os.O_RDWR | os.O_NOCTTY)
        local_modes = termios.tcgetattr(fd)[3]
        os.close(fd)
        assert not local_modes & (termios.ECHO | termios.ICANON)
        nursery.cancel_scope.cancel()


async def test_pty_is_gone_with_the_board() -> None:
    board = make()
    before = len(os.listdir("/proc/self/fd"))
    async with running(board):
        assert board.console.startswith("/dev/pts/")
    assert board.console == ""
    assert len(os.listdir("/proc/self/fd")) == before
