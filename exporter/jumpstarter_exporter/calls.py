"""Finds an exported method and runs it: the short way from a request to a driver.

Plain functions and generators run in worker threads. A caller who goes away cancels an async method at once;
a plain one cannot be stopped, so its caller's task waits for it, but not longer than `GRACE` seconds.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.value import JSON

from jumpstarter_exporter.arguments import plan
from jumpstarter_exporter.errors import collapsed
from jumpstarter_exporter.markers import Exported, Kind
from jumpstarter_exporter.node import Node

__all__ = ["GRACE", "call", "find", "results"]

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a plain method gets to end after its caller went away, before it is left to itself."""

driver_calls = trio.CapacityLimiter(64)
"""Worker threads in drivers' plain methods, for the whole process."""

_END = object()


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


async def call(node: Node, name: str, arguments: Sequence[JSON]) -> object:
    """Run a unary method, opening the device before; raises what the driver raises."""
    method = find(node, name, Kind.CALL)
    bound = plan(method.function, name).bind(arguments)
    with collapsed():
        if method.opens and not node.is_open:
            await node.open()
        with node.in_use() as driver:
            function = getattr(driver, method.attribute)
            if method.is_async:
                return await function(*bound)
            return await in_thread(function, *bound)


@asynccontextmanager
async def results(node: Node, name: str, arguments: Sequence[JSON]) -> AsyncIterator[AsyncIterator[object]]:
    """Run a streaming method for the block, which iterates what it yields, and end it with the block."""
    method = find(node, name, Kind.STREAMING)
    bound = plan(method.function, name).bind(arguments)
    with collapsed():
        if method.opens and not node.is_open:
            await node.open()
        with node.in_use() as driver:
            generator = getattr(driver, method.attribute)(*bound)
            async with aclosing(generator if method.is_async else _in_threads(generator)) as items:
                yield items


async def _in_threads(generator: Generator[object, None, None]) -> AsyncGenerator[object, None]:
    try:
        while (item := await in_thread(next, generator, _END)) is not _END:
            yield item
    finally:
        with trio.move_on_after(GRACE, shield=True):
            await in_thread(generator.close)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a plain function in a worker thread; if cancelled, wait up to `GRACE` seconds for its end."""
    running = threading.Lock()
    abandoned = False

    def run() -> T:
        with running:
            if abandoned:
                raise trio.RunFinishedError("its caller went away before it began")
            return function(*arguments)

    try:
        return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=driver_calls)
    except trio.Cancelled:
        abandoned = True
        if not running.acquire(blocking=False):
            with trio.CancelScope(shield=True):
                if not await trio.to_thread.run_sync(running.acquire, True, GRACE):
                    raise
        # A thread that only now gets to its work finds that it was abandoned.
        running.release()
        raise
