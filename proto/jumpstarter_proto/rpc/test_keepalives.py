from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc._keepalives import KeepAlives, Look
from jumpstarter_proto.rpc._server import Server
from jumpstarter_proto.rpc._types import Options


@pytest.fixture
def looks() -> list[tuple[str, float]]:
    return []


@pytest.fixture
def every(looks: list[tuple[str, float]]) -> Callable[[str, float], Look]:
    def make(name: str, seconds: float) -> Look:
        def look() -> float:
            looks.append((name, trio.current_time() - begin))
            return trio.current_time() + seconds

        return look

    begin = 0.0
    return make


async def test_each_is_looked_at_when_it_is_due_and_as_long_as_it_lasts(
    autojump_clock: trio.testing.MockClock,
    looks: list[tuple[str, float]],
    every: Callable[[str, float], Look],
) -> None:
    keepalives, begin = KeepAlives(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalives.run)
        await trio.sleep(1)
        with keepalives.watching(begin + 20, every("slow", 20)):
            await trio.sleep(1)
            with keepalives.watching(begin + 5, every("quick", 4)):
                await trio.sleep(12)
            await trio.sleep(30)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    times = [(name, round(time - begin)) for name, time in looks]
    assert times == [("quick", 5), ("quick", 9), ("quick", 13), ("slow", 20), ("slow", 40)]


async def test_what_has_failed_or_is_done_is_not_looked_at_again_and_disturbs_nobody(
    autojump_clock: trio.testing.MockClock,
    looks: list[tuple[str, float]],
    every: Callable[[str, float], Look],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keepalives, begin = KeepAlives(), trio.current_time()
    done = []

    def broken() -> float:
        raise ValueError("a fault of ours")

    def last() -> None:
        done.append("last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalives.run)
        with (
            keepalives.watching(begin + 1, broken),
            keepalives.watching(begin + 1, last),
            keepalives.watching(begin + 1, every("other", 1)),
        ):
            await trio.sleep(3.5)
        nursery.cancel_scope.cancel()
    assert len(looks) == 3
    assert done == ["last"]
    assert [one.levelno for one in caplog.records] == [logging.ERROR]


async def test_a_server_gives_up_peers_that_do_not_answer_and_keeps_those_that_do() -> None:
    server = Server([], options=Options(keepalive_interval=0.02, keepalive_timeout=2.0))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listeners[0].socket.getsockname()
    async with (
        await trio.open_tcp_stream(*address[:2]) as silent,
        await trio.open_tcp_stream(*address[:2]) as alive,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, listeners)
        for stream in (silent, alive):
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))

        asked = trio.Event()

        async def answer() -> None:
            nonlocal asked
            async for data in alive:
                if data.endswith(b"jmpalive"):
                    asked.set()
                    asked = trio.Event()
                    await alive.send_all(bytes([0, 0, 8, 6, 1, 0, 0, 0, 0]) + b"jmpalive")

        nursery.start_soon(answer)
        said = b"".join([data async for data in silent])
        assert b"the peer has not answered for 2.02 s" in said
        await asked.wait()
        nursery.cancel_scope.cancel()
