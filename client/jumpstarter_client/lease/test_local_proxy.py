"""The socket of a lease: what comes early arrives, and who cannot have a tunnel hears why."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, open_channel, serve_connection
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.router_grpc import RouterServiceStub

from jumpstarter_client.conftest import FakeExporter, FakeRouter
from jumpstarter_client.connections.connect import connect_async
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease import local_proxy
from jumpstarter_client.lease.local_proxy import open_local_proxy

ENDED = RpcError(StatusCode.UNKNOWN, "lease one has ended; create a new one")


def failing(error: Exception | None) -> local_proxy.Dial:
    """A way to dial that ends in this error."""

    @asynccontextmanager
    async def dial() -> AsyncIterator[trio.SocketStream]:
        await trio.lowlevel.checkpoint()
        if error is not None:
            raise error
        yield trio.SocketStream(trio.socket.socket())

    return dial


refused = failing(ENDED)


async def test_calls_are_carried_also_those_made_before_there_is_a_tunnel(exporter: FakeExporter) -> None:
    ready = trio.Event()

    @asynccontextmanager
    async def dial() -> AsyncIterator[trio.SocketStream]:
        await ready.wait()
        near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, far, [exporter, FakeRouter(exporter)])
            async with near:
                yield near
            nursery.cancel_scope.cancel()

    async with (
        open_local_proxy(dial) as path,
        open_channel(await connect_unix(path)) as channel,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            assert (await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())).reports

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        ready.set()
    assert not Path(path).exists()


async def test_other_programs_can_reach_it_where_the_folder_of_temporary_files_has_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("d" * 120)))
    async with open_local_proxy(refused) as path, await trio.open_unix_socket(path):
        pass


async def test_whoever_calls_hears_why_there_is_no_tunnel() -> None:
    async with open_local_proxy(refused) as path:
        async with open_channel(await connect_unix(path)) as channel:
            with pytest.raises(RpcError, match="lease one has ended") as caught:
                await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
            assert caught.value.code is StatusCode.UNKNOWN
        async with open_channel(await connect_unix(path)) as channel:
            async with RouterServiceStub(channel).Stream() as call:
                with pytest.raises(RpcError, match="lease one has ended"):
                    await call.receive()
            # It has to connect again, when there may be a tunnel.
            assert (await channel.wait_closed()).code is StatusCode.UNAVAILABLE
        with pytest.raises(RpcError, match="lease one has ended"):
            async with connect_async(path):
                pytest.fail("connected")


async def test_grpc_io_hears_it_too() -> None:
    def ask(path: str) -> grpc.RpcError:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            method = channel.unary_unary(
                "/jumpstarter.v1.ExporterService/GetReport",
                request_serializer=empty_pb2.Empty.SerializeToString,
                response_deserializer=jumpstarter_pb2.GetReportResponse.FromString,
            )
            with pytest.raises(grpc.RpcError) as caught:
                method(empty_pb2.Empty(), timeout=30)
            return caught.value

    async with open_local_proxy(refused) as path:
        error = await trio.to_thread.run_sync(ask, path)
    assert "lease one has ended" in error.details()


async def test_an_error_without_a_status_has_one_for_the_caller() -> None:
    async with (
        open_local_proxy(failing(ConnectError("no way"))) as path,
        open_channel(await connect_unix(path)) as channel,
    ):
        with pytest.raises(RpcError, match="no way") as caught:
            await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
        assert caught.value.code is StatusCode.UNAVAILABLE


async def test_who_leaves_early_is_not_dialled_for_any_longer() -> None:
    dialling, stopped = trio.Event(), trio.Event()

    @asynccontextmanager
    async def dial() -> AsyncIterator[trio.SocketStream]:
        try:
            dialling.set()
            await trio.Event().wait()
            yield trio.SocketStream(trio.socket.socket())
        finally:
            stopped.set()

    async with open_local_proxy(dial) as path:
        stream = await connect_unix(path)
        await stream.send_all(b"PRI")
        await dialling.wait()
        await stream.aclose()
        with trio.fail_after(5):
            await stopped.wait()


async def test_what_comes_before_there_is_a_tunnel_is_kept_within_bounds_and_whole() -> None:
    ready, sent = trio.Event(), trio.Event()
    content = bytes(range(256)) * 16 * 1024
    arrived = bytearray()

    @asynccontextmanager
    async def dial() -> AsyncIterator[trio.SocketStream]:
        await ready.wait()
        near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair())

        async def read() -> None:
            async with far:
                async for data in far:
                    arrived.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async with near:
                yield near

    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(content)
        await stream.send_eof()
        sent.set()

    async with (
        open_local_proxy(dial) as path,
        await connect_unix(path) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send, stream)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not sent.is_set(), "its sender waits"
        ready.set()
        with trio.fail_after(20):
            assert await stream.receive_some() == b""
    assert arrived == content


async def test_a_client_that_was_refused_and_leaves_is_forgotten_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local_proxy._forward, theirs, refused)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    assert trio.current_time() < 1


async def test_a_client_that_was_refused_and_says_nothing_is_left_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    _ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(1000):
        await local_proxy._forward(theirs, refused)
    assert trio.current_time() == pytest.approx(local_proxy.REJECTION_SECONDS)
