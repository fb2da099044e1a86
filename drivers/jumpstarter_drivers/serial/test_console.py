"""The console's own parts: readers, the escape from a terminal, and a port that comes and goes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from jumpstarter_exporter.driver import DeviceBusy, DeviceMissing
from trio.testing import MockClock, wait_all_tasks_blocked

from jumpstarter_drivers.serial.console import Console, ConsoleReader
from jumpstarter_drivers.serial.driver import Input
from jumpstarter_drivers.serial.port import ControlLine, Port, PortLost


class FakePort(Port):
    """A port whose other end is the test."""

    def __init__(self) -> None:
        super().__init__(None)
        self.give, self._come = trio.open_memory_channel[bytes](100)
        self.sent = bytearray()
        self.times: list[float] = []
        self.lines: dict[ControlLine, bool] = {}
        self.lost = False
        self.drained = b""

    async def receive(self) -> bytes:
        try:
            return await self._come.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise PortLost("pulled out") from None

    async def send(self, data: bytes | memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if self.lost:
            raise PortLost("pulled out")
        self.sent += data[:7]
        self.times.append(trio.current_time())
        return len(data[:7])

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        self.drained = bytes(self.sent)

    async def set_line(self, line: ControlLine, value: bool) -> None:
        self.lines[line] = value

    async def aclose(self) -> None:
        self._come.close()

    def pull_out(self) -> None:
        self.lost = True
        self.give.close()


class Bench:
    """A console, what it said, and the ports that it will find."""

    def __init__(self, *, cps: float | None = None, buffer: int = 1000) -> None:
        self.states: list[str] = []
        self.ports: list[FakePort] = []
        self.looked: list[float] = []
        self.first = FakePort()
        self.fault: DeviceBusy | DeviceMissing = DeviceMissing("there is no /dev/ttyX")
        self.came: trio.Event | None = None
        """Set by a host that knows when the port is plugged in."""
        self.console = Console(
            "/dev/ttyX",
            self._open,
            gone=self.states.append,
            back=lambda: self.states.append("back"),
            came=lambda: self.came,
            logger=logging.getLogger("test"),
            cps=cps,
            buffer=buffer,
        )

    async def _open(self) -> Port:
        self.looked.append(trio.current_time())
        if not self.ports:
            raise self.fault
        return self.ports.pop(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Console]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.console.run, self.first)
            await wait_all_tasks_blocked()
            yield self.console
            nursery.cancel_scope.cancel()


async def test_every_reader_gets_every_byte_from_when_it_attached() -> None:
    bench = Bench()
    async with bench.running() as console:
        with console.attach() as early:
            await bench.first.give.send(b"one ")
            assert await early.receive() == b"one "
            with console.attach() as late:
                await bench.first.give.send(b"two")
                assert await early.receive() == b"two"
                assert await late.receive() == b"two"


async def test_who_asks_for_a_port_that_is_away_has_it_looked_for_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bench = Bench()
    async with bench.running() as console:
        await bench.first.aclose()
        await trio.sleep(60)  # it is looked for every 2 s by now
        before = trio.current_time(), len(bench.looked)
        assert not await console.wait_for_port(0)
        bench.ports.append(FakePort())
        assert await console.wait_for_port(0)
        assert (trio.current_time(), len(bench.looked)) == (before[0], before[1] + 2)


async def test_output_without_readers_is_read_and_forgotten() -> None:
    bench = Bench()
    async with bench.running() as console:
        for _ in range(50):
            await bench.first.give.send(b"x" * 1000)
        await wait_all_tasks_blocked()
        with console.attach() as reader:
            await bench.first.give.send(b"new")
            assert await reader.receive() == b"new"


async def test_slow_reader_finds_a_note_where_bytes_are_missing() -> None:
    bench = Bench(buffer=10)
    async with bench.running() as console:
        with console.attach() as slow, console.attach() as quick:
            await bench.first.give.send(b"0123456789")
            assert await quick.receive() == b"0123456789"
            await bench.first.give.send(b"abc")
            assert await quick.receive() == b"abc"
            await bench.first.give.send(b"de")
            assert await quick.receive() == b"de"
            assert await slow.receive() == b"0123456789"
            note = await slow.receive()
            assert b"5 bytes are missing here" in note
            assert slow.position == quick.position == console.position == 15
            await bench.first.give.send(b"later")
            assert await slow.receive() == b"later"
            assert slow.position == console.position == 20
        with console.attach() as late:
            assert late.position == 20


async def test_what_waits_for_a_reader_comes_in_frames_of_64_kib() -> None:
    reader = ConsoleReader(1 << 20)
    for _ in range(40):
        reader.put(b"x" * 4096)
    assert [len(await reader.receive()) for _ in range(3)] == [65536, 65536, 32768]


async def test_cancelled_reader_loses_nothing() -> None:
    reader = ConsoleReader(100)
    reader.put(b"kept")
    with trio.move_on_after(0) as scope:
        await reader.receive()
    assert scope.cancelled_caught
    assert await reader.receive() == b"kept"


async def test_end_comes_after_what_is_buffered() -> None:
    bench = Bench()
    async with bench.running() as console:
        with console.attach() as reader:
            await bench.first.give.send(b"last words")
            await wait_all_tasks_blocked()
            reader.close()
            assert await reader.receive() == b"last words"
            assert await reader.receive() == b""


async def test_stopping_the_console_ends_its_readers() -> None:
    bench = Bench()
    async with bench.running() as console:
        attached = console.attach()
        reader = attached.__enter__()
    assert await reader.receive() == b""
    attached.__exit__(None, None, None)


async def test_port_that_returns_is_one_console_with_a_gap(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with bench.running() as console:
        with console.attach() as reader:
            await bench.first.give.send(b"before")
            assert await reader.receive() == b"before"
            bench.first.pull_out()
            await wait_all_tasks_blocked()
            assert bench.states == ["/dev/ttyX went away: pulled out; plug it in again"]
            again = FakePort()
            bench.ports.append(again)
            await again.give.send(b"after")
            assert await reader.receive() == b"after"
            assert bench.states[1:] == ["back"]


async def test_it_looks_for_the_port_less_and_less_often(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with bench.running():
        bench.first.pull_out()
        await trio.sleep(30)
    pauses = [later - earlier for earlier, later in zip(bench.looked, bench.looked[1:], strict=False)]
    assert pauses[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert pauses[5:] == pytest.approx([2.0] * len(pauses[5:]))


async def test_a_port_of_which_the_host_tells_is_not_looked_for_until_it_comes(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.came = came = trio.Event()
    async with bench.running():
        bench.first.pull_out()
        await trio.sleep(600)
        assert len(bench.looked) == 1
        bench.ports.append(FakePort())
        came.set()
        await wait_all_tasks_blocked()
        assert bench.states[-1] == "back"


async def test_one_that_another_program_has_is_looked_for_all_the_same(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.came = trio.Event()
    bench.fault = DeviceBusy("another program has it")
    async with bench.running():
        bench.first.pull_out()
        await trio.sleep(30)
        assert len(bench.looked) > 10


async def test_writes_wait_for_the_port_and_lose_nothing(autojump_clock: MockClock) -> None:
    bench = Bench()
    again = FakePort()
    async with bench.running() as console, trio.open_nursery() as nursery:
        await console.send(b"before ")
        bench.first.pull_out()
        nursery.start_soon(console.send, b"while it was away")
        await trio.sleep(5)
        assert bench.first.sent == b"before "
        bench.ports.append(again)
        await trio.sleep(5)
        assert again.sent == b"while it was away"


async def test_port_that_only_the_writer_finds_broken_is_given_up(autojump_clock: MockClock) -> None:
    bench = Bench()
    again = FakePort()
    bench.ports.append(again)
    async with bench.running() as console:
        bench.first.lost = True
        await console.send(b"x")
        assert again.sent == b"x"
        assert len(bench.states) == 2


async def test_writes_are_not_mixed() -> None:
    bench = Bench()
    async with bench.running() as console, trio.open_nursery() as nursery:
        for letter in (b"a", b"b", b"c"):
            nursery.start_soon(console.send, letter * 20)
    assert {bytes(bench.first.sent[i : i + 20]) for i in (0, 20, 40)} == {b"a" * 20, b"b" * 20, b"c" * 20}


async def test_input_ends_when_all_of_it_has_left_the_port() -> None:
    bench = Bench()
    async with bench.running() as console:
        stream = Input(console)
        await stream.send_all(b"poweroff\r")
        await stream.send_eof()
        await stream.finish()
        assert await stream.receive_some() == b""
        assert bench.first.drained == b"poweroff\r"


async def test_cps_spreads_characters_over_time(autojump_clock: MockClock) -> None:
    bench = Bench(cps=10)
    async with bench.running() as console:
        await console.send(b"12345")
    assert bench.first.sent == b"12345"
    pauses = [
        later - earlier for earlier, later in zip(bench.first.times, bench.first.times[1:], strict=False)
    ]
    assert pauses == pytest.approx([0.1] * 4)
