"""Marks methods of driver clients as commands: the method defines the name, help and options of the verb.

The command is the method's name with hyphens; its help is the docstring, its parameters are the signature
(`Annotated[..., Parameter(...)]` of cyclopts applies; import it below `if TYPE_CHECKING:`, where it costs a command
nothing). What the method returns is what the command prints: nothing for None, iterators item by item. Plain
functions are run in the main thread of the command, so they may own the terminal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.twin import Twin, TwinContext, TwinIter

__all__ = ["Verb", "verb", "verbs"]

M = TypeVar("M")


class Verb(NamedTuple):
    """A command of a driver client class."""

    name: str
    """As typed, with hyphens."""
    attribute: str
    """The name of the method."""
    function: Callable[..., Any]
    """The function with the signature and the docstring; its first parameter is the client."""
    needs_device: bool = True
    """Otherwise it is called with None instead of a client, and no exporter is used."""
    takes_all_words: bool = False
    """It gets the words after the device as they were typed. In `j`, the device is the command: `j ssh ls -l`."""

    @property
    def takes_files(self) -> bool:
        """Whether one of its parameters names a file, judged by name and type."""
        parameters = inspect.signature(inspect.unwrap(self.function)).parameters
        return any(
            name in ("file", "files", "path") or "Path" in str(parameter.annotation)
            for name, parameter in parameters.items()
        )

    @property
    def help(self) -> str:
        """The docstring's first paragraph, on one line."""
        text = (self.function.__doc__ or "").strip()
        return " ".join(text.split("\n\n", 1)[0].split())


@overload
def verb(method: M) -> M: ...
@overload
def verb(*, name: str, needs_device: bool = True, takes_all_words: bool = False) -> Callable[[M], M]: ...
def verb(
    method: M | None = None,
    *,
    name: str | None = None,
    needs_device: bool = True,
    takes_all_words: bool = False,
) -> M | Callable[[M], M]:
    """Mark a method (a twin, or a plain blocking function) as a command, under another `name` if given.

    A verb that needs no device is a plain function that ignores its first parameter. One that takes all words is a
    plain method with the parameter `*words: str`.
    """

    def mark(target: M) -> M:
        if isinstance(target, TwinContext):
            raise JumpstarterUsageError(
                "a context manager cannot be a verb; write a plain method that enters it"
            )
        if not callable(target) and not isinstance(target, Twin | TwinIter):
            raise JumpstarterUsageError("@verb goes above @twin or a plain method")
        target.__verb__ = name or ""  # type: ignore[union-attr] # a function, or a twin with a slot for it
        if not needs_device:
            target.__needs_device__ = False  # type: ignore[union-attr] # a plain function
        if takes_all_words:
            target.__takes_all_words__ = True  # type: ignore[union-attr] # a plain function
        return target

    return mark if method is None else mark(method)


def verbs(client: type) -> dict[str, Verb]:
    """Return the verbs of a driver client class by name, base classes first, in the order of definition.

    A subclass that overrides a verb's method keeps the verb; one that sets it to None drops it.
    """
    found: dict[str, str] = {}
    for base in reversed(client.__mro__):
        for attribute, member in vars(base).items():
            name = getattr(member, "__verb__", None)
            if name is not None:
                found[attribute] = name or attribute.replace("_", "-")
    result: dict[str, Verb] = {}
    for attribute, name in found.items():
        member = getattr(client, attribute)
        if member is not None:
            function = getattr(member, "function", member)
            result[name] = Verb(
                name,
                attribute,
                function,
                needs_device=getattr(function, "__needs_device__", True),
                takes_all_words=getattr(function, "__takes_all_words__", False),
            )
    return result
