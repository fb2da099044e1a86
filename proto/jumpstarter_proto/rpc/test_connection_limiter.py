"""A server that anybody can reach: who is not authenticated has a bounded time, number and share of our memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import (
    ConnectionLimits,
    LimitedLog,
    Options,
    RpcError,
    Server,
    StatusCode,
    open_channel,
)
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc.conftest import STREAM, UNARY, Bytes, Call, Echo

LIMITS = ConnectionLimits(unauthenticated=4, unauthenticated_of_peer=4, of_identity=2)


class Door(Echo):
    """`Unary` trusts whoever says a name."""

    async def Unary(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        if request.value:
            call.set_authenticated(request.value.decode())
        return request

    async def Stream(self, call: Call) -> None:  # noqa: N802
        if call.header("name"):
            await trio.sleep(float(call.header("after") or 0))
            call.set_authenticated(call.header("name") or "")
        if call.header("idle"):
            await trio.sleep_forever()
        await trio.sleep(float(call.header("reads-after") or 0))
        await super().Stream(call)


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


async def closes(stream: trio.abc.Stream) -> tuple[float, bytes]:
    """When the server closes it, and what it has said."""
    start, seen = trio.current_time(), b""
    while data := await stream.receive_some():
        seen += data
    return trio.current_time() - start, seen


async def test_who_says_nothing_is_closed_and_told_why(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Public(nursery).connect()
    seconds, seen = await closes(stream)
    assert 29 < seconds < 33
    assert b"no caller was authenticated on it within 30 s" in seen
    await trio.testing.wait_all_tasks_blocked()
    assert [record.getMessage() for record in caplog.records] == [
        "closed the connection of a tunnel: no caller was authenticated on it within 30 s"
    ]


async def test_a_caller_is_told_why_the_connection_was_cut(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_channel(Public(nursery).connect()) as channel, channel.stream(STREAM) as call:
        with pytest.raises(RpcError, match="no caller was authenticated on it within 30 s") as error:
            await call.receive()
    assert error.value.code is StatusCode.UNAVAILABLE


async def test_answers_give_time_and_trust_all_of_it(
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


async def test_a_call_that_lasts_does_not_keep_a_connection(
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


async def test_a_newcomer_waits_for_the_place_of_who_had_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    async with public.known("ann"):
        silent = [public.connect() for _ in range(4)]
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        async with public.known("bob"):
            assert 4.9 < trio.current_time() - start < 5.1
        for stream in silent:
            _, seen = await closes(stream)
            assert b"within 5 s, and other connections wait" in seen
        assert public.server._limiter is not None
        assert public.server._limiter.policy.unauthenticated == 0


async def test_who_waits_is_not_read_and_not_answered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    for _ in range(4):
        public.connect()
    await trio.testing.wait_all_tasks_blocked()
    waiting = public.connect()
    with trio.move_on_after(4):
        await waiting.send_all(bytes(100))
        await waiting.receive_some()
        raise AssertionError("it was answered")


async def test_who_waits_is_let_go_when_the_server_shuts_down(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    for _ in range(4):
        public.connect()
    await trio.testing.wait_all_tasks_blocked()
    waiting = public.connect()
    await trio.testing.wait_all_tasks_blocked()
    await public.server.shutdown(0.1)
    seconds, seen = await closes(waiting)
    assert (seconds, seen) == (0, b"")
    late, _ = await closes(public.connect())
    assert late == 0


async def test_a_place_is_free_when_its_caller_is_authenticated_or_gone(nursery: trio.Nursery) -> None:
    public = Public(nursery)
    async with AsyncExitStack() as stack:
        for number in range(8):
            await stack.enter_async_context(public.known(f"user {number}"))
        silent = [public.connect() for _ in range(4)]
        await trio.testing.wait_all_tasks_blocked()
        await silent[0].aclose()
        await stack.enter_async_context(public.known("late"))


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


class Attacker:
    """Sends what HTTP/2's windows allow, and counts what is taken."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.taken = 0
        self.seen = b""
        self.peer = GrpcConnection(client=True, options=Options())
        self.peer.start()

    def call(self, *metadata: tuple[str, str]) -> int:
        return self.peer.start_call(
            STREAM.path, scheme="http", authority="x", timeout=None, metadata=metadata
        )

    async def flush(self) -> None:
        await self.stream.send_all(self.peer.take())
        await trio.testing.wait_all_tasks_blocked()

    async def send_pieces(self) -> None:
        """Of a message that is never complete, as far as the window goes, on one call after another."""
        while True:
            number = self.call()
            self.peer.send_data(number, b"\0" + (60_000).to_bytes(4, "big"))
            self.taken += 5
            while size := min(self.peer.sendable(number), 20_000 - self.taken % 20_000):
                self.peer.send_data(number, bytes(size))
                self.taken += size
                await self.flush()
                if self.taken % 20_000 == 0:
                    break
            if not size:
                return

    async def read(self) -> None:
        while data := await self.stream.receive_some():
            self.seen += data
            self.peer.receive(bytes(data))


async def test_who_is_not_authenticated_may_make_us_hold_64_kib(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    attacker = Attacker(public.connect())
    nursery.start_soon(attacker.read)
    await attacker.send_pieces()
    assert attacker.taken <= 65535
    [served] = public.server._connections
    assert 40_000 < served.mux.connection.held_in_all <= 65536


async def test_who_does_not_keep_to_the_windows_is_not_read_any_more_and_cut(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    attacker = Attacker(public.connect())
    for _ in range(100):
        attacker.peer.send_data(attacker.call(), b"\0" + (60_000).to_bytes(4, "big") + bytes(16_000))
    await attacker.flush()
    [served] = public.server._connections
    assert 40_000 < served.mux.connection.held_in_all <= 65536
    _, seen = await closes(attacker.stream)
    assert b"no caller was authenticated on it within 30 s" in seen


async def test_open_calls_count_with_their_headers_however_small_they_came(nursery: trio.Nursery) -> None:
    public = Public(nursery)
    attacker = Attacker(public.connect())
    http2 = attacker.peer._http2
    for _ in range(100):
        number = http2.new_stream_id()
        assert number is not None
        http2.send_headers(
            number,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", STREAM.path),
                (":authority", "x"),
                ("content-type", "application/grpc"),
                ("filler", "x" * 3000),  # once in full, and then by its place in HPACK's table
            ],
        )
    assert http2.send_buffer.size < 8000
    await attacker.flush()
    [served] = public.server._connections
    assert 32_000 < served.mux.connection.held_in_all <= 65536
    assert b"too many calls at once" in await attacker.stream.receive_some()


async def test_a_frame_of_headers_that_never_ends_counts(nursery: trio.Nursery) -> None:
    stream = Public(nursery).connect()
    attacker = Attacker(stream)
    await attacker.flush()
    with suppress(trio.BrokenResourceError):
        await stream.send_all(b"\0\xff\xff\1\0\0\0\0\1" + bytes(20_000))
    _, seen = await closes(stream)
    assert b"too large a frame" in seen


async def test_who_is_not_authenticated_is_read_on_when_what_it_sent_is_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    attacker = Attacker(Public(nursery).connect())
    nursery.start_soon(attacker.read)
    number = attacker.call(("reads-after", "3"))
    for _ in range(2):
        attacker.peer.send_message(number, Bytes(value=bytes(29_000) + b"answer me").SerializeToString())
    await attacker.stream.send_all(attacker.peer.take())
    with trio.fail_after(10):
        while attacker.seen.count(b"answer me") < 2:
            await trio.sleep(0.1)


async def test_requests_that_are_not_calls_are_all_answered_one_after_the_other(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    attacker = Attacker(Public(nursery).connect())
    http2 = attacker.peer._http2
    headers = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
    seen = b""
    for count in range(1, 41):
        number = http2.new_stream_id()
        assert number is not None
        http2.send_headers(number, headers, end=True)
        await attacker.stream.send_all(attacker.peer.take())
        with trio.fail_after(1):
            while seen.count(b"This server speaks gRPC") < count:
                seen += await attacker.stream.receive_some()


@pytest.mark.parametrize("after", [0, 3], ids=["at once", "after a while"])
async def test_who_sends_much_at_once_is_authenticated_first(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, after: int
) -> None:
    attacker = Attacker(Public(nursery).connect())
    nursery.start_soon(attacker.read)
    number = attacker.call(("name", "ann"), ("after", str(after)))
    message = Bytes(value=bytes(32_000)).SerializeToString()
    for _ in range(2):
        attacker.peer.send_message(number, message)
    await attacker.stream.send_all(attacker.peer.take())
    with trio.fail_after(10):
        while attacker.peer.sendable(number) < 1024 * 1024 - 70_000:
            await trio.sleep(0.1)


async def test_many_calls_at_once_are_all_answered_when_the_first_one_authenticates(
    nursery: trio.Nursery,
) -> None:
    async with open_channel(Public(nursery).connect()) as channel, trio.open_nursery() as calls:

        async def talk() -> None:
            metadata = [("name", "ann"), ("token", "x" * 1000)]
            async with channel.stream(STREAM, metadata=metadata) as call:
                await call.send(Bytes(value=b"x"))
                assert (await call.receive()).value == b"x"

        for _ in range(200):
            calls.start_soon(talk)


async def test_who_is_authenticated_is_read_on_whatever_its_first_call_does(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    attacker = Attacker(Public(nursery).connect())
    nursery.start_soon(attacker.read)
    number = attacker.call(("name", "ann"), ("after", "3"), ("idle", "yes"))
    attacker.peer.send_message(number, Bytes(value=bytes(60_000)).SerializeToString())
    await attacker.flush()
    second = attacker.call()
    attacker.peer.send_message(second, Bytes(value=b"answer me").SerializeToString())
    await attacker.stream.send_all(attacker.peer.take())
    with trio.fail_after(10):
        while b"answer me" not in attacker.seen:
            await trio.sleep(0.1)


async def test_who_is_not_authenticated_is_read_on_when_a_call_is_over_that_nobody_has_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    attacker = Attacker(Public(nursery).connect())
    nursery.start_soon(attacker.read)
    number = attacker.peer.start_call(
        STREAM.path, scheme="http", authority="x", timeout=3, metadata=[("idle", "yes")]
    )
    attacker.peer.send_message(number, Bytes(value=bytes(60_000)).SerializeToString())
    await attacker.flush()
    second = attacker.call()
    attacker.peer.send_message(second, Bytes(value=b"answer me").SerializeToString())
    await attacker.stream.send_all(attacker.peer.take())
    with trio.fail_after(10):
        while b"answer me" not in attacker.seen:
            await trio.sleep(0.1)
    assert trio.current_time() >= 3


async def test_calls_that_are_over_do_not_count(nursery: trio.Nursery) -> None:
    async with open_channel(Public(nursery).connect()) as channel:
        for _ in range(200):
            await channel.unary(UNARY, Bytes())


async def test_a_place_that_an_authenticated_caller_leaves_is_taken_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    public = Public(nursery)
    async with open_channel(public.connect()) as first:
        await first.unary(UNARY, Bytes())
        for _ in range(3):
            public.connect()
        await trio.testing.wait_all_tasks_blocked()
        waiting = public.connect()
        await trio.testing.wait_all_tasks_blocked()
        await first.unary(UNARY, Bytes(value=b"ann"))
        with trio.fail_after(1):
            assert await waiting.receive_some()


async def test_a_large_message_of_which_little_comes_is_refused_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    attacker = Attacker(Public(nursery).connect())
    nursery.start_soon(attacker.read)
    number = attacker.peer.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    attacker.peer.send_data(number, b"\0" + (100_000).to_bytes(4, "big") + b"few")
    await attacker.flush()
    assert b"from an unauthenticated caller" in attacker.seen


async def test_a_large_message_of_who_is_not_authenticated_is_refused_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_channel(Public(nursery).connect()) as channel:
        with pytest.raises(RpcError, match="from an unauthenticated caller") as error:
            await channel.unary(UNARY, Bytes(value=bytes(100_000)))
        assert error.value.code is StatusCode.RESOURCE_EXHAUSTED
        await channel.unary(UNARY, Bytes(value=b"ann"))
        await channel.unary(UNARY, Bytes(value=bytes(100_000)))
    assert trio.current_time() < 1


@pytest.mark.parametrize("known", [False, True], ids=["not authenticated", "known"])
async def test_a_message_that_never_comes_ends_its_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, known: bool
) -> None:
    public = Public(nursery, Options(unary_seconds=10))
    stream = public.connect()
    client = GrpcConnection(client=True, options=Options())
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


async def test_a_flood_is_logged_a_few_times(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    public = Public(nursery)
    begun = time.monotonic()
    streams = [public.connect() for _ in range(200)]
    for stream in streams:
        await closes(stream)
    allowed = LimitedLog.BURST + (time.monotonic() - begun) * LimitedLog.PER_MINUTE / 60
    assert 5 < len(caplog.records) <= allowed
    assert "it waited 60 s for its turn" in caplog.text or "within 5 s" in caplog.text
