"""`@export` and `@export_stream` mark driver methods that users may call.

A marked method stays unchanged; the mark is an attribute of the function. The exported methods of a class are found
once, by the rules of attribute lookup: a subclass that overrides an exported method without a mark does not export it.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, overload

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["ExportKind", "Exported", "MethodSummary", "export", "export_stream", "exported", "summarize"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__jumpstarter_export__"


class ExportKind(enum.Enum):
    """The kinds of calls; a value is the name in error texts on the wire."""

    CALL = "marker_drivercall"
    STREAMING = "marker_streamingdrivercall"
    STREAM = "marker_streamcall"


@dataclass(frozen=True)
class Exported:
    """A driver class's method that users may call."""

    name: str
    """Its name on the wire."""
    attribute: str
    """Its name in the class."""
    kind: ExportKind
    is_async: bool
    """False for plain functions and generators, which run in worker threads."""
    function: Callable[..., Any]
    opens: bool = True
    """Whether the device is opened for it."""
    reads: bool = False
    """Whether it only reads, so that it does not take the board from anybody."""


@dataclass(frozen=True)
class MethodSummary:
    """A method for people who want to call it."""

    name: str
    kind: ExportKind
    parameters: str
    """As in its definition, without brackets and `self`."""
    description: str
    """The first line of its docstring."""


@dataclass(frozen=True)
class _Mark:
    name: str | None
    kind: ExportKind
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

    The device is opened before, unless `opens` is false: for information that needs no hardware. A method that `reads`
    changes nothing: anybody on the host may call it, whoever has the board.

    A plain or async function is a call with one result; a plain or async generator function is a streaming call. Plain
    ones run in worker threads. Arguments are converted to the types of the method's hints.
    """

    def mark(function: F) -> F:
        streaming = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        kind = ExportKind.STREAMING if streaming else ExportKind.CALL
        setattr(function, _MARK, _Mark(name, kind, is_async, opens, reads))
        return function

    return mark if function is None else mark(function)


def export_stream(function: F) -> F:
    """Let users open a byte stream; for a method that is an `@asynccontextmanager` and yields the stream.

    The stream has `receive_some(max_bytes=None) -> bytes` (b"" is the end), `send_all(data)`, `aclose()` and,
    if its two directions end separately, `send_eof()`. One result of `receive_some` is one frame on the wire,
    so datagrams stay whole.
    """
    setattr(function, _MARK, _Mark(None, ExportKind.STREAM, is_async=True))
    return function


@cache
def exported(driver_class: type) -> dict[str, Exported]:
    """The exported methods of a driver class, by their names on the wire."""
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


def summarize(driver_class: type) -> list[MethodSummary]:
    """The exported methods of a driver class, by name."""
    return [_summary(method) for _, method in sorted(exported(driver_class).items())]


def _summary(method: Exported) -> MethodSummary:
    try:
        parameters = list(inspect.signature(method.function).parameters.values())[1:]
        text = ", ".join(map(str, parameters))
    except (TypeError, ValueError):
        text = "..."
    description = (inspect.getdoc(method.function) or "").partition("\n")[0]
    return MethodSummary(method.name, method.kind, text, description)
