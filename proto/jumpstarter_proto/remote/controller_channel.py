"""Connections to a controller, and streams through a router."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.remote.grpc_options import KEEPALIVE
from jumpstarter_proto.remote.identity import Identity
from jumpstarter_proto.remote.trust import PLAIN_CONTROLLER, Trust, split_endpoint
from jumpstarter_proto.rpc import Channel, Metadata, Options, TlsAdvice, connect_tcp, open_channel
from jumpstarter_proto.v1 import router_grpc

__all__ = ["CONNECT_SECONDS", "open_controller", "open_router", "open_router_stream"]

CONNECT_SECONDS = 10.0
_CONTROLLER = (
    "if it has a new one, compare its fingerprint with what the controller prints at its start, and log in or enrol "
    "again with --tls-fingerprint"
)
_ROUTER = "the lab's administrator has to give the router a certificate that clients and exporters trust"
TUNNEL_WINDOW_BYTES = 4 * 1024 * 1024
"""What a router may send to us before we have read it. The connection inside reads at once, and has bounds of its own;
less would cost more frames to give it back, and throughput where the way is long."""


@asynccontextmanager
async def _channel(
    endpoint: str, trust: Trust, metadata: Metadata, timeout: float, options: Options, *, to_router: bool
) -> AsyncIterator[Channel]:
    host, port = split_endpoint(endpoint)
    deadline = trio.current_time() + timeout
    context = await trust.context(host, port, timeout=timeout)

    def check(certificate: bytes) -> None:
        (trust.check_router if to_router else trust.check_controller)(context, certificate, f"{host}:{port}")

    stream = await connect_tcp(
        host,
        port,
        ssl_context=context,
        advice=TlsAdvice(_ROUTER if to_router else _CONTROLLER, PLAIN_CONTROLLER),
        check_certificate=check,
        timeout=max(0.0, round(deadline - trio.current_time(), 1)),
    )
    async with open_channel(
        stream, authority=endpoint.strip(), scheme="https", metadata=metadata, options=options
    ) as channel:
        yield channel


@asynccontextmanager
async def open_controller(
    endpoint: str,
    trust: Trust,
    identity: Identity | None,
    *,
    timeout: float = CONNECT_SECONDS,
    metadata: Metadata = (),
    options: Options = KEEPALIVE,
) -> AsyncIterator[Channel]:
    """A channel to the controller, whose calls carry `identity` and `metadata`. `timeout` is for connecting.

    Raises:
        RpcError: UNAVAILABLE, it cannot be reached or is not trusted.
        EndpointError: the endpoint or the TLS settings are invalid.
    """
    headers = [*(identity.metadata() if identity else ()), *metadata]
    async with _channel(endpoint, trust, headers, timeout, options, to_router=False) as channel:
        yield channel


@asynccontextmanager
async def open_router(
    endpoint: str, trust: Trust, *, timeout: float = CONNECT_SECONDS, options: Options = KEEPALIVE
) -> AsyncIterator[Channel]:
    """A channel to a router, which may have a certificate that the controller's own one has signed.

    Raises what `open_controller` raises.
    """
    async with _channel(endpoint, trust, (), timeout, options, to_router=True) as channel:
        yield channel


@asynccontextmanager
async def open_router_stream(
    endpoint: str,
    trust: Trust,
    token: str,
    *,
    timeout: float = CONNECT_SECONDS,
    options: Options = KEEPALIVE,
) -> AsyncIterator[RouterStream]:
    """Open a byte stream to the peer with the same token at a router. Leaving the block cuts it.

    Raises what `open_controller` raises.
    """
    options = replace(options, stream_window=max(options.stream_window, TUNNEL_WINDOW_BYTES))
    async with (
        _channel(
            endpoint, trust, [("authorization", f"Bearer {token}")], timeout, options, to_router=True
        ) as channel,
        router_grpc.RouterServiceStub(channel).Stream() as call,
    ):
        yield RouterStream.client(call)
