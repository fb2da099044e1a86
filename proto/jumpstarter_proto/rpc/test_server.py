"""What a server does about handlers, callers and connections that take their time."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import (
    DynamicServicer,
    Options,
    Route,
    RpcError,
    Server,
    ServerCall,
    StatusCode,
    connect_tcp,
    open_channel,
    tcp_listeners,
)
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc._events import CallEnded, CallReset, Event
from jumpstarter_proto.rpc._tls import TlsStream
from jumpstarter_proto.rpc.conftest import FLOOD, SLEEP, STREAM, UNARY, Bytes, Call, Echo, socket_pair


async def test_an_idle_connection_delays_no_shutdown(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Echo()])
    nursery.start_soon(server.serve_connection, theirs)
    async with open_channel(ours) as channel:
        await channel.unary(UNARY, Bytes())
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(60)
    assert trio.current_time() < 1


class Timed(Echo):
    """`Sleep` takes as many seconds as it is told, and `Unary` gives the caller's name."""

    async def Sleep(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        await trio.sleep(float(request.value))
        return request

    async def Unary(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        return Bytes(value=(call.header("x-name") or "nobody").encode())


async def test_calls_have_the_grace_of_a_shutdown_and_streams_less(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Timed()])
    nursery.start_soon(server.serve_connection, theirs)
    ended: dict[str, tuple[StatusCode, str, int]] = {}

    async def sleep(seconds: int) -> None:
        code, details = StatusCode.OK, ""
        try:
            await channel.unary(SLEEP, Bytes(value=b"%d" % seconds))
        except RpcError as error:
            code, details = error.code, error.details
        ended[f"{seconds} s"] = code, details, round(trio.current_time())

    async def stream() -> None:
        with pytest.raises(RpcError) as caught:
            async with channel.stream(STREAM) as call:
                await call.receive()
        ended["stream"] = caught.value.code, caught.value.details, round(trio.current_time())

    gone = (StatusCode.UNAVAILABLE, "the server is shutting down")
    async with open_channel(ours) as channel, trio.open_nursery() as calls:
        calls.start_soon(stream)
        calls.start_soon(sleep, 20)
        calls.start_soon(sleep, 1000)
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(100, streams=5)
    assert ended == {"stream": (*gone, 5), "20 s": (StatusCode.OK, "", 20), "1000 s": (*gone, 100)}


class Found(DynamicServicer):
    """Finds `Timed`'s procedures with their first calls."""

    async def find(self, call: ServerCall[Any, Any]) -> Route | None:
        return (SLEEP, Timed().Sleep) if call.method.path == SLEEP.path else (STREAM, Timed().Stream)


async def test_the_first_call_of_a_method_that_is_found_with_it_has_the_grace_of_its_kind(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Found()])
    nursery.start_soon(server.serve_connection, theirs)
    ended: dict[str, tuple[StatusCode, int]] = {}

    async def stream() -> None:
        with pytest.raises(RpcError) as caught:
            async with channel.stream(STREAM) as call:
                await call.receive()
        ended["stream"] = caught.value.code, round(trio.current_time())

    async def sleep() -> None:
        await channel.unary(SLEEP, Bytes(value=b"20"))
        ended["unary"] = StatusCode.OK, round(trio.current_time())

    async with open_channel(ours) as channel, trio.open_nursery() as calls:
        calls.start_soon(stream)
        calls.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(100, streams=5)
    assert ended == {"stream": (StatusCode.UNAVAILABLE, 5), "unary": (StatusCode.OK, 20)}


async def test_a_shutdown_is_over_with_the_last_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Timed()])
    nursery.start_soon(server.serve_connection, theirs)
    async with open_channel(ours) as channel, trio.open_nursery() as calls:
        calls.start_soon(channel.unary, SLEEP, Bytes(value=b"20"))
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(1000)
        assert trio.current_time() == pytest.approx(20, abs=1)


async def test_of_several_values_of_a_header_the_last_one_counts(nursery: trio.Nursery) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(Server([Timed()]).serve_connection, theirs)
    async with open_channel(ours) as channel:
        for metadata, name in (([("x-name", "ann"), ("x-name", "bob")], b"bob"), ([], b"nobody")):
            reply = await channel.unary(UNARY, Bytes(), metadata=metadata)
            assert reply.value == name


async def test_a_caller_that_reads_nothing_delays_a_shutdown_by_two_seconds(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """One for its calls' end, one for what is still queued."""
    ours, theirs = socket_pair()
    server = Server([Echo()])
    nursery.start_soon(server.serve_connection, theirs)
    await send_request(ours, FLOOD.path, Options(stream_window=8 << 20))
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(30):
        await server.shutdown(0)
    assert trio.current_time() < 2.1
    await ours.aclose()


async def test_a_caller_that_does_not_take_its_reply_has_a_bounded_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Echo()], options=Options(unary_seconds=10))
    nursery.start_soon(server.serve_connection, theirs)
    client = await send_request(ours, UNARY.path, Options(stream_window=70_000), Bytes(value=bytes(200_000)))
    events: list[Event] = []
    with trio.fail_after(60):
        while not any(isinstance(event, CallEnded | CallReset) for event in events):
            events = client.receive(bytes(await ours.receive_some()))
    assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_handlers_that_still_clean_up_count_as_calls() -> None:
    """A peer that cancels its calls and makes new ones does not get more of them to run."""
    may_end = trio.Event()

    class Slow(Echo):
        async def Sleep(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
            try:
                return await super().Sleep(request, call)
            finally:
                with trio.CancelScope(shield=True):
                    await may_end.wait()

    ours, theirs = trio.testing.memory_stream_pair()
    slow = Slow()
    server = Server([slow], options=Options(max_streams=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs)
        async with open_channel(ours) as channel:
            async with trio.open_nursery() as calls:
                calls.start_soon(channel.unary, SLEEP, Bytes())
                await slow.started.wait()
                calls.cancel_scope.cancel()
            await slow.cancelled.wait()
            try:
                with pytest.raises(RpcError) as caught:
                    await channel.unary(UNARY, Bytes())
            finally:
                may_end.set()
            assert caught.value.code is StatusCode.UNAVAILABLE
            await trio.testing.wait_all_tasks_blocked()
            await channel.unary(UNARY, Bytes())


async def test_a_connection_that_has_ended_is_forgotten(nursery: trio.Nursery) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Echo()])
    nursery.start_soon(server.serve_connection, theirs)
    async with open_channel(ours) as channel:
        await channel.unary(UNARY, Bytes())
        assert len(server._connections) == 1
        assert not server._arriving  # of a server that runs for months, only those that are there are kept
    await trio.testing.wait_all_tasks_blocked()
    assert not server._connections


async def test_a_server_that_shuts_down_stops_to_listen(nursery: trio.Nursery) -> None:
    listeners = await tcp_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]  # type: ignore[attr-defined]
    server = Server([Echo()])
    with trio.fail_after(10):
        async with trio.open_nursery() as serving:
            await serving.start(server.serve, listeners)
            await server.shutdown(0)
    with pytest.raises(RpcError, match="refused"):
        await connect_tcp("127.0.0.1", port)


async def test_a_peer_that_begins_no_tls_is_closed_after_ten_seconds(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    ours, theirs = socket_pair()
    nursery.start_soon(Server([Echo()]).serve_connection, TlsStream(theirs, contexts[1]))
    with trio.fail_after(60):
        assert await ours.receive_some() == b""
    assert trio.current_time() == pytest.approx(10, abs=0.1)
    await ours.aclose()


async def send_request(
    stream: trio.abc.Stream, path: str, options: Options, message: Bytes | None = None
) -> GrpcConnection:
    """Make a call of a client that reads only what the test reads."""
    client = GrpcConnection(client=True, options=options)
    client.start()
    number = client.start_call(path, scheme="http", authority="x", timeout=None, metadata=())
    await stream.send_all(client.take())
    data = (message or Bytes()).SerializeToString()
    framed = b"\0" + len(data).to_bytes(4, "big") + data
    for start in range(0, len(framed), 16_000):
        client.send_data(number, framed[start : start + 16_000], end=start + 16_000 >= len(framed))
    await stream.send_all(client.take())
    return client


async def test_a_handler_may_outlive_the_loss_of_its_caller_for_a_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended = trio.Event()

    class Patient(Echo):
        async def Stream(self, call: Call) -> None:  # noqa: N802
            call.outlive_reset(5)
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(Server([Patient()]).serve_connection, theirs)
    async with open_channel(ours) as channel:
        async with channel.stream(STREAM):
            await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        with trio.fail_after(30):
            await ended.wait()
    assert trio.current_time() - start == pytest.approx(5)
