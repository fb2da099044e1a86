"""Turns what arrives on the wire into what a method's type hints ask for.

Arguments arrive as JSON values whose numbers are all floats. A plan is made once for each method; a parameter
without a hint, or with `Any` or `JSON`, takes its value as it arrived. Anything else goes through msgspec:
5.0 becomes 5 for an `int`, text becomes an enum, a UUID or a path, a dict becomes a dataclass.
"""

from __future__ import annotations

import inspect
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.value import JSON

__all__ = ["Plan", "convert", "hints", "plan"]

_AS_IT_IS = frozenset({inspect.Parameter.empty, Any, object})


@dataclass(frozen=True)
class _Parameter:
    name: str
    hint: Any
    """`Any` for a value that is passed on as it arrived."""


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
        JumpstarterUsageError: a hint names what does not exist at run time.
    """
    annotations = hints(function)
    parameters: list[_Parameter] = []
    required = 0
    rest = None
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        found = _Parameter(parameter.name, _usable(annotations.get(parameter.name, Any)))
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
        JumpstarterUsageError: one names what does not exist at run time, such as an import for type checkers
            only.
    """
    try:
        return inspect.get_annotations(function, eval_str=True)
    except NameError as error:
        where = f"{function.__module__}.{function.__qualname__}"
        raise JumpstarterUsageError(
            f"a type hint of {where} cannot be read: {error}; import it at run time"
        ) from error


def convert(value: object, hint: Any) -> Any:
    """Convert a JSON or YAML value to a type.

    Raises:
        ValueError: it does not fit; says what was expected and, for a part of it, where.
    """
    hint = _usable(hint)
    if hint is Any:
        return value
    import msgspec  # noqa: PLC0415 - many drivers take no arguments

    try:
        # Numbers of JSON have no kind; msgspec takes 5 for a float, but not 5.0 for an int.
        return msgspec.convert(_whole(value), hint, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _convert(parameter: _Parameter, value: JSON, method: str) -> Any:
    try:
        return convert(value, parameter.hint)
    except ValueError as error:
        raise ValueError(f"{method}: argument {parameter.name}: {error}") from None


def _decode(wanted: type, value: object) -> object:
    if issubclass(wanted, pathlib.PurePath) and isinstance(value, str):
        return wanted(value)
    raise ValueError(f"Expected `{wanted.__name__}`, got `{type(value).__name__}`")


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _usable(hint: Any) -> Any:
    """The hint with its parts that take anything as Any: msgspec knows neither object nor recursive aliases."""
    if hint in _AS_IT_IS or hint == JSON:
        return Any
    if not _has_loose_part(hint):
        return hint
    origin: Any = get_origin(hint)
    if origin in (dict, list, tuple, set, frozenset):
        return origin[tuple(_usable(argument) for argument in get_args(hint))]
    return Any


def _has_loose_part(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return False
    # The recursive alias names itself by a string.
    loose = isinstance(hint, str) or hint is object or hint == JSON
    return loose or any(_has_loose_part(part) for part in get_args(hint))
