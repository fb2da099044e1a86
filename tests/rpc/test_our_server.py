"""Our server against a client of grpcio: gRPC's interop cases over unix sockets, TCP and TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import trio
from jumpstarter_proto.rpc import Server, server_ssl_context, tcp_listeners, unix_listener

from tests.rpc import service
from tests.rpc.conftest import Certificates
from tests.rpc.service import Bytes, Empty, Number, TestServicer

T = TypeVar("T")
SECONDS = 10.0


async def blocking(function: Callable[[], T]) -> T:
    """grpcio's calls block."""
    return await trio.to_thread.run_sync(function)


@pytest.fixture
def servicer() -> TestServicer:
    return TestServicer()


@pytest.fixture
async def channel(
    servicer: TestServicer,
    transport: str,
    tmp_path: Path,
    certificates: Certificates,
    certificate_files: tuple[Path, Path],
    nursery: trio.Nursery,
) -> AsyncIterator[grpc.Channel]:
    server = Server([servicer])
    if transport == "unix":
        await nursery.start(server.serve, [unix_listener(tmp_path / "ours.sock")])
        opened = grpc.insecure_channel(f"unix:{tmp_path}/ours.sock")
    else:
        context = server_ssl_context(*certificate_files) if transport == "tls" else None
        listeners = await tcp_listeners("127.0.0.1", 0, ssl_context=context)
        plain: Any = listeners[0].transport_listener if transport == "tls" else listeners[0]  # type: ignore[attr-defined]
        address = f"127.0.0.1:{plain.socket.getsockname()[1]}"
        await nursery.start(server.serve, listeners)
        if transport == "tls":
            opened = grpc.secure_channel(address, grpc.ssl_channel_credentials(certificates.authority))
        else:
            opened = grpc.insecure_channel(address)
    yield opened
    await blocking(opened.close)


def caller(channel: grpc.Channel, method: Any) -> Any:
    """grpcio's callable for one of our methods."""
    kind = method.cardinality.name.lower()
    return getattr(channel, kind)(
        method.path, method.request_type.SerializeToString, method.response_type.FromString
    )


async def test_empty_unary(channel: grpc.Channel) -> None:
    assert await blocking(lambda: caller(channel, service.EMPTY)(Empty(), timeout=SECONDS)) == Empty()


async def test_large_unary(channel: grpc.Channel) -> None:
    data = bytes(range(256)) * 10_000
    reply = await blocking(lambda: caller(channel, service.LARGE)(Bytes(value=data), timeout=SECONDS))
    assert reply.value == data[::-1]


async def test_client_streaming(channel: grpc.Channel) -> None:
    requests = [Bytes(value=bytes(size)) for size in service.SIZES]
    reply = await blocking(lambda: caller(channel, service.CLIENT_STREAM)(iter(requests), timeout=SECONDS))
    assert reply.value == sum(service.SIZES)


async def test_server_streaming(channel: grpc.Channel) -> None:
    call = caller(channel, service.SERVER_STREAM)
    replies = await blocking(lambda: list(call(Number(value=31415), timeout=SECONDS)))
    assert [len(reply.value) for reply in replies] == [31415, 62830, 94245]


async def test_ping_pong_and_empty_stream(channel: grpc.Channel) -> None:
    call = caller(channel, service.PING_PONG)
    requests = [Number(value=size) for size in service.SIZES]
    replies = await blocking(lambda: list(call(iter(requests), timeout=SECONDS)))
    assert [len(reply.value) for reply in replies] == list(service.SIZES)
    assert await blocking(lambda: list(call(iter([]), timeout=SECONDS))) == []


async def test_custom_metadata(channel: grpc.Channel) -> None:
    sent = ((service.INITIAL, "test_initial_metadata_value"), (service.TRAILING, b"\xab\xab\xab"))

    def run() -> tuple[dict[str, Any], dict[str, Any]]:
        _, call = caller(channel, service.LARGE).with_call(Bytes(value=b"x"), metadata=sent, timeout=SECONDS)
        return dict(call.initial_metadata()), dict(call.trailing_metadata())

    initial, trailing = await blocking(run)
    assert initial[service.INITIAL] == "test_initial_metadata_value"
    assert trailing[service.TRAILING] == b"\xab\xab\xab"


@pytest.mark.parametrize("message", ["test status message", service.SPECIAL, "100% of it", "", " it broke: "])
async def test_status_code_and_message(channel: grpc.Channel, message: str) -> None:
    def run() -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            caller(channel, service.STATUS)(Bytes(value=message.encode()), timeout=SECONDS)
        return caught.value.code(), caught.value.details()

    assert await blocking(run) == (grpc.StatusCode.UNKNOWN, message)


@pytest.mark.parametrize("method", [service.UNIMPLEMENTED, service.UNKNOWN_SERVICE])
async def test_unimplemented(channel: grpc.Channel, method: Any) -> None:
    def run() -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            caller(channel, method)(Empty(), timeout=SECONDS)
        code: grpc.StatusCode = caught.value.code()
        return code

    assert await blocking(run) is grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(channel: grpc.Channel, servicer: TestServicer) -> None:
    call = caller(channel, service.SLEEP).future(Empty())
    with trio.fail_after(SECONDS):
        await servicer.sleeping.wait()
        call.cancel()
        await servicer.cancelled.wait()


async def test_cancel_after_first_response(channel: grpc.Channel, servicer: TestServicer) -> None:
    def run() -> None:
        call = caller(channel, service.PING_PONG)(endless())
        next(call)
        call.cancel()

    def endless() -> Any:
        yield Number(value=31415)
        done.wait(SECONDS)

    import threading

    done = threading.Event()
    await blocking(run)
    with trio.fail_after(SECONDS):
        await servicer.cancelled.wait()
    done.set()


async def test_timeout_on_sleeping_server(channel: grpc.Channel, servicer: TestServicer) -> None:
    def run(timeout: float) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            caller(channel, service.SLEEP)(Empty(), timeout=timeout)
        code: grpc.StatusCode = caught.value.code()
        return code

    # On a busy machine a deadline may pass before the request is sent, which proves nothing.
    for timeout in (0.5, 2.0, 8.0):
        assert await blocking(lambda: run(timeout)) is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: B023
        if servicer.sleeping.is_set():
            break
    with trio.fail_after(SECONDS):
        await servicer.cancelled.wait()
