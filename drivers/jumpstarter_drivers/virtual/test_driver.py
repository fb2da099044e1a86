"""The virtual board end to end over gRPC: power, console and storage act on one another as on a bench."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pexpect
import pytest
import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError

from jumpstarter_drivers.power.client import PowerClient
from jumpstarter_drivers.serial.client import PySerialClient
from jumpstarter_drivers.storage.client import FlashResult, StorageMuxFlasherClient
from jumpstarter_drivers.testing import host, serve_async
from jumpstarter_drivers.virtual.driver import VirtualBoard
from jumpstarter_drivers.virtual.image import make_image


class Bench:
    def __init__(self, client: DriverClient, console: trio.abc.Stream) -> None:
        self.power = cast("PowerClient", client.children["power"])
        self.storage = cast("StorageMuxFlasherClient", client.children["storage"])
        self.console = console
        self.seen = b""

    async def expect(self, wanted: bytes) -> str:
        with trio.fail_after(30):
            while wanted not in self.seen:
                self.seen += await self.console.receive_some()
        before, _, self.seen = self.seen.partition(wanted)
        return (before + wanted).decode().replace("\r\n", "\n")

    async def run(self, line: str) -> str:
        await self.console.send_all(line.encode() + b"\n")
        await self.expect(line.encode() + b"\r\n")
        return (await self.expect(b"# ")).removesuffix("# ")


@asynccontextmanager
async def bench(**config: object) -> AsyncIterator[Bench]:
    board = VirtualBoard(hostname="rpi4", boot_seconds=0, **config)  # type: ignore[arg-type]
    async with serve_async(board) as client, client.children["serial"].stream_async("connect") as console:
        yield Bench(client, console)


async def test_factory_image_boots_to_a_shell_and_power_off_silences_it() -> None:
    async with bench() as board:
        await board.power.on.aio()
        assert "image rpi4-factory" in await board.expect(b"rpi4 login: ")
        await board.console.send_all(b"root\n")
        await board.expect(b"# ")
        assert await board.run("echo hi; false; echo $?") == "hi\n1\n"
        readings = [reading async for reading in board.power.read.aio()]
        assert readings[0].voltage == 5.0
        assert await board.power.status.aio() == "on"
        await board.power.off.aio()
        assert await board.power.status.aio() == "off"
        await board.console.send_all(b"echo anybody there\n")
        assert [reading.voltage async for reading in board.power.read.aio()] == [0.0]
        await board.power.on.aio()
        assert "anybody" not in await board.expect(b"login: ")


async def test_a_board_of_a_test_has_a_recording_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    for name in ("ann", "bob"):
        board = VirtualBoard(hostname=name, boot_seconds=0)
        async with serve_async(board) as client, client.children["serial"].stream_async("connect") as console:
            seen = Bench(client, console)
            await seen.power.on.aio()
            await seen.expect(b"login: ")
            serial = cast("PySerialClient", client.children["serial"])
            recorded = b"".join([record.data async for record in serial.history.aio()])
            assert [other for other in (b"ann", b"bob") if other + b" login:" in recorded] == [name.encode()]
    assert not (tmp_path / "state" / "consoles").exists()


async def test_board_boots_what_was_flashed(tmp_path: Path) -> None:
    image = tmp_path / "hello.img"
    made = make_image(image, "hello", "3.1")
    async with bench() as board:
        result = await board.storage.flash.aio(image)
        assert isinstance(result, FlashResult)
        assert result.verified
        await board.power.on.aio()
        assert f"image hello 3.1 ({made.size} bytes, sha256 {made.digest[:12]})" in await board.expect(
            b"login: "
        )


async def test_empty_card_does_not_boot() -> None:
    async with bench(factory_image=False) as board:
        await board.power.on.aio()
        assert "No bootable image on mmc 0: the card is empty" in await board.expect(
            b"power-cycle the board."
        )


async def test_card_at_the_host_does_not_boot_and_leaves_a_running_board_without_programs() -> None:
    async with bench() as board:
        await board.storage.host.aio()
        await board.power.on.aio()
        assert "no card, the storage is switched to host" in await board.expect(b"power-cycle the board.")
        await board.storage.dut.aio()
        await board.power.cycle.aio(wait=0)
        await board.expect(b"login: ")
        await board.console.send_all(b"root\n")
        await board.expect(b"# ")
        await board.storage.host.aio()
        await board.expect(b"mmc0: card aaaa removed")
        assert "Input/output error" in await board.run("uname")


async def test_half_written_card_does_not_boot_even_when_forced(tmp_path: Path) -> None:
    image = tmp_path / "hello.img"
    make_image(image, "hello")
    packed = tmp_path / "hello.img.gz"
    import gzip

    packed.write_bytes(gzip.compress(image.read_bytes())[:-100])
    async with bench() as board:
        with pytest.raises(DriverError, match="ends too early"):
            await board.storage.flash.aio(packed, whole=True)
        with pytest.raises(DriverError, match="incomplete"):
            await board.storage.dut.aio()
        await board.storage.dut.aio(force=True)
        await board.power.on.aio()
        assert "the image is incomplete" in await board.expect(b"power-cycle the board.")


async def test_card_in_a_file_of_the_users_keeps_its_image(tmp_path: Path) -> None:
    card = tmp_path / "card.img"
    image = tmp_path / "hello.img"
    make_image(image, "kept")
    async with bench(storage=str(card)) as board:
        await board.storage.flash.aio(image)
    async with bench(storage=str(card)) as board:
        await board.power.on.aio()
        assert "image kept 1.0" in await board.expect(b"login: ")


async def test_board_that_one_session_switched_on_is_on_in_the_next_and_so_is_its_console() -> None:
    async with host(VirtualBoard, hostname="rpi4", boot_seconds=0) as devices:
        async with serve_async(devices) as client:
            await cast("PowerClient", client.children["power"]).on.aio()
        async with (
            serve_async(devices) as client,
            client.children["serial"].stream_async("connect") as console,
        ):
            await console.send_all(b"\n")
            board = Bench(client, console)
            await board.expect(b"login: ")
            assert [reading.voltage async for reading in board.power.read.aio()] == [5.0]


async def test_end_of_the_exporter_pulls_the_plug() -> None:
    board = VirtualBoard(boot_seconds=0)
    async with serve_async(board) as client:
        await cast("PowerClient", client.children["power"]).on.aio()
        hardware = board.core.hardware
        assert hardware.powered
    assert not hardware.powered


def test_a_console_of_a_board_that_is_off_says_so_and_how_to_switch_it_on() -> None:
    program = """
from jumpstarter_drivers.testing import serve
from jumpstarter_drivers.virtual.driver import VirtualBoard
with serve(VirtualBoard(hostname="rpi4", boot_seconds=0)) as client:
    client.children["serial"].start_console()
    print("and again")
    client.children["serial"].start_console()
"""
    child = pexpect.spawn(sys.executable, ["-c", program], encoding="utf-8", timeout=20)
    child.expect_exact("power is off; Ctrl-] p switches it on.")
    child.send("\x1dp")
    child.expect_exact("rpi4 login: ")
    child.send("\x1dq")
    child.expect_exact("and again")
    child.expect_exact("Ctrl-] h shows more keys.")
    child.send("\r")
    child.expect_exact("login: ")
    assert "is off" not in (child.before or "")
    child.send("\x1dq")
    child.expect(pexpect.EOF)


def test_invalid_configuration_is_rejected() -> None:
    with pytest.raises(ValueError, match="boot_seconds is -1"):
        VirtualBoard(boot_seconds=-1)
    with pytest.raises(ValueError, match="boot_delay is 10"):
        VirtualBoard(boot_delay=10)
    with pytest.raises(ValueError, match="its own children"):
        VirtualBoard(children={"more": VirtualBoard()})
