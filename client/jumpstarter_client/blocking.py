"""Calls from plain threads into a trio run: the bridge that makes one definition serve both worlds.

A `Bridge` belongs to a running trio loop and starts work in it on behalf of threads that wait. A `Portal` is a
background thread that runs a trio loop and has a bridge to it. Both guarantee that the work of a waiting thread
does not outlive the wait: a Ctrl-C (or any exception) while waiting cancels the work and waits for it to unwind,
and the end of the loop fails every waiting thread at once.
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

__all__ = ["Bridge", "Portal"]

T = TypeVar("T")

UNWIND = 5.0
"""Seconds that an interrupted call gets to unwind before its thread stops waiting for it."""


class _Job(Generic[T]):
    """One piece of work that a thread waits for; the loop fills it in and then releases `done`."""

    __slots__ = ("done", "error", "finished", "run", "scope", "started", "value")

    def __init__(self, run: Callable[[], Awaitable[T]]) -> None:
        self.run = run
        self.scope = trio.CancelScope()
        self.value: T | None = None
        self.error: BaseException | None = None
        self.finished = False
        self.started = False
        # A bare lock: the cheapest thing that a thread can wait on and that Ctrl-C interrupts.
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


class Bridge:
    """Runs async functions in one trio loop for threads outside of it.

    Open it with `Bridge.open()` inside the loop. Every method is for other threads; calling one from a trio task
    raises `JumpstarterUsageError`, because waiting there would stop the loop that has to do the work.
    """

    def __init__(self, token: trio.lowlevel.TrioToken, nursery: trio.Nursery) -> None:
        self._token = token
        self._nursery = nursery
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Bridge]:
        """A bridge to the current loop; leaving the block cancels what threads still wait for."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                bridge = cls(trio.lowlevel.current_trio_token(), nursery)
                try:
                    yield bridge
                finally:
                    bridge._closed = True
                    nursery.cancel_scope.cancel()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await function(*args)` in the loop and wait for its result.

        Raises:
            JumpstarterUsageError: called from inside a trio task.
            ConnectError: the loop has ended, or ended while the call ran.
        """
        _refuse_in_loop(getattr(function, "__name__", "this"))
        job: _Job[T] = _Job(lambda: function(*args))
        # One block for both: Ctrl-C may come between them, and the work has begun by then.
        try:
            self._token.run_sync_soon(self._start, job)
            job.done.acquire()
        except trio.RunFinishedError:
            raise _closed() from None
        except BaseException:  # Ctrl-C above all: the work is not to go on without whoever waited for it
            self._abandon(job)
            raise
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # the traceback refers to this frame
        return cast("T", job.value)

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Run `function(*args)` in the loop, without waiting; not at all when the loop has ended."""
        _refuse_in_loop(getattr(function, "__name__", "this"))
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)

    @contextmanager
    def context(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an async context manager in the loop and leave it with the block; one task holds it throughout."""
        held = _Held(manager)
        value = cast("T", self.call(self._nursery.start, held.run))
        try:
            yield value
        except Exception as error:  # the block's own, which the manager may handle, as in any `async with`
            if self.call(held.leave, error):
                return
            raise
        except (
            BaseException
        ) as error:  # Ctrl-C, or a generator that is closed: the manager is left all the same
            # An iterator may be thrown away when its loop has long ended, and with it what this held.
            with suppress(ConnectError):
                self.call(held.leave, error)
            raise
        else:
            self.call(held.leave, None)

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what an async generator yields, each item computed when it is asked for.

        One task runs the generator from its first item to its end; closing this iterator closes it.
        """
        with self.context(_pull(items)) as next_item:
            while True:
                found = self.call(next_item)
                if not found:
                    return
                yield found[0]

    def _start(self, job: _Job[T]) -> None:
        job.started = True
        if self._closed:
            job.fail(_closed())
        else:
            self._nursery.start_soon(_run, job)

    def _abandon(self, job: _Job[T]) -> None:
        try:
            self._token.run_sync_soon(_cancel, job)
        except trio.RunFinishedError:
            return
        # Ctrl-C may also come just after the wait ended well: then there is nothing more to wait for.
        if not job.finished:
            job.done.acquire(timeout=UNWIND)


def _refuse_in_loop(name: str) -> None:
    if trio.lowlevel.in_trio_run():
        raise JumpstarterUsageError(
            f"{name!r} would block the trio loop that has to do its work; use its `.aio` or `_async` form"
        )


def _cancel(job: _Job[T]) -> None:
    job.scope.cancel()
    if not job.started:  # it was given up before it was handed over
        job.fail(_closed())


async def _run(job: _Job[T]) -> None:
    try:
        with job.scope:
            job.succeed(await job.run())
    except Exception as error:  # the edge of a task: whatever it is, it belongs to the thread that waits
        job.fail(single(error))
    finally:
        if not job.finished:  # cancelled: the loop is ending, or the thread no longer waits
            job.fail(_closed())


class _Held(Generic[T]):
    """An async context manager that one task holds open while a thread is inside its block."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager
        self._scope = trio.CancelScope()
        self._leave = trio.Event()
        self._left = trio.Event()
        self._given: Exception | None = None
        self._raised: Exception | None = None

    async def run(self, *, task_status: trio.TaskStatus[T]) -> None:
        entered = False
        try:
            with self._scope:
                async with self._manager as value:
                    entered = True
                    task_status.started(value)
                    await self._leave.wait()
                    if self._given is not None:
                        raise self._given  # noqa: TRY301 - the manager must see it
        except Exception as error:  # the edge of a task: `leave` raises it in the thread
            if not entered:
                raise
            self._raised = single(error)
        finally:
            self._left.set()

    async def leave(self, error: BaseException | None) -> bool:
        """Leave the block; true when the manager swallowed `error`."""
        if error is not None and not isinstance(error, Exception):
            # Ctrl-C, or a generator that is closed: not this loop's exception, but the block is over, and
            # whatever breaks on the way out is not what the user has to know.
            self._scope.cancel()
            await self._left.wait()
            return False
        self._given = error
        self._leave.set()
        await self._left.wait()
        if self._raised is not None and self._raised is not error:
            raise self._raised
        return self._given is not None and self._raised is None


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
            return None  # the end, or an error that leaving the block raises

    with collapsed():
        async with trio.open_nursery() as nursery, asked:
            nursery.start_soon(serve)
            yield next_item
            nursery.cancel_scope.cancel()


def _closed() -> ConnectError:
    return ConnectError("the connection to the exporter is closed; connect again")


class Portal:
    """A background thread with a trio loop, for programs without one.

    ```python
    with Portal() as portal:
        result = portal.call(some_async_function, 1, 2)
        with portal.context(some_async_context_manager()) as value: ...
    ```

    The thread starts with the first use and ends with `close()` or the `with` block; work that is still running is
    cancelled and waited for. Closing twice is fine, using it afterwards raises `ConnectError`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bridge: Bridge | None = None
        self._stop: trio.Event | None = None
        self._ended = False

    @property
    def bridge(self) -> Bridge:
        """The bridge to the loop, started if it was not yet."""
        with self._lock:
            if self._bridge is not None:
                return self._bridge
            if self._ended:
                raise _closed()
            ready = threading.Event()
            # A daemon: a script that forgets to close must still be able to end.
            self._thread = threading.Thread(
                target=trio.run, args=(self._main, ready), name="jumpstarter-portal", daemon=True
            )
            self._thread.start()
            ready.wait()
            return cast("Bridge", self._bridge)  # set by `_main` before `ready`

    async def _main(self, ready: threading.Event) -> None:
        self._stop = trio.Event()
        async with Bridge.open() as self._bridge:
            ready.set()
            await self._stop.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await function(*args)` in the loop and wait for its result; see `Bridge.call`."""
        return self.bridge.call(function, *args)

    def context(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """Hold an async context manager open around a block; see `Bridge.context`."""
        return self.bridge.context(manager)

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Iterate an async generator; see `Bridge.iterate`."""
        return self.bridge.iterate(items)

    def close(self) -> None:
        """Cancel what runs, end the loop and wait for its thread."""
        with self._lock:
            self._ended = True
            if self._thread is None or self._bridge is None or self._stop is None:
                return
            with suppress(trio.RunFinishedError):
                self._bridge._token.run_sync_soon(self._stop.set)  # noqa: SLF001 - same module
            self._thread.join()
            self._thread = None
            self._bridge = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
