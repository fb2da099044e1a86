"""Finds an exported method and runs it: the short way from a request to a driver.

Plain functions and generators run in worker threads, and so does the encoding of all results but the shortest.
How a driver's code is kept from harming others is told in `guests`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Any

from google.protobuf import struct_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.value import JSON, to_value

from jumpstarter_exporter import guests
from jumpstarter_exporter.arguments import plan
from jumpstarter_exporter.markers import Exported, Kind
from jumpstarter_exporter.node import Node
from jumpstarter_exporter.threads import DeviceThreads

__all__ = ["call", "find", "stream_results"]

SHORT_TEXT = 1024
"""Characters that are encoded at once; longer results are encoded in a thread."""

Send = Callable[[struct_pb2.Value], Awaitable[None]]


def find(node: Node, name: str, kind: Kind) -> Exported:
    """The exported method of that name and kind.

    Raises:
        RpcError: NOT_FOUND.
    """
    method = node.methods.get(name)
    if method is not None and method.kind is kind:
        return method
    if method is not None or hasattr(type(node.driver), name) or name in vars(node.driver):
        raise RpcError(StatusCode.NOT_FOUND, f"method {name} missing marker {kind.value}")
    raise RpcError(StatusCode.NOT_FOUND, f"method {name} not found on driver")


async def call(node: Node, name: str, arguments: Sequence[JSON]) -> struct_pb2.Value:
    """Run a unary method, opening the device before; raises what the driver raises, made harmless."""
    node.check_usable()
    method = find(node, name, Kind.CALL)
    bound = await _prepare(node, method, name, arguments)
    with node.in_use(), _needed(node, method):
        return await node.run(f"{name}()", partial(_call, node, method, bound), grace=_grace(method))
    raise AssertionError


async def stream_results(node: Node, name: str, arguments: Sequence[JSON], send: Send) -> None:
    """Run a streaming method, and send what it yields."""
    node.check_usable()
    method = find(node, name, Kind.STREAMING)
    bound = await _prepare(node, method, name, arguments)
    with node.in_use(), _needed(node, method):
        await node.run(f"{name}()", partial(_stream, node, method, bound, send), grace=_grace(method))


def _needed(node: Node, method: Exported) -> AbstractContextManager[None]:
    """What only reads waits as the device does, if it does."""
    if not method.opens or (method.reads and node.driver.waits_for_hardware):
        return nullcontext()
    return node.slot.needed()


def _grace(method: Exported) -> float:
    return guests.CLEAN_UP_SECONDS if method.is_async else guests.GRACE


async def _prepare(node: Node, method: Exported, name: str, arguments: Sequence[JSON]) -> list[Any]:
    with collapsed(), guests.contained(f"{name}()"):
        bound = plan(method.function, name).bind(arguments)
    if method.opens and not node.is_open:
        with collapsed():
            await node.open()
    return bound


async def _call(node: Node, method: Exported, bound: Sequence[Any]) -> struct_pb2.Value:
    function, threads = getattr(node.driver, method.attribute), node.driver.threads
    if method.is_async:
        return await _encoded(await function(*bound), threads)
    return await guests.in_thread(threads, _call_and_encode, function, bound, what=f"{method.attribute}()")


def _call_and_encode(function: Callable[..., object], bound: Sequence[Any]) -> struct_pb2.Value:
    return to_value(function(*bound))


async def _stream(node: Node, method: Exported, bound: Sequence[Any], send: Send) -> None:
    threads = node.driver.threads
    generator = getattr(node.driver, method.attribute)(*bound)
    if not method.is_async:
        async with aclosing(_in_threads(generator, threads, f"{method.attribute}()")) as values:
            async for value in values:
                await send(value)
        return
    async with aclosing(generator) as items:
        async for item in items:
            await send(await _encoded(item, threads))


async def _in_threads(
    generator: Iterator[object], threads: DeviceThreads, what: str
) -> AsyncGenerator[struct_pb2.Value, None]:
    try:
        while (value := await guests.in_thread(threads, _next_value, generator, what=what)) is not None:
            yield value
    finally:
        close = getattr(generator, "close", None)  # an iterator that is no generator has none
        if close is not None:
            await guests.in_thread(threads, close, what=what, shielded=True)


def _next_value(generator: Iterator[object]) -> struct_pb2.Value | None:
    try:
        item = next(generator)
    except StopIteration:
        return None
    return to_value(item)


async def _encoded(item: object, threads: DeviceThreads) -> struct_pb2.Value:
    if type(item) in (type(None), bool, float) or (type(item) is str and len(item) <= SHORT_TEXT):
        return to_value(item)
    return await guests.in_thread(threads, to_value, item, what="a result")
