"""A connection or listener that fails leaves nothing open, and nobody waits for a peer without limit."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from jumpstarter_proto.rpc import RpcError, client_ssl_context, connect_tcp, tcp_listeners, unix_listener


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


async def test_a_listener_that_cannot_be_made_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.touch()
    before = open_files()
    with pytest.raises(OSError, match="in use") as caught:
        unix_listener(path)
    assert open_files() == before
    assert caught.value.__traceback__ is not None, "which would keep a socket that was not closed"
