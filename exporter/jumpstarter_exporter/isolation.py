"""Isolates drivers: a driver's code can only harm its own device.

A driver's coroutine runs in a task of its own, outside of every nursery. Whatever it raises is passed on as an
`Exception`, also SystemExit, KeyboardInterrupt, GeneratorExit, or a `trio.Cancelled` that nobody requested. If the
caller is cancelled, the coroutine is cancelled, too, and has a grace period to end; then the caller leaves, and the
device is `failed` until the coroutine returns (see `Lifecycle.stuck`). Plain functions run in worker threads, which
are limited for each board and device (`threads`). Errors in a driver's own nurseries are made harmless by
`readable_errors`. One thing cannot be prevented in one process: an `async def` that blocks without awaiting stops all
devices.
"""

from __future__ import annotations

import contextvars
import datetime
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import PosixPath
from typing import Any, Generic, TypeVar

import outcome
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode, status_of
from jumpstarter_proto.tasks import single

from jumpstarter_exporter import readable_errors
from jumpstarter_exporter.device_state import Lifecycle
from jumpstarter_exporter.errors import DeviceBusy, DeviceFailed, DeviceMissing, ResourceError
from jumpstarter_exporter.threads import DeviceThreads, running_method

readable_errors.guard(lambda error: make_harmless(error, "a driver's task"))

__all__ = [
    "CLEAN_UP_SECONDS",
    "GRACE_SECONDS",
    "in_thread",
    "isolated",
    "make_harmless",
    "run",
    "run_plain_methods_in_threads",
]

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""Time for a driver's code to end after its caller was cancelled."""
CLEAN_UP_SECONDS = 75.0
"""The same for `async` methods, which clean up: for example, a mux switches the medium back."""
MAX_MESSAGE_LENGTH = 4096
"""Characters of an error's message, which is sent in a header."""

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
    """Run a driver's code in a task of its own; `what` names it for users, such as `on()`.

    It runs in a copy of `context`, or of this task's context. A cancellation ends it within `grace` (`GRACE_SECONDS`)
    seconds. Code that has not ended by then is left running: `on_left` is called, the device is stuck until the code
    ends, and then `afterwards` runs.

    Raises:
        Exception: what the code raises, made harmless by `make_harmless`.
    """
    task = _Task(body, what)
    copied = contextvars.copy_context() if context is None else context.copy()
    trio.lowlevel.spawn_system_task(task.run, name=f"driver: {what}", context=copied)
    try:
        await task.ended.wait()
    except trio.Cancelled:
        task.scope.cancel()
        with trio.move_on_after(GRACE_SECONDS if grace is None else grace, shield=True):
            await task.ended.wait()
        if not task.ended.is_set():
            task.afterwards = afterwards
            task.returned = life.stuck(
                f"{what} has not returned since {task.since:%Y-%m-%d %H:%M:%S}; the device can be used "
                "when it does, or after the exporter's restart"
            )
            if on_left is not None:
                on_left()
        raise
    assert task.result is not None
    return task.result.unwrap()


class _Task(Generic[T]):
    """A driver's coroutine and its result."""

    def __init__(self, body: Callable[[], Awaitable[T]], what: str) -> None:
        self._body = body
        self._what = what
        self.since = datetime.datetime.now()  # noqa: DTZ005 - for people at the host, in local time
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.result: outcome.Outcome[T] | None = None
        self.afterwards: Callable[[], Awaitable[None]] | None = None
        self.returned: Callable[[], None] | None = None

    async def run(self) -> None:
        """Run it. Never raises, because an exception in a system task ends the event loop."""
        running_method.set(self._what)
        with self.scope:
            # Caught inside the scope: a Cancelled of another scope must not leave it.
            try:
                self.result = outcome.Value(await self._body())
            except BaseException as error:
                self.result = outcome.Error(make_harmless(error, self._what))
        if self.afterwards is not None:
            try:
                await self.afterwards()
            except BaseException as error:
                _log.warning("%s came back late: %s", self._what, make_harmless(error, self._what))
        self.ended.set()
        if (
            self.returned is not None and not _is_ending.get()
        ):  # otherwise it is unknown whether its thread returns
            self.returned()


def run_plain_methods_in_threads(cls: type[Any], *names: str) -> None:
    """Make plain methods of these names, which `cls` has in the place of `async` ones, run in worker threads.

    They may block, as other plain methods of a driver may. Instances have `in_thread`.
    """
    for name in names:
        method = cls.__dict__.get(name)
        if inspect.isfunction(method) and not inspect.iscoroutinefunction(method):
            setattr(cls, name, _threaded(method))


def _threaded(method: Callable[[Any], object]) -> Callable[[Any], Awaitable[None]]:
    @functools.wraps(method)
    async def run_in_thread(self: Any) -> None:
        result = await self.in_thread(method, self)
        if inspect.isawaitable(result):  # it is `async` within a decorator that is not
            await result

    return run_in_thread


async def in_thread(
    threads: DeviceThreads,
    function: Callable[..., T],
    *arguments: Any,
    what: str = "a thread",
    shielded: bool = False,
) -> T:
    """Run a plain function in a worker thread. It can only be cancelled while it waits for its thread.

    That wait can be `shielded`; otherwise it has a time limit. What the function raises is made harmless by
    `make_harmless`, in the thread.

    Raises:
        DeviceBusy: no thread was available; see `DeviceThreads.acquire`.
    """
    with trio.CancelScope(shield=shielded) as scope, _lifted_at_the_end(scope):
        held = await threads.acquire(what, is_patient=shielded)
        try:
            scope.shield = True
            # Only the end of the event loop abandons the thread.
            return await trio.to_thread.run_sync(
                _in_thread, what, function, arguments, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        finally:
            threads.release(held)
    raise trio.RunFinishedError("the event loop ended before the thread")  # pragma: no cover


def _in_thread(what: str, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    with isolated(what):
        return function(*arguments)
    raise AssertionError


@contextmanager
def isolated(what: str) -> Iterator[None]:
    """Make exceptions of a driver's plain code harmless."""
    try:
        yield
    except BaseException as error:
        harmless = make_harmless(error, what)
        if harmless is error:
            raise
        raise harmless from error


def make_harmless(error: BaseException, what: str) -> Exception:
    """An exception that ends only a call, and whose message can be read safely.

    It is the same exception if that is safe, otherwise one with the same status. One that is not an `Exception`, or
    whose message or status cannot be read, becomes `DeviceFailed`.
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
        return DeviceFailed(
            f"{what} raised {kind}, with a message that cannot be read; check the driver's code"
        )
    return DeviceFailed(f"{what} raised {kind}{_text(error)}, which a driver must not; see its code")


class DriverFault(Exception):  # noqa: N818 - a driver's fault, unlike errors of a user
    """Replaces an exception of a driver that is not passed on itself; that is its cause."""


def _is_plain(error: Exception) -> bool:
    """Whether no part of its message is made by a driver's own code or objects."""
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
"""Methods that run when an exception is passed on, compared or logged."""
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
    """Shield the scope until the event loop's main task ends: a blocking thread must not keep the loop alive."""
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
