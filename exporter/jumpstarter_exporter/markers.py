"""`@export` and `@export_stream`: what makes a driver's method callable from afar, and how it is found again.

A marked method stays what it was; the mark is an attribute on the function. What a class offers is read from
its methods once, by the rules of attribute lookup: a subclass that overrides an exported method without a
mark of its own does not offer it.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, overload

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["Exported", "Kind", "export", "export_stream", "exported"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__jumpstarter_export__"


class Kind(enum.Enum):
    """The kinds of call; a value is the name that error texts of the wire give to it."""

    CALL = "marker_drivercall"
    STREAMING = "marker_streamingdrivercall"
    STREAM = "marker_streamcall"


@dataclass(frozen=True)
class Exported:
    """One method of a driver class that users may call."""

    name: str
    """On the wire."""
    attribute: str
    """In the class."""
    kind: Kind
    is_async: bool
    """False for plain functions and generators, which run in worker threads."""
    function: Callable[..., Any]
    opens: bool = True
    """Whether the device is opened for it."""
    reads: bool = False
    """Whether it only looks, so that it takes the board from nobody."""


@dataclass(frozen=True)
class _Mark:
    name: str | None
    kind: Kind
    is_async: bool
    opens: bool = True
    reads: bool = False


@overload
def export(function: F, /) -> F: ...
@overload
def export(*, name: str | None = None, opens: bool = True, reads: bool = False) -> Callable[[F], F]: ...
def export(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    opens: bool = True,
    reads: bool = False,
) -> F | Callable[[F], F]:
    """Let users call this method, under its own name or `name`.

    The device is opened before, unless `opens` is false: for what can be told without the hardware. One that `reads`
    changes nothing: anybody on the host may call it, whoever has the board.

    A plain or async function is a call with one result; a plain or async generator function is a streaming
    call. Plain ones run in worker threads. Arguments are converted by the method's type hints.
    """

    def mark(function: F) -> F:
        streaming = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        kind = Kind.STREAMING if streaming else Kind.CALL
        setattr(function, _MARK, _Mark(name, kind, is_async, opens, reads))
        return function

    return mark if function is None else mark(function)


def export_stream(function: F) -> F:
    """Let users open a byte stream; for a method that is an `@asynccontextmanager` and yields the stream.

    The stream has `receive_some(max_bytes=None) -> bytes` (b"" is the end), `send_all(data)`, `aclose()` and,
    if its two directions end separately, `send_eof()`. One result of `receive_some` is one frame on the wire,
    so datagrams stay whole.
    """
    setattr(function, _MARK, _Mark(None, Kind.STREAM, is_async=True))
    return function


@cache
def exported(driver_class: type) -> dict[str, Exported]:
    """Everything a driver class offers, by its name on the wire."""
    found: dict[str, Exported] = {}
    for attribute in dir(driver_class):
        function = inspect.getattr_static(driver_class, attribute)
        mark = getattr(function, _MARK, None)
        if not isinstance(mark, _Mark):
            continue
        name = mark.name or attribute
        if name in found:
            raise JumpstarterUsageError(f"{driver_class.__name__} exports two methods as {name!r}")
        found[name] = Exported(name, attribute, mark.kind, mark.is_async, function, mark.opens, mark.reads)
    return found
