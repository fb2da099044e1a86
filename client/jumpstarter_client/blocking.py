"""Calls from plain threads into a trio loop, so that one async definition also serves blocking code.

A `BlockingPortal` runs async functions in a running trio loop for threads that wait. A `PortalThread` is a background
thread with a trio loop and a portal to it. Both guarantee that work does not outlive the wait for it: Ctrl-C (or any
exception) while waiting cancels the work and waits for it to unwind. The end of the loop fails every waiting thread.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Generic, Self, TypeVar, cast

import trio
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.tasks import collapsed, single

from jumpstarter_client.errors import ConnectError

__all__ = ["BlockingPortal", "PortalThread"]

T = TypeVar("T")

UNWIND_SECONDS = 5.0
"""How long an interrupted thread waits until its cancelled call has unwound."""


class _Task(Generic[T]):
    """Work that a thread waits for. The loop sets the result and then releases `done`."""

    __slots__ = ("done", "error", "finished", "run", "scope", "started", "value")

    def __init__(self, run: Callable[[], Awaitable[T]]) -> None:
        self.run = run
        self.scope = trio.CancelScope()
        self.value: T | None = None
        self.error: BaseException | None = None
        self.finished = False
        self.started = False
        # A bare lock is the cheapest object to wait on that Ctrl-C interrupts.
        self.done = threading.Lock()
        self.done.acquire()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.finished = True
        self.done.release()

    def succeed(self, value: T) -> None:
        self.value = value
        self.finished = True
        self.done.release()


class BlockingPortal:
    """Runs async functions in a trio loop for threads outside of it.

    Open it with `BlockingPortal.open()` inside the loop. All methods are for other threads. In a trio task they raise
    `JumpstarterUsageError`, because waiting would block the loop that has to do the work.
    """

    def __init__(self, token: trio.lowlevel.TrioToken, nursery: trio.Nursery) -> None:
        self._token = token
        self._nursery = nursery
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[BlockingPortal]:
        """Open a portal to the current loop. Leaving the block cancels all work that threads still wait for."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                portal = cls(trio.lowlevel.current_trio_token(), nursery)
                try:
                    yield portal
                finally:
                    portal._closed = True
                    nursery.cancel_scope.cancel()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await function(*args)` in the loop and return its result.

        Raises:
            JumpstarterUsageError: called in a trio task.
            ConnectError: the loop has ended, or ended while the call ran.
        """
        _refuse_in_loop(getattr(function, "__name__", "this"))
        task: _Task[T] = _Task(lambda: function(*args))
        # Both in one block: Ctrl-C may come between them, when the work has started already.
        try:
            self._token.run_sync_soon(self._start, task)
            task.done.acquire()
        except trio.RunFinishedError:
            raise _closed() from None
        except BaseException:  # such as Ctrl-C: cancel the work
            self._abandon(task)
            raise
        if task.error is not None:
            try:
                raise task.error
            finally:
                del task  # the traceback keeps this frame alive
        return cast("T", task.value)

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Run `function(*args)` in the loop without waiting. Does nothing after the loop has ended."""
        _refuse_in_loop(getattr(function, "__name__", "this"))
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)

    @contextmanager
    def context(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an async context manager in the loop for the block. One task enters and leaves it."""
        entered = _EnteredContext(manager)
        value = cast("T", self.call(self._nursery.start, entered.run))
        try:
            yield value
        except Exception as error:  # the manager may handle it, as in any `async with`
            if self.call(entered.leave, error):
                return
            raise
        except BaseException as error:  # Ctrl-C, or a closed generator: leave the manager in any case
            # An iterator may be thrown away when its loop has long ended, and with it what this entered.
            with suppress(ConnectError):
                self.call(entered.leave, error)
            raise
        else:
            self.call(entered.leave, None)

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Iterate over an async generator. Each item is computed when it is requested.

        One task runs the generator from start to end. Closing this iterator closes the generator.
        """
        with self.context(_pull(items)) as next_item:
            while True:
                found = self.call(next_item)
                if not found:
                    return
                yield found[0]

    def _start(self, task: _Task[T]) -> None:
        task.started = True
        if self._closed:
            task.fail(_closed())
        else:
            self._nursery.start_soon(_run, task)

    def _abandon(self, task: _Task[T]) -> None:
        try:
            self._token.run_sync_soon(_cancel, task)
        except trio.RunFinishedError:
            return
        # Ctrl-C may also come just after the work has finished.
        if not task.finished:
            task.done.acquire(timeout=UNWIND_SECONDS)


def _refuse_in_loop(name: str) -> None:
    if trio.lowlevel.in_trio_run():
        raise JumpstarterUsageError(
            f"{name!r} would block the trio loop; use its `.aio` or `_async` form in trio tasks"
        )


def _cancel(task: _Task[T]) -> None:
    task.scope.cancel()
    if not task.started:  # it was cancelled before the loop received it
        task.fail(_closed())


async def _run(task: _Task[T]) -> None:
    try:
        with task.scope:
            task.succeed(await task.run())
    except Exception as error:  # the edge of a task: the waiting thread raises it
        task.fail(single(error))
    finally:
        if not task.finished:  # cancelled: the loop ends, or the thread no longer waits
            task.fail(_closed())


class _EnteredContext(Generic[T]):
    """An async context manager that one task holds open while a thread runs the block."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager
        self._scope = trio.CancelScope()
        self._leave = trio.Event()
        self._left = trio.Event()
        self._block_error: Exception | None = None
        self._raised: Exception | None = None

    async def run(self, *, task_status: trio.TaskStatus[T]) -> None:
        entered = False
        try:
            with self._scope:
                async with self._manager as value:
                    entered = True
                    task_status.started(value)
                    await self._leave.wait()
                    if self._block_error is not None:
                        raise self._block_error  # noqa: TRY301 - the manager must see it
        except Exception as error:  # the edge of a task: `leave` raises it in the thread
            if not entered:
                raise
            self._raised = single(error)
        finally:
            self._left.set()

    async def leave(self, error: BaseException | None) -> bool:
        """Leave the context manager. Returns whether it suppressed `error`."""
        if error is not None and not isinstance(error, Exception):
            # Ctrl-C, or a closed generator: it is not raised in the loop, and errors while leaving are dropped.
            self._scope.cancel()
            await self._left.wait()
            return False
        self._block_error = error
        self._leave.set()
        await self._left.wait()
        if self._raised is not None and self._raised is not error:
            raise self._raised
        return self._block_error is not None and self._raised is None


@asynccontextmanager
async def _pull(items: AsyncGenerator[T, None]) -> AsyncIterator[Callable[[], Awaitable[tuple[T] | None]]]:
    ask, asked = trio.open_memory_channel[None](0)
    answer, answers = trio.open_memory_channel[T](0)

    async def serve() -> None:
        async with answer, aclosing(items):
            async for _ in asked:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                await answer.send(item)

    async def next_item() -> tuple[T] | None:
        try:
            await ask.send(None)
            return (await answers.receive(),)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            return None  # the end, or an error that is raised when the block is left

    with collapsed():
        async with trio.open_nursery() as nursery, asked:
            nursery.start_soon(serve)
            yield next_item
            nursery.cancel_scope.cancel()


def _closed() -> ConnectError:
    return ConnectError("the connection to the exporter is closed; connect again")


class PortalThread:
    """A background thread with a trio loop, for programs without a loop.

    ```python
    with PortalThread() as portal:
        result = portal.call(some_async_function, 1, 2)
        with portal.context(some_async_context_manager()) as value: ...
    ```

    The thread starts with the first use and ends with `close()` or the `with` block, which cancels running work and
    waits for it. Closing twice is allowed; a later use raises `ConnectError`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._stop: trio.Event | None = None
        self._ended = False

    @property
    def portal(self) -> BlockingPortal:
        """The portal to the loop; the first use starts the thread."""
        with self._lock:
            if self._portal is not None:
                return self._portal
            if self._ended:
                raise _closed()
            ready = threading.Event()
            # A daemon thread, so that a script that does not close it can still exit.
            self._thread = threading.Thread(
                target=trio.run, args=(self._main, ready), name="jumpstarter-portal", daemon=True
            )
            self._thread.start()
            ready.wait()
            return cast("BlockingPortal", self._portal)  # set by `_main` before `ready`

    async def _main(self, ready: threading.Event) -> None:
        self._stop = trio.Event()
        async with BlockingPortal.open() as self._portal:
            ready.set()
            await self._stop.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await function(*args)` in the loop and wait for its result; see `BlockingPortal.call`."""
        return self.portal.call(function, *args)

    def context(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """Hold an async context manager open around a block; see `BlockingPortal.context`."""
        return self.portal.context(manager)

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Iterate an async generator; see `BlockingPortal.iterate`."""
        return self.portal.iterate(items)

    def close(self) -> None:
        """Cancel running work, end the loop, and wait for the thread."""
        with self._lock:
            self._ended = True
            if self._thread is None or self._portal is None or self._stop is None:
                return
            with suppress(trio.RunFinishedError):
                self._portal._token.run_sync_soon(self._stop.set)  # noqa: SLF001 - same module
            self._thread.join()
            self._thread = None
            self._portal = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
