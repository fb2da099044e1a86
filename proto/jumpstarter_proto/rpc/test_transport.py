"""A connection or listener that fails leaves nothing open, and nobody waits for a peer without limit."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from jumpstarter_proto.rpc import (
    RpcError,
    StatusCode,
    client_ssl_context,
    connect_tcp,
    connect_unix,
    tcp_listeners,
    unix_listener,
)
from jumpstarter_proto.rpc.conftest import tls_pair


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_a_peer_that_speaks_tls_but_not_grpc_is_left(nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    [listener] = await tcp_listeners("127.0.0.1", 0, ssl_context=context)
    port = listener.transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
    has_left = trio.Event()

    async def serve() -> None:
        async with await listener.accept() as stream:
            await stream.do_handshake()
            assert await stream.receive_some() == b""
            has_left.set()

    nursery.start_soon(serve)
    trusted = client_ssl_context(ca=authority.cert_pem.bytes().decode())
    with pytest.raises(RpcError, match="TLS but not gRPC") as caught:
        await connect_tcp("localhost", port, ssl_context=trusted)
    with trio.fail_after(10):
        await has_left.wait()
    assert caught.value.__traceback__ is not None, "which would keep a stream that was not closed"
    await listener.aclose()


@pytest.mark.parametrize("host", ["a" * 64, "lab..example"])
async def test_what_cannot_be_a_host_name_is_a_sentence(host: str) -> None:
    with pytest.raises(RpcError, match=r"is not a host name: .*; check the address"):
        await connect_tcp(host, 1)


async def test_a_peer_without_tls_is_called_that(nursery: trio.Nursery) -> None:
    [listener] = await tcp_listeners("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]  # type: ignore[attr-defined]

    async def serve() -> None:
        async with await listener.accept() as stream:
            await stream.send_all(b"\0\0\x12\4\0\0\0\0\0" + bytes(18))  # HTTP/2's SETTINGS
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()

    nursery.start_soon(serve)
    with pytest.raises(RpcError, match="does not speak TLS; is it the right port"):
        await connect_tcp("127.0.0.1", port, ssl_context=client_ssl_context())
    await listener.aclose()


async def test_a_listener_that_cannot_be_made_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.touch()
    before = open_files()
    with pytest.raises(OSError, match="in use") as caught:
        unix_listener(path)
    assert open_files() == before
    assert caught.value.__traceback__ is not None, "which would keep a socket that was not closed"


async def test_the_umask_is_the_same_after_a_unix_socket_was_made(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        await unix_listener(tmp_path / "socket").aclose()
    finally:
        after = os.umask(before)
    assert after == 0o027


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[tuple[Path, trio.SocketListener]]:
    """A listener whose queue is full: nobody takes the connection that waits there."""
    path = tmp_path / "socket"
    async with unix_listener(path, backlog=0) as listener, await connect_unix(path):
        yield path, listener


async def test_a_unix_listener_that_takes_nobody_is_waited_for_with_a_limit(
    full: tuple[Path, trio.SocketListener], autojump_clock: trio.testing.MockClock
) -> None:
    before = open_files()
    with trio.fail_after(60), pytest.raises(RpcError, match="no answer within 5 s") as caught:
        await connect_unix(full[0], timeout=5)
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert open_files() == before


async def test_a_connection_is_made_when_a_full_unix_listener_has_room_again(
    nursery: trio.Nursery,
    full: tuple[Path, trio.SocketListener],
    autojump_clock: trio.testing.MockClock,
) -> None:
    path, listener = full

    async def accept_two() -> None:
        await trio.sleep(1)
        for _ in range(2):
            async with await listener.accept() as accepted:
                await accepted.send_all(b"hello")

    nursery.start_soon(accept_two)
    async with await connect_unix(path) as stream:
        assert await stream.receive_some() == b"hello"


async def test_a_tcp_peer_that_does_not_answer_has_a_bounded_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    [listener] = await tcp_listeners("127.0.0.1", 0)
    async with listener:
        port = listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        with trio.fail_after(60), pytest.raises(RpcError, match="does not answer within 5 s") as caught:
            await connect_tcp("127.0.0.1", port, ssl_context=client_ssl_context(), timeout=5)
        async with await listener.accept() as accepted:
            with trio.fail_after(10):
                while await accepted.receive_some():
                    pass
        assert caught.value.__traceback__ is not None, "which would keep a stream that was not closed"
    assert trio.current_time() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_listener_that_is_closed_leaves_no_socket(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    before = open_files()
    listeners = await tcp_listeners("127.0.0.1", 0, ssl_context=contexts[1] if tls else None)
    for listener in listeners:
        await listener.aclose()
    assert open_files() == before
    assert listeners


async def test_a_tls_stream_that_is_closed_leaves_no_socket(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    before = open_files()
    ours, theirs = await tls_pair(contexts)
    await ours.aclose()
    await theirs.aclose()
    assert open_files() == before
