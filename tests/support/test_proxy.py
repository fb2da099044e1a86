"""The proxy itself: what goes through, and what its faults look like from both ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from tests.support.proxy import Proxy, proxied


@asynccontextmanager
async def echoing() -> AsyncIterator[Proxy]:
    """A proxy to a service that sends everything back, and goes on for as long as it gets something."""

    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                while data := await stream.receive_some():
                    await stream.send_all(data)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        async with Proxy(listener.socket.getsockname()[1]).running() as proxy:
            yield proxy
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, data: bytes) -> bytes:
    await stream.send_all(data)
    with trio.fail_after(10):
        return await stream.receive_some()


async def to_the_end(stream: trio.SocketStream) -> None:
    with trio.fail_after(10):
        while await stream.receive_some():
            pass


async def test_it_forwards_both_ways_and_ends_with_either() -> None:
    async with echoing() as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        assert await ask(stream, b"hello") == b"hello"
        assert len(proxy.connections) == 1
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_a_cut_is_a_reset_and_the_next_connection_works() -> None:
    async with echoing() as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            await ask(stream, b"x")
            assert proxy.cut(lambda one: False) == 0
            assert proxy.cut() == 1
            with pytest.raises(trio.BrokenResourceError) as caught:
                await to_the_end(stream)
            assert isinstance(caught.value.__cause__, ConnectionResetError)
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            assert await ask(stream, b"y") == b"y"


async def test_a_stall_is_silence_for_old_and_new_until_it_is_healed() -> None:
    async with (
        echoing() as proxy,
        await trio.open_tcp_stream("127.0.0.1", proxy.port) as old,
    ):
        await ask(old, b"x")
        proxy.stall()
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as new:
            for stream in (old, new):
                await stream.send_all(b"late")
            heard: list[bytes] = []

            async def hear(stream: trio.SocketStream) -> None:
                heard.append(await stream.receive_some())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(hear, old)
                nursery.start_soon(hear, new)
                for _ in range(20):
                    await trio.testing.wait_all_tasks_blocked(0.005)
                assert heard == []
                proxy.heal()
            assert heard == [b"late", b"late"]


async def test_a_half_close_leaves_the_other_direction() -> None:
    async with echoing() as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        await ask(stream, b"x")
        assert proxy.half_close() == 1
        with trio.fail_after(10):
            assert await stream.receive_some() == b""
        await stream.send_all(b"still goes out")


async def test_a_delay_delays(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with echoing() as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        proxy.delay = 3.0
        before = trio.current_time()
        assert await ask(stream, b"x") == b"x"
        assert trio.current_time() - before >= 6.0


async def test_who_connects_to_nobody_is_reset() -> None:
    async with Proxy(1).running() as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await to_the_end(stream)


def test_connections_of_a_process_are_known() -> None:
    script = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
    script += "print('on', flush=True); input()"
    with proxied(1) as proxy:
        proxy.stall()
        shell = f'{sys.executable} -c "{script}" {proxy.port}; true'
        with subprocess.Popen(["sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"on\n"
            assert proxy.count() == 1
            assert proxy.count(lambda one: one.is_of(child.pid)) == 1, "a child of the shell"
            assert proxy.count(lambda one: one.is_of(os.getppid())) in (0, 1)
            assert proxy.cut(lambda one: one.is_of(child.pid)) == 1
            child.communicate(b"\n")
