"""Runs a driver's code so that it harms nobody but its own device: drivers are guests in the exporter.

A coroutine of a driver runs in a task of its own, outside of every nursery. Whatever it raises comes back as an
`Exception`, also SystemExit, KeyboardInterrupt, GeneratorExit, or a `trio.Cancelled` that nobody asked for. Who
waits for it and is cancelled cancels it, waits a grace for its end, and then leaves it; the device is
`failed` until it returns (see `Lifecycle.stuck`). Plain functions run in worker threads, which are limited for each
board and device (`threads`). What ends a driver's own nursery is made harmless by `guest_nurseries`. What no exporter
can help in one process: an `async def` that blocks without awaiting stops all devices.
"""

from __future__ import annotations

import contextvars
import datetime
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import PosixPath
from typing import Any, Generic, TypeVar

import outcome
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode, status_of
from jumpstarter_proto.tasks import single

from jumpstarter_exporter import guest_nurseries
from jumpstarter_exporter.devices.state import Lifecycle
from jumpstarter_exporter.errors import DeviceBusy, DeviceFailed, DeviceMissing, ResourceError
from jumpstarter_exporter.threads import DeviceThreads, running_method

guest_nurseries.guard(lambda error: tame(error, "a driver's task"))

__all__ = ["CLEAN_UP_SECONDS", "GRACE", "contained", "in_thread", "run", "tame"]

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a driver's code gets to end after its caller went away, before it is left to itself."""
CLEAN_UP_SECONDS = 75.0
"""The same for `async` methods, which clean up behind themselves: a mux switches the medium back, for example."""
MAX_MESSAGE_LENGTH = 4096
"""Characters of an error's message; it travels in a header."""

_log = logging.getLogger(__name__)
_is_ending: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("the event loop ends", default=False)
_shields: trio.lowlevel.RunVar[set[trio.CancelScope]] = trio.lowlevel.RunVar("driver threads")


async def run(
    life: Lifecycle,
    what: str,
    body: Callable[[], Awaitable[T]],
    *,
    grace: float | None = None,
    on_left: Callable[[], None] | None = None,
    afterwards: Callable[[], Awaitable[None]] | None = None,
    context: contextvars.Context | None = None,
) -> T:
    """Run a driver's code in a task of its own; `what` is it for users, such as `on()`.

    It has a copy of `context`, or of this task's.

    If cancelled, it ends within `grace` (`GRACE`) seconds. Code that has not ended by then is left: `on_left` is
    called, the device is stuck until it ends, and `afterwards` runs behind it.

    Raises:
        Exception: what the code raises, made harmless by `tame`.
    """
    task = _Task(body, what)
    copied = contextvars.copy_context() if context is None else context.copy()
    trio.lowlevel.spawn_system_task(task.run, name=f"driver: {what}", context=copied)
    try:
        await task.ended.wait()
    except trio.Cancelled:
        task.scope.cancel()
        with trio.move_on_after(GRACE if grace is None else grace, shield=True):
            await task.ended.wait()
        if not task.ended.is_set():
            task.afterwards = afterwards
            task.returned = life.stuck(
                f"{what} has not come back since {task.since:%Y-%m-%d %H:%M:%S}; the device can be used "
                "when it does, or after the exporter's restart"
            )
            if on_left is not None:
                on_left()
        raise
    assert task.result is not None
    return task.result.unwrap()


class _Task(Generic[T]):
    """A driver's coroutine and what came of it."""

    def __init__(self, body: Callable[[], Awaitable[T]], what: str) -> None:
        self._body = body
        self._what = what
        self.since = datetime.datetime.now()  # noqa: DTZ005 - for people at the host, in its time
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.result: outcome.Outcome[T] | None = None
        self.afterwards: Callable[[], Awaitable[None]] | None = None
        self.returned: Callable[[], None] | None = None

    async def run(self) -> None:
        """Never raises: the event loop ends with a system task that does."""
        running_method.set(self._what)
        with self.scope:
            # Caught inside of the scope: a Cancelled of another one must not go on from here.
            try:
                self.result = outcome.Value(await self._body())
            except BaseException as error:
                self.result = outcome.Error(tame(error, self._what))
        if self.afterwards is not None:
            try:
                await self.afterwards()
            except BaseException as error:
                _log.warning("%s came back late: %s", self._what, tame(error, self._what))
        self.ended.set()
        if (
            self.returned is not None and not _is_ending.get()
        ):  # else nobody knows whether its thread comes back
            self.returned()


async def in_thread(
    threads: DeviceThreads,
    function: Callable[..., T],
    *arguments: Any,
    what: str = "a thread",
    shielded: bool = False,
) -> T:
    """Run a plain function in a worker thread. Cancellation reaches it only while it waits for its thread.

    That wait is `shielded` on request, and has a bound if it is not. What the function raises is made harmless by
    `tame`, in the thread.

    Raises:
        DeviceBusy: there was no thread for it; see `DeviceThreads.acquire`.
    """
    with trio.CancelScope(shield=shielded) as scope, _lifted_at_the_end(scope):
        held = await threads.acquire(what, is_patient=shielded)
        try:
            scope.shield = True
            # Only the end of the event loop abandons it.
            return await trio.to_thread.run_sync(
                _in_thread, what, function, arguments, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        finally:
            threads.release(held)
    raise trio.RunFinishedError("the event loop ended before the thread")  # pragma: no cover


def _in_thread(what: str, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    with contained(what):
        return function(*arguments)
    raise AssertionError


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Make harmless what plain code of a driver raises."""
    try:
        yield
    except BaseException as error:
        harmless = tame(error, what)
        if harmless is error:
            raise
        raise harmless from error


def tame(error: BaseException, what: str) -> Exception:
    """An exception that ends no more than a call, and whose message can be read as often as one wants.

    It is the same one where that is certain, and otherwise one of the same status; what is no `Exception`, or
    has no message or status that can be had, becomes `DeviceFailed`.
    """
    kind = "an exception"
    try:
        error = single(error)
        kind = str(type(error).__name__)
        if isinstance(error, Exception):
            code, details = status_of(error)
            if code in _FAILURES:
                return error if _is_plain(error) else _copy(error, code, _shortened(_printable(details)))
    except BaseException:  # its own code, such as a `__str__`
        return DeviceFailed(f"{what} raised {kind}, whose message cannot be read; see the driver's code")
    return DeviceFailed(f"{what} raised {kind}{_text(error)}, which a driver must not; see its code")


class DriverFault(Exception):  # noqa: N818 - a driver's fault, as all that is no error of the user's
    """What a driver raised and is not passed on itself; its cause."""


def _is_plain(error: Exception) -> bool:
    """Whether none of its message is made by code or parts of a driver's own."""
    parts = [*error.args, getattr(error, "filename", None), getattr(error, "details", None)]
    own = {name for cls in type(error).__mro__ if cls.__module__ != "builtins" for name in vars(cls)}
    return (
        type(type(error)) is type
        and not own & _OVERRIDDEN
        and all(type(part) in _PLAIN for part in parts)
        and not getattr(error, "trailing_metadata", ())
        and len(text := str(error)) <= MAX_MESSAGE_LENGTH
        and text == _printable(text)
    )


_FAILURES = set(StatusCode) - {StatusCode.OK}
_OVERRIDDEN = {
    *("__str__", "__repr__", "__eq__", "__hash__", "__bool__", "__len__", "__class__"),
    *("__getattribute__", "__getattr__", "__setattr__", "with_traceback", "args"),
    *("__traceback__", "__context__", "__cause__", "__suppress_context__"),
}
"""Code of a driver's own that runs when an exception is passed on, compared or written to a log."""
_PLAIN = {type(None), bool, int, float, str, bytes, PosixPath}


def _copy(error: Exception, code: StatusCode, details: str) -> Exception:
    for kind in (DeviceMissing, DeviceBusy, DeviceFailed, ResourceError):
        if isinstance(error, kind):
            return kind(details)
    return DriverFault(details) if code is StatusCode.UNKNOWN else RpcError(code, details)


def _text(error: BaseException) -> str:
    try:
        text = _shortened(_printable(str(error)))
    except BaseException:
        return ""
    return f" ({text})" if text else ""


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[:MAX_MESSAGE_LENGTH] + "..."


@contextmanager
def _lifted_at_the_end(scope: trio.CancelScope) -> Iterator[None]:
    """Shield the scope at most until the event loop's main task ended: a thread that blocks must not keep it."""
    try:
        scopes = _shields.get()
    except LookupError:
        scopes = set()
        _shields.set(scopes)
        trio.lowlevel.spawn_system_task(_lift, scopes)
    scopes.add(scope)
    try:
        yield
    finally:
        scopes.discard(scope)


async def _lift(scopes: set[trio.CancelScope]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        _is_ending.set(True)
        for scope in scopes:
            scope.shield = False
