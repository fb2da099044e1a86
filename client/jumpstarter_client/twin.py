"""Methods of driver clients that are defined once, and work in plain code and in trio tasks.

```python
class PowerClient(DriverClient):
    @twin
    async def on(self) -> None:
        await self.call_async("on")

client.on()              # from a plain thread: waits
await client.on.aio()    # from a trio task
```

`twin` is for coroutine functions, `twin_iter` for async generators, `twin_context` for async generators that yield
once (as for `contextlib.asynccontextmanager`). In a trio task the blocking form raises
`JumpstarterUsageError`, because it would block the loop. Ctrl-C while it waits cancels the work and raises
`KeyboardInterrupt`. A subclass that overrides a method calls the original by `await super().on.aio()`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:
    from jumpstarter_client.blocking import BlockingPortal

__all__ = ["Twin", "TwinContext", "TwinIter", "twin", "twin_context", "twin_iter"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
S = TypeVar("S", bound="HasPortal")


class HasPortal(Protocol):
    """The interface of a class with twins: a portal to the loop in which its async methods run."""

    @property
    def portal(self) -> BlockingPortal:
        """The portal to that loop."""


class BoundTwin(Generic[P, R]):
    """A twin method of one object."""

    __slots__ = ("_function", "_instance")

    def __init__(self, function: Callable[..., Coroutine[Any, Any, R]], instance: HasPortal) -> None:
        self._function = function
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, wait, and return the result."""
        return self._instance.portal.call(functools.partial(self._function, self._instance, *args, **kwargs))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The coroutine, for a trio task."""
        return self._function(self._instance, *args, **kwargs)


class Twin(Generic[P, R]):
    """The descriptor that `twin` makes of a coroutine function."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, R]]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Twin[P, R]: ...
    @overload
    def __get__(self, instance: HasPortal, owner: type) -> BoundTwin[P, R]: ...
    def __get__(self, instance: HasPortal | None, owner: type) -> Twin[P, R] | BoundTwin[P, R]:
        return self if instance is None else BoundTwin(self.function, instance)


class BoundTwinIter(Generic[P, R]):
    """A generator twin of one object."""

    __slots__ = ("_function", "_instance")

    def __init__(self, function: Callable[..., AsyncGenerator[R, None]], instance: HasPortal) -> None:
        self._function = function
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
        """Iterate in plain code; each item is computed when it is requested."""
        return self._instance.portal.iterate(self._function(self._instance, *args, **kwargs))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        """The async generator. To stop early, use `async with contextlib.aclosing(...)`."""
        return self._function(self._instance, *args, **kwargs)


class TwinIter(Generic[P, R]):
    """The descriptor that `twin_iter` makes of an async generator function."""

    def __init__(self, function: Callable[..., AsyncGenerator[R, None]]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> TwinIter[P, R]: ...
    @overload
    def __get__(self, instance: HasPortal, owner: type) -> BoundTwinIter[P, R]: ...
    def __get__(self, instance: HasPortal | None, owner: type) -> TwinIter[P, R] | BoundTwinIter[P, R]:
        return self if instance is None else BoundTwinIter(self.function, instance)


class BoundTwinContext(Generic[P, R]):
    """A context manager twin of one object."""

    __slots__ = ("_function", "_instance")

    def __init__(self, function: Callable[..., AbstractAsyncContextManager[R]], instance: HasPortal) -> None:
        self._function = function
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[R]:
        """For `with` in plain code."""
        return self._instance.portal.context(self._function(self._instance, *args, **kwargs))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[R]:
        """For `async with` in a trio task."""
        return self._function(self._instance, *args, **kwargs)


class TwinContext(Generic[P, R]):
    """The descriptor that `twin_context` makes of an async generator function that yields once."""

    def __init__(self, function: Callable[..., AbstractAsyncContextManager[R]]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> TwinContext[P, R]: ...
    @overload
    def __get__(self, instance: HasPortal, owner: type) -> BoundTwinContext[P, R]: ...
    def __get__(self, instance: HasPortal | None, owner: type) -> TwinContext[P, R] | BoundTwinContext[P, R]:
        return self if instance is None else BoundTwinContext(self.function, instance)


def twin(function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> Twin[P, R]:
    """Make a coroutine method callable from plain code; `.aio` is the coroutine."""
    return Twin(function)


def twin_iter(function: Callable[Concatenate[S, P], AsyncIterator[R]]) -> TwinIter[P, R]:
    """Make an async generator method iterable from plain code; `.aio` is the async generator."""
    return TwinIter(cast("Callable[..., AsyncGenerator[R, None]]", function))


def twin_context(function: Callable[Concatenate[S, P], AsyncIterator[R]]) -> TwinContext[P, R]:
    """Make an async generator method that yields once a context manager for both worlds; `.aio` is the async one."""
    return TwinContext(asynccontextmanager(cast("Callable[..., AsyncIterator[R]]", function)))
