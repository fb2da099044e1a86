"""Both ends of a connection in one process, over streams in memory."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing
import trustme
from google.protobuf import wrappers_pb2

from jumpstarter_proto.rpc import (
    Cardinality,
    Channel,
    Interceptor,
    Method,
    Options,
    ServerCall,
    Servicer,
    client_ssl_context,
    open_channel,
    serve_connection,
    server_ssl_context,
)
from jumpstarter_proto.rpc._tls import TlsStream

Bytes = wrappers_pb2.BytesValue
Call = ServerCall[Bytes, Bytes]

UNARY = Method("/test.Echo/Unary", Cardinality.UNARY_UNARY, Bytes, Bytes)
STREAM = Method("/test.Echo/Stream", Cardinality.STREAM_STREAM, Bytes, Bytes)
SLEEP = Method("/test.Echo/Sleep", Cardinality.UNARY_UNARY, Bytes, Bytes)
FLOOD = Method("/test.Echo/Flood", Cardinality.UNARY_STREAM, Bytes, Bytes)
RAISE = Method("/test.Echo/Raise", Cardinality.UNARY_UNARY, Bytes, Bytes)


class Echo(Servicer):
    """Handlers that echo, wait, flood and fail."""

    METHODS = (UNARY, STREAM, SLEEP, FLOOD, RAISE)

    def __init__(self) -> None:
        self.started = trio.Event()
        self.cancelled = trio.Event()
        self.sent = 0
        """Bytes that `Flood` got rid of."""
        self.error: Exception = RuntimeError("unset")
        """What `Raise` raises."""

    async def Unary(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        return request

    async def Stream(self, call: Call) -> None:  # noqa: N802
        async for request in call:
            await call.send(request)

    async def Sleep(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def Flood(self, request: Bytes, call: Call) -> None:  # noqa: N802
        for _ in range(1024 * 16):
            await call.send(Bytes(value=bytes(65536)))
            self.sent += 65536

    async def Raise(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        raise self.error


class Pair:
    """A channel, its server, and the streams between them."""

    def __init__(self, channel: Channel, echo: Echo, ours: trio.abc.Stream, theirs: trio.abc.Stream) -> None:
        self.channel = channel
        self.echo = echo
        self.ours = ours
        self.theirs = theirs


Connect = Callable[..., AbstractAsyncContextManager[Pair]]


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Streams over the kernel, which are written to without trio's help and take only so much."""
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a client that believes a server for localhost, and of that server."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    return client_ssl_context(ca=authority.cert_pem.bytes().decode()), server_ssl_context(file, file)


async def tls_pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TlsStream, TlsStream]:
    """TLS over `socket_pair`."""
    plain, far = socket_pair()
    ours = TlsStream(plain, contexts[0], server_hostname="localhost")
    theirs = TlsStream(far, contexts[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.do_handshake)
        nursery.start_soon(theirs.do_handshake)
    return ours, theirs


@pytest.fixture(params=["memory", "socket", "tls"])
def connect(request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Connect:
    @asynccontextmanager
    async def open_pair(
        *,
        client: Options | None = None,
        server: Options | None = None,
        interceptors: tuple[Interceptor, ...] = (),
    ) -> AsyncIterator[Pair]:
        ours: trio.abc.Stream
        theirs: trio.abc.Stream
        if request.param == "memory":
            ours, theirs = trio.testing.memory_stream_pair()
        elif request.param == "socket":
            ours, theirs = socket_pair()
        else:
            ours, theirs = await tls_pair(contexts)
        echo = Echo()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_connection(theirs, [echo], interceptors=interceptors, options=server)

            nursery.start_soon(serve)
            async with open_channel(ours, options=client) as channel:
                yield Pair(channel, echo, ours, theirs)
            nursery.cancel_scope.cancel()

    return open_pair
