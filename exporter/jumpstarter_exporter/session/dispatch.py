"""Finds an exported method and runs it.

Plain functions and generators run in worker threads; all but short results are encoded there, too. `isolation`
protects other devices from a driver's code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Any, TypeAlias, TypeVar

from google.protobuf.struct_pb2 import Value
from jumpstarter_proto.rpc import Message, RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.value import JSON, to_value

from jumpstarter_exporter import isolation
from jumpstarter_exporter.arguments import plan
from jumpstarter_exporter.decorators import Exported, ExportKind
from jumpstarter_exporter.forwarding import ForwardingDriver
from jumpstarter_exporter.session.node import SessionNode
from jumpstarter_exporter.threads import DeviceThreads

__all__ = ["call", "find", "forward_call", "forward_results", "stream_results"]

MAX_INLINE_TEXT_LENGTH = 256 * 1024
"""Characters of a text that is encoded at once, such as a picture's: 0.1 ms. A thread costs more than that.

Longer results, and those with parts, are encoded in a thread."""

M = TypeVar("M", bound=Message)
Send: TypeAlias = Callable[[M], Awaitable[None]]
Encode: TypeAlias = Callable[[object], M]
"""Makes a message of a driver's result; it may take long. ValueError if the result cannot be represented."""


def find(node: SessionNode, name: str, kind: ExportKind) -> Exported:
    """The exported method with that name and kind.

    Raises:
        RpcError: NOT_FOUND.
    """
    method = node.methods.get(name)
    if method is not None and method.kind is kind:
        return method
    if method is not None or hasattr(type(node.driver), name) or name in vars(node.driver):
        from jumpstarter_proto.remote import ReasonCode, refused  # noqa: PLC0415 - for who calls it so

        sentence = f"method {name} missing marker {kind.value}"
        raise refused(StatusCode.NOT_FOUND, sentence, ReasonCode.OTHER_KIND)
    raise RpcError(StatusCode.NOT_FOUND, f"method {name} not found on driver")


async def call(
    node: SessionNode,
    name: str,
    arguments: Sequence[JSON],
    encode: Encode[M] = to_value,  # type: ignore[assignment] # the M of its callers
) -> M:
    """Run a unary method, after opening the device; raises what the driver raises, made harmless by `isolation`.

    The result is encoded by `encode`, in a thread unless it is short.
    """
    node.check_usable()
    method = find(node, name, ExportKind.CALL)
    bound = await _prepare(node, method, name, arguments)
    with node.in_use(), _needed(node, method):
        return await node.run(f"{name}()", partial(_call, node, method, bound, encode), grace=_grace(method))
    raise AssertionError


async def stream_results(
    node: SessionNode,
    name: str,
    arguments: Sequence[JSON],
    send: Send[M],
    encode: Encode[M] = to_value,  # type: ignore[assignment] # the M of its callers
) -> None:
    """Run a streaming method, and send what it yields, encoded."""
    node.check_usable()
    method = find(node, name, ExportKind.STREAMING)
    bound = await _prepare(node, method, name, arguments)
    with node.in_use(), _needed(node, method):
        await node.run(f"{name}()", partial(_stream, node, method, bound, send, encode), grace=_grace(method))


async def forward_call(
    node: SessionNode, driver: ForwardingDriver, name: str, arguments: Sequence[Value]
) -> Value:
    """Pass a call on to where the device's driver is, after opening the device; raises what is raised there."""
    await _open(node)
    with node.in_use():
        return await node.run(f"{name}()", partial(driver.forward_call, name, arguments))
    raise AssertionError


async def forward_results(
    node: SessionNode, driver: ForwardingDriver, name: str, arguments: Sequence[Value], send: Send[Value]
) -> None:
    """The same for a streaming method."""

    async def forward() -> None:
        async with aclosing(driver.forward_results(name, arguments)) as results:
            async for result in results:
                await send(result)

    await _open(node)
    with node.in_use():
        await node.run(f"{name}()", forward)


async def _open(node: SessionNode) -> None:
    node.check_usable()
    if not node.is_open:
        with collapsed():
            await node.open()


def _needed(node: SessionNode, method: Exported) -> AbstractContextManager[None]:
    """A block in which the call needs the device's hardware, unless it needs none or the driver waits for it itself."""
    if not method.opens or (method.reads and node.driver.waits_for_hardware):
        return nullcontext()
    return node.slot.needed()


def _grace(method: Exported) -> float:
    return isolation.CLEAN_UP_SECONDS if method.is_async else isolation.GRACE_SECONDS


async def _prepare(node: SessionNode, method: Exported, name: str, arguments: Sequence[JSON]) -> list[Any]:
    with isolation.isolated(f"{name}()"):
        bound = plan(method.function, name).bind(arguments)
    if method.opens and not node.is_open:
        with collapsed():
            await node.open()
    return bound


async def _call(node: SessionNode, method: Exported, bound: Sequence[Any], encode: Encode[M]) -> M:
    function, threads = getattr(node.driver, method.attribute), node.driver.threads
    if method.is_async:
        return await _encoded(await function(*bound), threads, encode)
    what = f"{method.attribute}()"
    return await isolation.in_thread(threads, _call_and_encode, function, bound, encode, what=what)


def _call_and_encode(function: Callable[..., object], bound: Sequence[Any], encode: Encode[M]) -> M:
    return encode(function(*bound))


async def _stream(
    node: SessionNode, method: Exported, bound: Sequence[Any], send: Send[M], encode: Encode[M]
) -> None:
    threads = node.driver.threads
    generator = getattr(node.driver, method.attribute)(*bound)
    if not method.is_async:
        async with aclosing(_in_threads(generator, threads, f"{method.attribute}()", encode)) as values:
            async for value in values:
                await send(value)
        return
    async with aclosing(generator) as items:
        async for item in items:
            await send(await _encoded(item, threads, encode))


async def _in_threads(
    generator: Iterator[object], threads: DeviceThreads, what: str, encode: Encode[M]
) -> AsyncGenerator[M, None]:
    try:
        while (
            value := await isolation.in_thread(threads, _next_value, generator, encode, what=what)
        ) is not None:
            yield value
    finally:
        close = getattr(generator, "close", None)  # an iterator that is not a generator has no `close`
        if close is not None:
            await isolation.in_thread(threads, close, what=what, shielded=True)


def _next_value(generator: Iterator[object], encode: Encode[M]) -> M | None:
    try:
        item = next(generator)
    except StopIteration:
        return None
    return encode(item)


async def _encoded(item: object, threads: DeviceThreads, encode: Encode[M]) -> M:
    if type(item) in (type(None), bool, float) or (type(item) is str and len(item) <= MAX_INLINE_TEXT_LENGTH):
        return encode(item)
    return await isolation.in_thread(threads, encode, item, what="a result")
