"""When all that consoles have said has come, of exporters that tell how much that is, and of those that do not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.pytest_plugin.consoles import SETTLE_SECONDS, ConsoleTails, watch


class Console:
    """One whose bytes come when the test says so."""

    def __init__(self) -> None:
        self.position = 0
        self.stream: Any = None
        self.give, self._pieces = trio.open_memory_channel[tuple[int, bytes]](100)

    async def watch_async(self) -> AsyncGenerator[tuple[int, bytes], None]:
        async with self._pieces:
            async for piece in self._pieces:
                yield piece

    async def position_async(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.position


class OldConsole(Console):
    """That of an exporter which does not tell positions."""

    def __init__(self) -> None:
        super().__init__()
        self.board, self.stream = memory_stream_pair()

    async def watch_async(self) -> AsyncGenerator[tuple[int, bytes], None]:
        if self.stream is not None:
            raise NotImplementedError
        yield 0, b""

    def attach_async(self) -> Any:
        return self.stream


def root_of(console: Console, paths: tuple[str, ...] = ("rpi4.serial",)) -> Any:
    nodes = [SimpleNamespace(path=path, interface="serial", uuid="1", client=console) for path in paths]
    return SimpleNamespace(walk=lambda: nodes, client=None)


async def settle(consoles: ConsoleTails) -> None:
    await consoles._settle()


async def test_it_waits_for_all_bytes_that_the_exporter_has_read(autojump_clock: MockClock) -> None:
    console = Console()
    async with watch(root_of(console)) as consoles, trio.open_nursery() as nursery:
        console.position = 5
        done = trio.Event()

        async def settled() -> None:
            await settle(consoles)
            done.set()

        nursery.start_soon(settled)
        for position, data in ((0, b""), (2, b"he"), (4, b"ll")):
            console.give.send_nowait((position, data))
            await wait_all_tasks_blocked()
            assert not done.is_set()
        console.give.send_nowait((5, b"o"))
        await wait_all_tasks_blocked()
        assert done.is_set()
        assert list(consoles.since({})) == [("rpi4.serial", "hello")]


async def test_a_console_that_ends_or_stalls_is_waited_for_no_longer(autojump_clock: MockClock) -> None:
    console = Console()
    console.position = 5
    async with watch(root_of(console)) as consoles:
        begun = trio.current_time()
        await settle(consoles)
        assert trio.current_time() == pytest.approx(begun + SETTLE_SECONDS)
        await console.give.aclose()
        begun = trio.current_time()
        await settle(consoles)
        assert trio.current_time() == begun


async def test_a_position_that_cannot_be_had_is_not_an_error_of_the_test(autojump_clock: MockClock) -> None:
    class Gone(Console):
        async def position_async(self) -> int:
            raise ConnectError("the exporter is gone")

    async with watch(root_of(Gone())) as consoles:
        await settle(consoles)


async def test_a_console_at_two_places_of_the_tree_is_read_once(autojump_clock: MockClock) -> None:
    console = Console()
    async with watch(root_of(console, ("a.serial", "b.serial"))) as consoles:
        console.position = 1
        console.give.send_nowait((1, b"x"))
        await settle(consoles)
        assert trio.current_time() < SETTLE_SECONDS
        assert [text for _, text in consoles.since({})] == ["x"]


async def test_where_no_positions_are_told_silence_is_waited_for(autojump_clock: MockClock) -> None:
    console = OldConsole()
    async with watch(root_of(console)) as consoles, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()

        async def say() -> None:
            for _ in range(3):
                await console.board.send_all(b"x")
                await trio.sleep(0.1)

        nursery.start_soon(say)
        await settle(consoles)
        assert list(consoles.since({})) == [("rpi4.serial", "xxx")]
        assert trio.current_time() < SETTLE_SECONDS
