"""Keeps exceptions whose text cannot be read out of trio's nurseries, including those that drivers open.

trio (at least 0.31 to 0.35) puts the `repr` of an exception that ends a nursery into the reason of its cancellation. A
`__repr__` that raises, for example because `__init__` did not set an attribute, is then an error inside trio, which
ends the event loop and with it every device. There is no hook for this, so two private methods of `trio.Nursery` are
wrapped; a trio without them is left unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio

__all__ = ["guard"]

MAX_DEPTH = 50
"""Levels of nested groups. Python counts deeper nesting as recursion when it makes the text."""

_guarded = False


def guard(tame: Callable[[BaseException], Exception]) -> None:
    """Let `tame` replace exceptions in nurseries that cannot be read."""
    global _guarded  # noqa: PLW0603 - trio's classes are global, too
    child_finished: Any = getattr(trio.Nursery, "_child_finished", None)
    body_finished: Any = getattr(trio.Nursery, "_nested_child_finished", None)
    if _guarded or child_finished is None or body_finished is None:
        return
    _guarded = True

    @functools.wraps(child_finished)
    def guarded_child(self: trio.Nursery, task: Any, result: Any) -> Any:
        if isinstance(result, outcome.Error):
            error = _readable(result.error, tame)
            result = result if error is result.error else outcome.Error(error)
        return child_finished(self, task, result)

    @functools.wraps(body_finished)
    def guarded_body(self: trio.Nursery, error: BaseException | None) -> Awaitable[BaseException | None]:
        found: Awaitable[BaseException | None] = body_finished(
            self, None if error is None else _readable(error, tame)
        )
        return found

    nursery: Any = trio.Nursery
    nursery._child_finished, nursery._nested_child_finished = guarded_child, guarded_body  # noqa: SLF001


def _readable(
    error: BaseException, tame: Callable[[BaseException], Exception], depth: int = 0
) -> BaseException:
    """The same exception, or a harmless one in its place; a group keeps its readable members."""
    if type(error) is trio.Cancelled:
        return error
    try:
        if type(error) in (BaseExceptionGroup, ExceptionGroup):
            return _of_readable_parts(error, tame, depth)  # type: ignore[arg-type]
        repr(error)
        str(error)
        hash(error)
        error.with_traceback(error.__traceback__)
        return error if error == error else tame(error)  # noqa: PLR0124 - whether it can be compared
    except BaseException:  # its own code
        return tame(error)


def _of_readable_parts(
    group: BaseExceptionGroup[BaseException], tame: Callable[[BaseException], Exception], depth: int
) -> BaseException:
    if depth >= MAX_DEPTH:
        return tame(group)
    parts = [_readable(part, tame, depth + 1) for part in group.exceptions]
    if all(map(_is_same, parts, group.exceptions)) and type(group.message) is str:
        repr(group)  # anybody can change its arguments
        return group
    return BaseExceptionGroup("a driver's", parts)


def _is_same(one: BaseException, other: BaseException) -> bool:
    return one is other
