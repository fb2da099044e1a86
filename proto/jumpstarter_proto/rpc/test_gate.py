"""A server that anybody can reach: strangers have a bounded time, number and share of our memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import Limits, Options, RpcError, Server, StatusCode, open_channel
from jumpstarter_proto.rpc._connection import Connection
from jumpstarter_proto.rpc.conftest import STREAM, UNARY, Bytes, Call, Echo

LIMITS = Limits(strangers=4, strangers_of_peer=4, of_identity=2, stranger_bytes=100_000)


class Door(Echo):
    """`Unary` trusts whoever says a name."""

    async def Unary(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        if request.value:
            call.trust(request.value.decode())
        return request


class Public:
    def __init__(self, nursery: trio.Nursery, options: Options | None = None) -> None:
        self.server = Server([Door()], limits=LIMITS, options=options)
        self._nursery = nursery

    def connect(self) -> trio.abc.Stream:
        near, far = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve_connection, far)
        return near

    @asynccontextmanager
    async def known(self, name: str) -> AsyncIterator[None]:
        async with open_channel(self.connect()) as channel:
            await channel.unary(UNARY, Bytes(value=name.encode()))
            yield


async def closes(stream: trio.abc.Stream) -> float:
    """When the server closes it."""
    start = trio.current_time()
    while await stream.receive_some():
        pass
    return trio.current_time() - start


async def test_a_stranger_that_says_nothing_is_closed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stream = Public(nursery).connect()
    assert 29 < await closes(stream) < 33


async def test_answers_give_a_stranger_time_and_trust_all_of_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    async with open_channel(public.connect()) as channel:
        for _ in range(3):
            await trio.sleep(20)
            await channel.unary(UNARY, Bytes())
        await channel.unary(UNARY, Bytes(value=b"ann"))
        await trio.sleep(3600)
        await channel.unary(UNARY, Bytes())
    async with open_channel(public.connect()) as channel:
        await channel.unary(UNARY, Bytes())
        assert (await channel.wait_closed()).code is StatusCode.UNAVAILABLE


async def test_a_call_that_lasts_does_not_keep_a_stranger(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def talk() -> None:
        async with open_channel(Public(nursery).connect()) as channel, channel.stream(STREAM) as call:
            while True:
                await call.send(Bytes(value=b"x"))
                await call.receive()
                await trio.sleep(1)

    with pytest.raises(RpcError) as error:
        await talk()
    assert error.value.code is StatusCode.UNAVAILABLE


async def test_a_newcomer_gets_the_place_of_who_had_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    async with public.known("ann"):
        silent = []
        for _ in range(4):
            silent.append(public.connect())
            await trio.testing.wait_all_tasks_blocked()
        refused = public.connect()
        assert await closes(refused) < 2, "the others have only just come"
        await trio.sleep(6)
        async with public.known("bob"):
            assert await closes(silent[0]) < 2
        assert public.server._gate is not None
        assert public.server._gate.admission.strangers == 3


async def test_one_identity_has_a_bounded_number(nursery: trio.Nursery) -> None:
    public = Public(nursery)
    async with public.known("ann"), public.known("ann"):
        with pytest.raises(RpcError, match="close some") as error:
            async with public.known("ann"):
                pass
        assert error.value.code is StatusCode.RESOURCE_EXHAUSTED
        async with public.known("bob"):
            pass
    async with public.known("ann"):
        pass


async def test_a_stranger_makes_us_hold_little(nursery: trio.Nursery) -> None:
    stream = Public(nursery).connect()
    attacker = Connection(client=True, options=Options())
    attacker.start()
    taken = 0

    async def attack() -> None:
        nonlocal taken
        await stream.send_all(attacker.take())
        while True:
            # Of a message that is never complete.
            number = attacker.start_call(STREAM.path, scheme="http", authority="x", timeout=None, metadata=())
            attacker.send_data(number, b"\0" + (60_000).to_bytes(4, "big") + bytes(16_000))
            await stream.send_all(attacker.take())
            await trio.testing.wait_all_tasks_blocked()
            taken += 16_000

    with pytest.raises(trio.BrokenResourceError):
        await attack()
    assert 80_000 < taken < 120_000


@pytest.mark.parametrize("known", [False, True], ids=["stranger", "known"])
async def test_a_message_that_never_comes_ends_its_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, known: bool
) -> None:
    public = Public(nursery, Options(unary_seconds=10))
    stream = public.connect()
    client = Connection(client=True, options=Options())
    client.start()
    if known:
        number = client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
        client.send_message(number, Bytes(value=b"ann").SerializeToString(), end=True)
    client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    await stream.send_all(client.take())
    seen = b""
    with trio.fail_after(15):
        while b"did not come" not in seen:
            seen += await stream.receive_some()
    assert 9 < trio.current_time() < 12


async def test_a_flood_is_logged_once_a_minute(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    public = Public(nursery)
    for _ in range(2):
        for _ in range(LIMITS.strangers + 3):
            public.connect()
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(61)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "closed 1 of them",
        "closed 3 of them",
    ]
