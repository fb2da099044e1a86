"""Our channel against a server of grpcio: gRPC's interop cases over unix sockets, TCP and TLS."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
from jumpstarter_proto.rpc import (
    Channel,
    RpcError,
    StatusCode,
    client_ssl_context,
    connect_tcp,
    connect_unix,
    open_channel,
)

from tests.rpc import service
from tests.rpc.conftest import Certificates
from tests.rpc.service import Bytes, Empty, Number


class Peer:
    """A server of grpcio."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        """The first message of a client's stream has come."""
        self.sleeping = threading.Event()
        """Sleep's handler runs."""
        self.release = threading.Event()
        self._threads = futures.ThreadPoolExecutor(4)
        self._server = grpc.server(self._threads)
        handlers = {
            service.EMPTY: grpc.unary_unary_rpc_method_handler(
                lambda request, call: Empty(), *_codec(service.EMPTY)
            ),
            service.LARGE: grpc.unary_unary_rpc_method_handler(self._large, *_codec(service.LARGE)),
            service.STATUS: grpc.unary_unary_rpc_method_handler(self._status, *_codec(service.STATUS)),
            service.SLEEP: grpc.unary_unary_rpc_method_handler(self._sleep, *_codec(service.SLEEP)),
            service.CLIENT_STREAM: grpc.stream_unary_rpc_method_handler(
                self._client_stream, *_codec(service.CLIENT_STREAM)
            ),
            service.SERVER_STREAM: grpc.unary_stream_rpc_method_handler(
                self._server_stream, *_codec(service.SERVER_STREAM)
            ),
            service.PING_PONG: grpc.stream_stream_rpc_method_handler(
                self._ping_pong, *_codec(service.PING_PONG)
            ),
        }
        named = {method.name: handler for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.NAME, named)])

    def listen(self, transport: str, folder: Path, certificates: Certificates) -> str:
        if transport == "unix":
            address = f"{folder}/grpcio.sock"
            self._server.add_insecure_port(f"unix:{address}")
        elif transport == "tcp":
            address = str(self._server.add_insecure_port("127.0.0.1:0"))
        else:
            credentials = grpc.ssl_server_credentials([(certificates.key, certificates.chain)])
            address = str(self._server.add_secure_port("127.0.0.1:0", credentials))
        self._server.start()
        return address

    def stop(self) -> None:
        self.release.set()
        self._server.stop(0).wait()
        self._threads.shutdown()

    def _echo(self, call: Any) -> None:
        found = dict(call.invocation_metadata())
        if service.TRAILING in found:
            call.set_trailing_metadata([(service.TRAILING, found[service.TRAILING])])
        if service.INITIAL in found:
            call.send_initial_metadata([(service.INITIAL, found[service.INITIAL])])

    def _large(self, request: Any, call: Any) -> Any:
        self._echo(call)
        return Bytes(value=request.value[::-1])

    def _status(self, request: Any, call: Any) -> Any:
        call.abort(grpc.StatusCode.UNKNOWN, request.value.decode())

    def _sleep(self, request: Any, call: Any) -> Any:
        call.add_callback(self.cancelled.set)
        self.sleeping.set()
        self.release.wait(30)
        return Empty()

    def _client_stream(self, requests: Any, call: Any) -> Any:
        call.add_callback(self.cancelled.set)
        size = 0
        for request in requests:
            self.begun.set()
            size += len(request.value)
        return Number(value=size)

    def _server_stream(self, request: Any, call: Any) -> Iterator[Any]:
        for factor in (1, 2, 3):
            yield Bytes(value=bytes(request.value * factor))

    def _ping_pong(self, requests: Any, call: Any) -> Iterator[Any]:
        call.add_callback(self.cancelled.set)
        self._echo(call)
        for request in requests:
            yield Bytes(value=bytes(request.value))


def _codec(method: Any) -> tuple[Any, Any]:
    return method.request_type.FromString, method.response_type.SerializeToString


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    yield server
    server.stop()


@pytest.fixture
def address(peer: Peer, transport: str, tmp_path: Path, certificates: Certificates) -> str:
    return peer.listen(transport, tmp_path, certificates)


@asynccontextmanager
async def dial(address: str, transport: str, certificates: Certificates) -> AsyncIterator[Channel]:
    stream: trio.abc.Stream
    if transport == "unix":
        stream = await connect_unix(address)
    elif transport == "tcp":
        stream = await connect_tcp("127.0.0.1", int(address))
    else:
        context = client_ssl_context(ca=certificates.authority.decode())
        stream = await connect_tcp("127.0.0.1", int(address), ssl_context=context)
    async with open_channel(stream, scheme="https" if transport == "tls" else "http") as channel:
        yield channel


@pytest.fixture
async def channel(address: str, transport: str, certificates: Certificates) -> AsyncIterator[Channel]:
    async with dial(address, transport, certificates) as opened:
        yield opened


async def test_empty_unary(channel: Channel) -> None:
    assert await channel.unary(service.EMPTY, Empty()) == Empty()


async def test_large_unary(channel: Channel) -> None:
    data = bytes(range(256)) * 10_000
    reply = await channel.unary(service.LARGE, Bytes(value=data))
    assert reply.value == data[::-1]


async def test_client_streaming(channel: Channel) -> None:
    async with channel.stream(service.CLIENT_STREAM) as call:
        for size in service.SIZES:
            await call.send(Bytes(value=bytes(size)))
        await call.send_eof()
        assert (await call.receive()).value == sum(service.SIZES)
        with pytest.raises(trio.EndOfChannel):
            await call.receive()


async def test_server_streaming(channel: Channel) -> None:
    async with channel.server_stream(service.SERVER_STREAM, Number(value=31415)) as call:
        assert [len(reply.value) async for reply in call] == [31415, 62830, 94245]


async def test_ping_pong(channel: Channel) -> None:
    async with channel.stream(service.PING_PONG) as call:
        for size in service.SIZES:
            await call.send(Number(value=size))
            assert len((await call.receive()).value) == size
        await call.send_eof()
        with pytest.raises(trio.EndOfChannel):
            await call.receive()


async def test_empty_stream(channel: Channel) -> None:
    async with channel.stream(service.PING_PONG) as call:
        await call.send_eof()
        assert [reply async for reply in call] == []


async def test_custom_metadata(channel: Channel) -> None:
    sent = [(service.INITIAL, "test_initial_metadata_value"), (service.TRAILING, b"\xab\xab\xab")]
    async with channel.stream(service.PING_PONG, metadata=sent) as call:
        await call.send(Number(value=1))
        await call.send_eof()
        assert (service.INITIAL, "test_initial_metadata_value") in await call.initial_metadata()
        assert len([reply async for reply in call]) == 1
        assert (service.TRAILING, b"\xab\xab\xab") in call.trailing_metadata


@pytest.mark.parametrize("message", ["test status message", service.SPECIAL, "100% of it", "", " it broke: "])
async def test_status_code_and_message(channel: Channel, message: str) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary(service.STATUS, Bytes(value=message.encode()))
    assert (caught.value.code, caught.value.details) == (StatusCode.UNKNOWN, message)


@pytest.mark.parametrize("method", [service.UNIMPLEMENTED, service.UNKNOWN_SERVICE])
async def test_unimplemented(channel: Channel, method: Any) -> None:
    with pytest.raises(RpcError) as caught:
        await channel.unary(method, Empty())
    assert caught.value.code is StatusCode.UNIMPLEMENTED
    assert await channel.unary(service.EMPTY, Empty()) == Empty()


async def test_cancel_after_begin(channel: Channel, peer: Peer) -> None:
    async with channel.stream(service.CLIENT_STREAM) as call:
        await call.send(Bytes(value=b"begun"))
        assert await trio.to_thread.run_sync(peer.begun.wait, 10)
    assert await trio.to_thread.run_sync(peer.cancelled.wait, 10)


async def test_cancel_after_first_response(channel: Channel, peer: Peer) -> None:
    async with channel.stream(service.PING_PONG) as call:
        await call.send(Number(value=31415))
        await call.receive()
    assert await trio.to_thread.run_sync(peer.cancelled.wait, 10)


async def test_timeout_on_sleeping_server(channel: Channel, peer: Peer) -> None:
    # grpcio calls no handler after the deadline, which proves nothing: a busy machine needs a later one.
    for timeout in (0.5, 2, 8):
        with pytest.raises(RpcError) as caught:
            await channel.unary(service.SLEEP, Empty(), timeout=timeout)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        if peer.sleeping.is_set():
            break
    assert await trio.to_thread.run_sync(peer.cancelled.wait, 10)


async def test_server_that_stops_fails_open_calls_at_once(channel: Channel, peer: Peer) -> None:
    async with channel.stream(service.PING_PONG) as call:
        await call.send(Number(value=1))
        await call.receive()
        await trio.to_thread.run_sync(peer.stop)
        with pytest.raises(RpcError) as caught:
            await call.receive()
    assert caught.value.code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
