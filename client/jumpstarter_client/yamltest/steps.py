"""Steps of tests. The module that a driver package's manifest names has those of its interface.

```python
@step
async def on(client: PowerClient, context: StepContext) -> None:
    '''Switch the board on.'''
    await client.on.aio()
```

In a test it is `power.on:`. Parameters after the first two are the keys of the step, with their type hints; a value
that is not a mapping is for the first key. The return value is the result, which `capture` stores. Steps raise
JumpstarterError if they fail, and are cancelled at their time limit.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints, overload

import msgspec
from jumpstarter_proto import driver_packages
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.yaml_files import Document, Mistakes, PathInFile, check_value, nearest

from jumpstarter_client.base import DriverClient
from jumpstarter_client.yamltest.variables import UnknownVariableError, check_references, names, substitute

if TYPE_CHECKING:
    from jumpstarter_client.console.expect import Expect

__all__ = ["COMMON", "UNKNOWN", "StepContext", "StepType", "known_steps", "step"]

STEP_SECONDS = 60.0
COMMON = frozenset({"name", "device", "timeout", "retries", "delay", "capture"})
"""The keys of every step, beside its action."""
UNKNOWN = object()
"""The value of an argument that depends on what an earlier step captures."""


class StepContext(Protocol):
    """What a step can use, besides its device."""

    variables: dict[str, Any]
    seconds: float
    """The time limit of the running step; it is cancelled shortly after it."""
    switched: int
    """How many steps on other devices than consoles have begun: one may have restarted the board."""

    def input_file(self, path: str) -> str:
        """Resolve a path relative to the test file; a URL is returned unchanged."""

    def output_file(self, path: str) -> Path:
        """Return the path for an output file: in the folder of the run, unless the path is absolute."""

    def say(self, text: str) -> None:
        """Add a line to the report."""

    def client(self, device: str) -> DriverClient:
        """Return the client of any device. NotFoundError if there is no such device."""

    def console(self, client: DriverClient) -> Expect:
        """Return the console of a device, which is read since the start of the test."""


StepFunction = Callable[..., Awaitable[object]]
Check = Callable[[dict[str, Any]], None]
"""Raises JumpstarterError if a step's arguments, some of which may be `UNKNOWN`, do not fit each other."""


@dataclass(frozen=True)
class StepType:
    """A type of step."""

    name: str
    """As written in a test: `power.on`, or `log` for a step without a device."""
    interface: str
    """The interface of its device; empty without a device."""
    function: StepFunction
    seconds: float
    """The time limit, unless the test sets another one."""
    files: tuple[str, ...] = ()
    """The parameters that name files or URLs; files must exist before the test starts."""
    whole: bool = False
    """A mapping is the value of the first parameter."""
    check: Check | None = None

    @cached_property
    def help(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n", 1)[0].split())

    @cached_property
    def keys(self) -> type[msgspec.Struct]:
        """Its parameters as a type."""
        hints = get_type_hints(self.function, include_extras=True)
        leading = 2 if self.interface else 1
        fields: list[Any] = []
        for parameter in list(inspect.signature(self.function).parameters.values())[leading:]:
            field: tuple[Any, ...] = (parameter.name, hints.get(parameter.name, Any))
            fields.append(field if parameter.default is parameter.empty else (*field, parameter.default))
        return msgspec.defstruct(self.name, fields, kw_only=True, forbid_unknown_fields=True, rename=_hyphens)

    @cached_property
    def first(self) -> str | None:
        """The key for a value without a key."""
        fields = msgspec.structs.fields(self.keys)
        return fields[0].encode_name if fields else None

    def arguments(
        self,
        document: Document,
        given: Any,
        path: PathInFile,
        variables: Mapping[str, Any],
        captured: Collection[str] = (),
    ) -> dict[str, Any]:
        """Check and convert the value of this step in a test, with the values of `variables`.

        What refers to one of the `captured` variables becomes `UNKNOWN`.

        Raises:
            ConfigError: a key is unknown or missing, a value has the wrong type, or arguments do not fit each other.
            UnknownVariableError, InvalidReferenceError: a variable is not set, or is not written in full.
        """
        fields = {field.encode_name: field for field in msgspec.structs.fields(self.keys)}
        given, place = self.spelled_out(document, given, path)
        arguments: dict[str, Any] = {}
        mistakes = Mistakes()
        for key, value in given.items():
            if key not in fields:
                what = f"{self.name} has no key {key!r}"
                cure = (
                    f"write it beside {self.name}, with the same indentation"
                    if key in COMMON
                    else nearest(key, fields)
                )
                mistakes.add(document.error(place(key), f"{what}; {cure}"))
                continue
            known = _substituted(value, variables, captured)
            with mistakes.collected():
                arguments[fields[key].name] = (
                    known if known is UNKNOWN else check_value(document, known, fields[key].type, place(key))
                )
        missing = [key for key, field in fields.items() if field.required and key not in given]
        if missing and given.keys() <= fields.keys():  # a wrong key may be meant
            mistakes.add(document.error(path, f"{self.name} needs {missing[0]!r}; add it"))
        mistakes.check()
        if self.check is not None:
            try:
                self.check(arguments)
            except JumpstarterError as error:
                raise document.error(path, str(error)) from None
        return arguments

    def spelled_out(
        self, document: Document, given: Any, path: PathInFile
    ) -> tuple[dict[str, Any], Callable[[str], PathInFile]]:
        """Return the keys and values of the step, and a function for their positions in the file."""
        if given is None:
            return {}, lambda _key: path
        if isinstance(given, Mapping) and not self.whole:
            return dict(given), lambda key: (*path, key)
        if self.first is None:
            raise document.error(path, f"{self.name} takes no value; remove {given!r}")
        return {self.first: given}, lambda _key: path


def _substituted(value: Any, variables: Mapping[str, Any], captured: Collection[str]) -> Any:
    """Return a value with its references replaced; UNKNOWN if one is to a captured variable."""
    check_references(value)
    there = {**variables, **dict.fromkeys(captured)}
    for name in names(value):
        if name not in there:
            raise UnknownVariableError.of(name, there)
    return UNKNOWN if any(name in captured for name in names(value)) else substitute(value, variables)


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


@overload
def step(function: StepFunction) -> StepType: ...
@overload
def step(
    *,
    name: str | None = None,
    seconds: float = STEP_SECONDS,
    files: tuple[str, ...] = (),
    whole: bool = False,
    check: Check | None = None,
) -> Callable[[StepFunction], StepType]: ...
def step(
    function: StepFunction | None = None,
    *,
    name: str | None = None,
    seconds: float = STEP_SECONDS,
    files: tuple[str, ...] = (),
    whole: bool = False,
    check: Check | None = None,
) -> StepType | Callable[[StepFunction], StepType]:
    """Make a step of a function of a driver folder's `steps.py`."""

    def make(function: StepFunction) -> StepType:
        word = _hyphens(name or function.__name__)
        # The interface is the folder's, and known once the folder is scanned.
        return StepType(word, "", function, seconds, files, whole, check)

    return make if function is None else make(function)


@cache
def known_steps() -> dict[str, StepType]:
    """Return all installed steps by their name in tests."""
    from jumpstarter_client.yamltest import generic  # noqa: PLC0415 - it makes its steps with this module

    found = {one.name: one for one in vars(generic).values() if isinstance(one, StepType)}
    for package in driver_packages.all_packages():
        interface = package.manifest.interface
        module = driver_packages.steps_module(package)
        for one in [] if module is None else vars(module).values():
            if isinstance(one, StepType):
                name = f"{interface}.{one.name}"
                found.setdefault(name, replace(one, name=name, interface=interface))
    driver_packages.report_problems()
    return found
