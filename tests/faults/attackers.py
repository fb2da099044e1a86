"""Hostile peers: raw TLS connections from their own address, and invalid messages."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from jumpstarter_proto.rpc import Cardinality, Method

ADDRESS = "127.0.0.66"
"""Of who attacks: another one than good clients have."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


class Raw:
    """A message of any bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> Raw:  # noqa: N802 - protobuf's name
        return cls(data)


def method(path: str) -> Method[Any, Any]:
    """A unary one."""
    return Method(path, Cardinality.UNARY_UNARY, Raw, Raw)


async def tcp(port: int, address: str = ADDRESS) -> trio.SocketStream:
    """A plain connection."""
    return await trio.open_tcp_stream("127.0.0.1", port, local_address=address)


async def tls(
    port: int, alpn: str | None = "h2", address: str = ADDRESS
) -> trio.SSLStream[trio.SocketStream]:
    """A connection whose handshake is done."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    stream = trio.SSLStream(await tcp(port, address), context, https_compatible=True)
    async with closed_on_error(stream):
        await stream.do_handshake()
    return stream


@asynccontextmanager
async def closed_on_error(stream: trio.abc.Stream) -> AsyncIterator[None]:
    """What was refused leaves no socket behind."""
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def until_closed(stream: trio.abc.Stream) -> bytes:
    """What it still says."""
    seen = b""
    try:
        while data := await stream.receive_some(65536):
            seen += data
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    return seen
