"""Converts the arguments of a call to the types of a method's hints.

Arguments arrive as JSON values whose numbers are all floats. A plan is made once for each method. A parameter without
a hint, or with `Any` or `JSON`, gets its value unchanged. Other values are converted by msgspec: 5.0 becomes 5 for an
`int`, text becomes an enum, a UUID or a path, a dict becomes a dataclass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.value import JSON
from jumpstarter_proto.yaml_files.values import convert, usable

__all__ = ["Plan", "hints", "plan"]


@dataclass(frozen=True)
class _Parameter:
    name: str
    hint: Any
    """`Any` for a value that is passed on unchanged."""


@dataclass(frozen=True)
class Plan:
    """How to call one method."""

    method: str
    parameters: tuple[_Parameter, ...]
    required: int
    rest: _Parameter | None

    def bind(self, values: Sequence[JSON]) -> list[Any]:
        """The method's positional arguments.

        Raises:
            ValueError: there are too few or too many, or one is of the wrong type; names the parameter.
        """
        if len(values) < self.required or (self.rest is None and len(values) > len(self.parameters)):
            raise ValueError(f"{self.method} takes {self._signature()}, not {len(values)}")
        bound: list[Any] = []
        for index, value in enumerate(values):
            parameter = self.parameters[index] if index < len(self.parameters) else self.rest
            assert parameter is not None
            bound.append(value if parameter.hint is Any else _convert(parameter, value, self.method))
        return bound

    def _signature(self) -> str:
        if not self.parameters and self.rest is None:
            return "no arguments"
        names = [parameter.name for parameter in self.parameters]
        names[self.required :] = [f"[{name}]" for name in names[self.required :]]
        if self.rest is not None:
            names.append(f"[{self.rest.name}...]")
        count = "1 argument" if len(names) == 1 else f"{len(names)} arguments"
        return f"{count} ({', '.join(names)})"


@cache
def plan(function: Callable[..., Any], method: str) -> Plan:
    """Read a method's signature. `method` is its name in messages.

    Raises:
        JumpstarterUsageError: a hint names something that does not exist at run time.
    """
    annotations = hints(function)
    parameters: list[_Parameter] = []
    required = 0
    rest = None
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        found = _Parameter(parameter.name, usable(annotations.get(parameter.name, Any)))
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest = found
        elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            parameters.append(found)
            if parameter.default is inspect.Parameter.empty:
                required = len(parameters)
    return Plan(method, tuple(parameters), required, rest)


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Evaluated annotations of a function or class.

    Raises:
        JumpstarterUsageError: one names something that does not exist at run time, such as an import for type
            checkers.
    """
    try:
        return inspect.get_annotations(function, eval_str=True)
    except NameError as error:
        where = f"{function.__module__}.{function.__qualname__}"
        raise JumpstarterUsageError(
            f"a type hint of {where} cannot be read: {error}; import it at run time"
        ) from error


def _convert(parameter: _Parameter, value: JSON, method: str) -> Any:
    try:
        return convert(value, parameter.hint)
    except ValueError as error:
        raise ValueError(f"{method}: argument {parameter.name}: {error}") from None
