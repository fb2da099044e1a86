"""Steps of tests. The module that a driver package's manifest names has those of its interface.

```python
@step
async def on(client: PowerClient, context: StepContext) -> None:
    '''Switch the board on.'''
    await client.on.aio()
```

It is `power.on:` in a test. Parameters after the first two are the step's keys, their hints its types; a value
that is no mapping is the first one's. What a step returns is its result, which `capture` can keep. Steps raise
JumpstarterError when they fail, and are cancelled when their time is over.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints, overload

import msgspec
from jumpstarter_proto import driver_packages
from jumpstarter_proto.documents import Document, PathInFile, check_value, nearest

from jumpstarter_client.base import DriverClient

if TYPE_CHECKING:
    from jumpstarter_client.console.expect import Expect

__all__ = ["Step", "StepContext", "known_steps", "step"]

STEP_SECONDS = 60.0


class StepContext(Protocol):
    """What a step gets besides its device."""

    variables: dict[str, Any]
    seconds: float
    """The time of the step that runs; it is cancelled a moment later."""

    def input_file(self, path: str) -> str:
        """The path relative to the test's file, or a URL as it is."""

    def output_file(self, path: str) -> Path:
        """Where a file that a step makes goes: into the run's folder, unless the path is absolute."""

    def say(self, text: str) -> None:
        """A line for the report."""

    def client(self, device: str) -> DriverClient:
        """Any device's client. NotFoundError when there is none of that name."""

    def console(self, client: DriverClient) -> Expect:
        """The device's console, which has been read since the test began."""


StepFunction = Callable[..., Awaitable[object]]


@dataclass(frozen=True)
class Step:
    """A kind of step."""

    name: str
    """As written in a test: `power.on`, or `log` for one that needs no device."""
    interface: str
    """Of its device; empty when it has none."""
    function: StepFunction
    seconds: float
    """Its time, unless the test says another."""
    files: tuple[str, ...] = ()
    """Parameters that name files (or URLs), which must be there before the test begins."""
    whole: bool = False
    """A mapping is its first parameter's value, too."""

    @cached_property
    def help(self) -> str:
        """What it does, in a sentence."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n", 1)[0].split())

    @cached_property
    def keys(self) -> type[msgspec.Struct]:
        """Its parameters, as a type."""
        hints = get_type_hints(self.function, include_extras=True)
        leading = 2 if self.interface else 1
        fields: list[Any] = []
        for parameter in list(inspect.signature(self.function).parameters.values())[leading:]:
            field: tuple[Any, ...] = (parameter.name, hints.get(parameter.name, Any))
            fields.append(field if parameter.default is parameter.empty else (*field, parameter.default))
        return msgspec.defstruct(self.name, fields, kw_only=True, forbid_unknown_fields=True, rename=_hyphens)

    @cached_property
    def first(self) -> str | None:
        """The key that a value without a key is for."""
        fields = msgspec.structs.fields(self.keys)
        return fields[0].encode_name if fields else None

    def arguments(
        self, document: Document, given: Any, path: PathInFile, *, types: bool = True
    ) -> dict[str, Any]:
        """What a test says for this step, checked and converted; without `types`, only the keys are checked.

        Raises:
            ConfigError: an unknown key, a missing one, or one of the wrong type.
        """
        fields = {field.encode_name: field for field in msgspec.structs.fields(self.keys)}
        given, place = self.spelled_out(document, given, path)
        for key in given:
            if key not in fields:
                raise document.error(place(key), f"{self.name} has no key {key!r}; {nearest(key, fields)}")
        for key, field in fields.items():
            if field.required and key not in given:
                raise document.error(path, f"{self.name} needs {key!r}; add it")
        return {
            fields[key].name: check_value(document, value, fields[key].type, place(key)) if types else value
            for key, value in given.items()
        }

    def spelled_out(
        self, document: Document, given: Any, path: PathInFile
    ) -> tuple[dict[str, Any], Callable[[str], PathInFile]]:
        """The step's keys and values, and where in the file each is."""
        if given is None:
            return {}, lambda _key: path
        if isinstance(given, Mapping) and not self.whole:
            return dict(given), lambda key: (*path, key)
        if self.first is None:
            raise document.error(path, f"{self.name} takes no value; leave {given!r} out")
        return {self.first: given}, lambda _key: path


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


@overload
def step(function: StepFunction) -> Step: ...
@overload
def step(
    *,
    name: str | None = None,
    seconds: float = STEP_SECONDS,
    files: tuple[str, ...] = (),
    whole: bool = False,
) -> Callable[[StepFunction], Step]: ...
def step(
    function: StepFunction | None = None,
    *,
    name: str | None = None,
    seconds: float = STEP_SECONDS,
    files: tuple[str, ...] = (),
    whole: bool = False,
) -> Step | Callable[[StepFunction], Step]:
    """Make a step of a function of a driver folder's `steps.py`."""

    def make(function: StepFunction) -> Step:
        word = _hyphens(name or function.__name__)
        # The interface is the folder's, and known once the folder is scanned.
        return Step(word, "", function, seconds, files, whole)

    return make if function is None else make(function)


@cache
def known_steps() -> dict[str, Step]:
    """Every step that there is, by its name in tests."""
    from jumpstarter_client.yamltest import generic  # noqa: PLC0415 - it makes its steps with this module

    found = {one.name: one for one in vars(generic).values() if isinstance(one, Step)}
    for package in driver_packages.all_packages():
        interface = package.manifest.interface
        module = driver_packages.steps_module(package)
        for one in [] if module is None else vars(module).values():
            if isinstance(one, Step):
                name = f"{interface}.{one.name}"
                found.setdefault(name, replace(one, name=name, interface=interface))
    driver_packages.report_problems()
    return found
