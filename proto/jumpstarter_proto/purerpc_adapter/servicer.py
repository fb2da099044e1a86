"""Serves a purerpc servicer on our server: deadlines, cancellation, flow control and limits are ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

import purerpc
import trio
from google.protobuf.message import Message

from jumpstarter_proto.rpc import Cardinality, Metadata, Method, Route, RpcError, ServerCall, StatusCode

__all__ = ["CallRequest", "PurerpcServicer", "Signature", "routes"]

PurerpcServicer: TypeAlias = purerpc.Servicer
Signature: TypeAlias = purerpc.RPCSignature
_Call: TypeAlias = ServerCall[Any, Any]
_Function: TypeAlias = Callable[[Any, "CallRequest"], Any]


class CallRequest:
    """What a servicer's method gets as `request` if it has a parameter of that name; attributes as purerpc names them.

    `call` is the call itself, for what purerpc has no names for.
    """

    def __init__(self, call: _Call) -> None:
        self.call = call

    @property
    def service_name(self) -> str:
        """The full name of the service."""
        return self.call.method.service

    @property
    def method_name(self) -> str:
        """The name of the procedure."""
        return self.call.method.name

    @property
    def authority(self) -> str:
        """The host name that the caller used."""
        return self.call.authority

    @property
    def timeout(self) -> timedelta | None:
        """How much of the caller's time is left; None if the caller set no limit."""
        left = self.call.deadline - trio.current_time()
        return None if left == float("inf") else timedelta(seconds=max(left, 0))

    @property
    def custom_metadata(self) -> Metadata:
        """The caller's metadata."""
        return self.call.metadata


def routes(servicer: purerpc.Servicer) -> dict[str, Route]:
    """The procedures of a servicer by path, for `DynamicServicer.find` or a servicer's METHODS."""
    service = servicer.service
    found: dict[str, Route] = {}
    for name, bound in service.methods.items():
        signature = bound.signature
        cardinality = Cardinality[signature.cardinality.name]
        path = f"/{service.name}/{name}"
        method: Method[Any, Any] = Method(path, cardinality, signature.request_type, signature.response_type)
        found[path] = method, partial(_HANDLERS[cardinality], bound.method_fn)
    return found


async def _unary_unary(function: _Function, message: Message, call: _Call) -> Any:
    with _as_status():
        return await function(message, CallRequest(call))


async def _stream_unary(function: _Function, call: _Call) -> Any:
    with _as_status():
        return await function(call, CallRequest(call))


async def _unary_stream(function: _Function, message: Message, call: _Call) -> None:
    await _send_replies(function, message, call)


async def _stream_stream(function: _Function, call: _Call) -> None:
    await _send_replies(function, call, call)


async def _send_replies(function: _Function, argument: Any, call: _Call) -> None:
    with _as_status():
        async with aclosing(function(argument, CallRequest(call))) as replies:
            async for reply in replies:
                await call.send(reply)


_HANDLERS: dict[Cardinality, Callable[..., Awaitable[Any]]] = {
    Cardinality.UNARY_UNARY: _unary_unary,
    Cardinality.UNARY_STREAM: _unary_stream,
    Cardinality.STREAM_UNARY: _stream_unary,
    Cardinality.STREAM_STREAM: _stream_stream,
}


@contextmanager
def _as_status() -> Iterator[None]:
    try:
        yield
    except purerpc.RpcFailedError as error:
        raise RpcError(StatusCode(error.status.int_value), error.status.status_message) from error
