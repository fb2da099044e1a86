from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from jumpstarter_proto.rpc import (
    Options,
    RpcError,
    Server,
    StatusCode,
    client_ssl_context,
    connect_tcp,
    connect_unix,
    open_channel,
    serve_connection,
    server_ssl_context,
    tcp_listeners,
    unix_listener,
)
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc.conftest import FLOOD, SLEEP, STREAM, UNARY, Bytes, Call, Connect, Echo

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def test_lost_connection_fails_every_open_call_at_once(connect: Connect) -> None:
    failures: list[RpcError] = []
    async with connect() as pair:

        async def call() -> None:
            with pytest.raises(RpcError) as caught:
                await pair.channel.unary(SLEEP, Bytes())
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
            await pair.echo.started.wait()
            await trio.testing.wait_all_tasks_blocked()
            await trio.aclose_forcefully(pair.theirs)
        with pytest.raises(RpcError):
            await pair.channel.unary(UNARY, Bytes())
        assert pair.channel.closed
    assert [failure.code for failure in failures] == [StatusCode.UNAVAILABLE] * 5


async def test_lost_connection_cancels_the_handler(connect: Connect) -> None:
    async with connect() as pair:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(RpcError):
                    await pair.channel.unary(SLEEP, Bytes())

            nursery.start_soon(call)
            await pair.echo.started.wait()
            await trio.aclose_forcefully(pair.ours)
        await pair.echo.cancelled.wait()


async def test_keep_alive_finds_a_half_open_connection(autojump_clock: trio.testing.MockClock) -> None:
    ours, _silent = trio.testing.memory_stream_pair()
    options = Options(keepalive_interval=20.0, keepalive_timeout=10.0)
    async with open_channel(ours, options=options) as channel:
        with pytest.raises(RpcError, match="not answered for 30 s") as caught:
            await channel.unary(UNARY, Bytes())
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert trio.current_time() == pytest.approx(30, abs=0.5)


async def test_keep_alive_leaves_a_quiet_peer_alone(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async with connect(client=Options(keepalive_interval=20.0, keepalive_timeout=5.0)) as pair:
        await trio.sleep(300)
        assert not pair.channel.closed
        await pair.channel.unary(UNARY, Bytes())


async def test_reader_that_stops_bounds_memory_on_both_ends(connect: Connect) -> None:
    """The handler wants to send 1 GiB."""
    options = Options()
    async with (
        connect(client=options, server=options) as pair,
        pair.channel.server_stream(FLOOD, Bytes()) as call,
    ):
        await call.receive()
        await trio.testing.wait_all_tasks_blocked()
        held = sum(len(data) for data, _ in call._state.messages or ())
        bound = options.stream_window + 1024 * 1024
        assert held <= bound
        assert pair.echo.sent <= 2 * bound
        # Other calls of the connection go on.
        assert (await pair.channel.unary(UNARY, Bytes(value=b"x"))).value == b"x"
        sent = pair.echo.sent
        for _ in range(100):
            await call.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert pair.echo.sent > sent


async def test_abandoned_calls_give_their_window_back(connect: Connect) -> None:
    options = Options(connection_window=4 * 1024 * 1024)
    async with connect(client=options) as pair:
        for _ in range(20):
            async with pair.channel.server_stream(FLOOD, Bytes()) as call:
                await call.receive()
                await trio.testing.wait_all_tasks_blocked()
        assert (await pair.channel.unary(UNARY, Bytes(value=b"x"))).value == b"x"


async def test_going_away_refuses_new_calls_and_lets_running_ones_finish() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Echo()])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs)
        async with open_channel(ours) as channel, channel.stream(STREAM) as call:
            await call.send(Bytes(value=b"before"))
            await call.receive()
            nursery.start_soon(server.shutdown, 60)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RpcError, match="going away") as caught:
                await channel.unary(UNARY, Bytes())
            assert caught.value.code is StatusCode.UNAVAILABLE
            await call.send(Bytes(value=b"after"))
            assert (await call.receive()).value == b"after"
            await call.send_eof()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_shutdown_cancels_what_does_not_end_in_time(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    echo = Echo()
    server = Server([echo])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs)
        async with open_channel(ours) as channel:

            async def call() -> None:
                with pytest.raises(RpcError) as caught:
                    await channel.unary(SLEEP, Bytes())
                assert caught.value.code is StatusCode.UNAVAILABLE

            nursery.start_soon(call)
            await echo.started.wait()
            await server.shutdown(3)
            await echo.cancelled.wait()
            assert trio.current_time() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("again", range(10))  # who of those that wait for a write is first is trio's choice
async def test_shutdown_ends_streams_first_and_lets_the_other_calls_end(
    again: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Echo):
        async def Sleep(self, request: Bytes, call: object) -> Bytes:  # noqa: N802
            self.started.set()
            await trio.sleep(5)
            return request

    ours, theirs = trio.testing.memory_stream_pair()
    echo = Slow()
    server = Server([echo])
    ends: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs)
        async with open_channel(ours) as channel:

            async def call() -> None:
                assert (await channel.unary(SLEEP, Bytes(value=b"x"))).value == b"x"
                ends.append(("unary", trio.current_time()))

            async def stream() -> None:
                async with channel.stream(STREAM) as opened:
                    with pytest.raises(RpcError, match="shutting down") as caught:
                        await opened.receive()
                    assert caught.value.code is StatusCode.UNAVAILABLE
                    ends.append(("stream", trio.current_time()))

            async with trio.open_nursery() as calls:
                calls.start_soon(call)
                calls.start_soon(stream)
                await echo.started.wait()
                calls.start_soon(partial(server.shutdown, 60, streams=2))
    assert [(who, round(when)) for who, when in ends] == [("stream", 2), ("unary", 5)]


async def raw_peer(nursery: trio.Nursery, options: Options | None = None) -> trio.testing.MemoryReceiveStream:
    """A server, and our end of the bytes to it, without a client."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await serve_connection(theirs, [Echo()], options=options)

    nursery.start_soon(serve)
    return ours  # type: ignore[return-value]


async def drain(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the peer closes."""
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n" * 10, PREFACE + bytes(range(256)) * 20, PREFACE + b"\xff" * 5000, b"\0" * 100],
)
async def test_garbage_ends_the_connection_and_nothing_else(nursery: trio.Nursery, garbage: bytes) -> None:
    stream: trio.abc.Stream = await raw_peer(nursery)  # type: ignore[assignment]
    await stream.send_all(garbage)
    if garbage.startswith(b"\0"):
        await stream.aclose()
        return
    with trio.fail_after(5):
        await drain(stream)


async def test_reset_storm_is_cut_off(nursery: trio.Nursery) -> None:
    stream: trio.abc.Stream = await raw_peer(nursery, Options(resets_per_second=10, max_streams=10))  # type: ignore[assignment]
    client = GrpcConnection(client=True, options=Options())
    client.start()
    await stream.send_all(client.take())
    with trio.fail_after(5):
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which one of them is the guard's choice
            for _ in range(200):
                opened = client.start_call(
                    SLEEP.path, scheme="http", authority="x", timeout=None, metadata=()
                )
                client.reset(opened)
                await stream.send_all(client.take())
                await trio.testing.wait_all_tasks_blocked()


async def test_no_handler_starts_for_a_call_that_is_reset_in_the_bytes_that_opened_it(
    nursery: trio.Nursery,
) -> None:
    seen: list[str] = []

    async def see(call: Call) -> None:
        seen.append(call.method.path)

    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(partial(serve_connection, theirs, [Echo()], interceptors=[see]))
    client = GrpcConnection(client=True, options=Options())
    client.start()
    given_up = client.start_call(SLEEP.path, scheme="http", authority="x", timeout=None, metadata=())
    client.reset(given_up)
    client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    await ours.send_all(client.take())
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [UNARY.path]


@pytest.mark.parametrize(("pings", "is_cut"), [(200, False), (800, True)])
async def test_a_peer_that_sends_too_many_frames_without_a_call_is_cut_off_with_the_reason(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, pings: int, is_cut: bool
) -> None:
    stream: trio.abc.Stream = await raw_peer(nursery)  # type: ignore[assignment]
    said = bytearray()

    async def listen() -> None:
        said.extend(await drain(stream))

    nursery.start_soon(listen)
    await stream.send_all(PREFACE + b"\0\0\0\x04\0\0\0\0\0")
    with suppress(trio.BrokenResourceError):
        for _ in range(300):
            await stream.send_all((b"\0\0\x08\x06\0\0\0\0\0" + b"12345678") * pings)
            await trio.sleep(0.1)
    assert (b"too many frames that serve no call" in said) == is_cut
    assert (trio.current_time() < 10) == is_cut


async def test_peer_that_asks_and_does_not_read_is_cut_off(nursery: trio.Nursery) -> None:
    from jumpstarter_proto.rpc import _mux

    ours, theirs = trio.testing.lockstep_stream_pair()  # writing waits until the other end reads
    nursery.start_soon(serve_connection, theirs, [Echo()])
    ping = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - as above
        await ours.send_all(PREFACE + settings)
        while True:
            await ours.send_all(ping * (_mux.MAX_UNSENT_BYTES // len(ping) // 4))


async def test_oversized_header_list_ends_the_connection(nursery: trio.Nursery) -> None:
    stream: trio.abc.Stream = await raw_peer(nursery, Options(max_header_list=2000))  # type: ignore[assignment]
    client = GrpcConnection(client=True, options=Options())
    client.start()
    metadata = [(f"key{number}", "v" * 100) for number in range(100)]
    client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=metadata)
    await stream.send_all(client.take())
    with trio.fail_after(5):
        await drain(stream)


async def test_compressed_message_is_refused(nursery: trio.Nursery) -> None:
    stream: trio.abc.Stream = await raw_peer(nursery)  # type: ignore[assignment]
    client = GrpcConnection(client=True, options=Options())
    client.start()
    opened = client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    client.send_data(opened, b"\x01\0\0\0\x04bomb", end=True)
    await stream.send_all(client.take())
    with trio.fail_after(5):
        while True:
            events = client.receive(bytes(await stream.receive_some()))
            if ended := [event for event in events if type(event).__name__ == "CallEnded"]:
                break
    assert ended[0].code is StatusCode.INTERNAL  # type: ignore[union-attr]
    assert "compressed" in ended[0].details  # type: ignore[union-attr]


async def test_refused_stream_is_unavailable() -> None:
    client = GrpcConnection(client=True, options=Options())
    server = GrpcConnection(client=False, options=Options())
    client.start()
    server.start()
    opened = client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    server.receive(client.take())
    server.reset(opened, ErrorCodes.REFUSED_STREAM)
    [ended] = [event for event in client.receive(server.take()) if type(event).__name__ == "CallEnded"]
    assert ended.code is StatusCode.UNAVAILABLE  # type: ignore[union-attr]


async def test_handshake_that_closes_at_once_disturbs_nobody(nursery: trio.Nursery, tmp_path: Path) -> None:
    """As Jumpstarter's clients do to fetch the certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    listeners = await tcp_listeners("127.0.0.1", 0, ssl_context=server_ssl_context(chain, key))
    port: int = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
    await nursery.start(Server([Echo()]).serve, listeners)

    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    for context in (blind, None):
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        if context is not None:
            await trio.SSLStream(plain, context).do_handshake()
        else:
            await plain.send_all(b"not TLS at all")
        await plain.aclose()
    with pytest.raises(RpcError, match="certificate"):
        await connect_tcp("localhost", port, ssl_context=client_ssl_context())
    trusted = client_ssl_context(ca=authority.cert_pem.bytes().decode())
    async with open_channel(await connect_tcp("localhost", port, ssl_context=trusted)) as channel:
        await channel.unary(UNARY, Bytes())
    nursery.cancel_scope.cancel()


async def test_unix_socket_has_its_mode_and_refusal_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with pytest.raises(
        RpcError, match=r"is the exporter running\? `jumpstarter-exporter run` starts it"
    ) as caught:
        await connect_unix(path)
    assert caught.value.code is StatusCode.UNAVAILABLE
    listener = unix_listener(path, mode=0o660)
    assert path.stat().st_mode & 0o777 == 0o660
    await listener.aclose()
    with pytest.raises(RpcError, match="refused"):
        await connect_unix(path)
