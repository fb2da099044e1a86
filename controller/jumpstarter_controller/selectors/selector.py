"""A parsed selector: what it matches, and its canonical text."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["EVERYTHING", "Operator", "Requirement", "Selector", "SelectorError"]


class SelectorError(ValueError):
    """A selector that cannot be understood; says where and why."""


class Operator(enum.StrEnum):
    """How a label is compared. The values are Kubernetes' names."""

    EQUALS = "="
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


@dataclass(frozen=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    """Sorted, without repetition."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it; a missing label fulfils NOT_IN."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.EQUALS | Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case Operator.GREATER | Operator.LESS:
                return _compares(self.operator, value, int(self.values[0]))

    def __str__(self) -> str:
        values = ",".join(self.values)
        match self.operator:
            case Operator.EQUALS:
                return f"{self.key}={values}"
            case Operator.IN:
                return f"{self.key} in ({values})"
            case Operator.NOT_IN:
                return f"{self.key} notin ({values})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.GREATER:
                return f"{self.key}>{values}"
            case Operator.LESS:
                return f"{self.key}<{values}"


def _compares(operator: Operator, value: str | None, bound: int) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > bound if operator is Operator.GREATER else number < bound


@dataclass(frozen=True)
class Selector:
    """All of its requirements together. `str()` is canonical: equal selectors have equal texts."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, requirements: Iterable[Requirement]) -> Selector:
        """Sorted, with `!=` and `notin` of one key merged.

        Raises:
            SelectorError: one label is to have two values at a time.
        """
        equal: dict[str, str] = {}
        excluded: dict[str, set[str]] = {}
        others: set[Requirement] = set()
        for requirement in requirements:
            if requirement.operator is Operator.EQUALS:
                value = requirement.values[0]
                if equal.setdefault(requirement.key, value) != value:
                    raise SelectorError(
                        f"{requirement.key} cannot be {equal[requirement.key]!r} and {value!r} at a time; "
                        f"for either write {requirement.key} in ({equal[requirement.key]},{value})"
                    )
            elif requirement.operator is Operator.NOT_IN:
                excluded.setdefault(requirement.key, set()).update(requirement.values)
            else:
                others.add(requirement)
        others.update(Requirement(key, Operator.EQUALS, (value,)) for key, value in equal.items())
        others.update(Requirement(key, Operator.NOT_IN, tuple(sorted(v))) for key, v in excluded.items())
        return cls(tuple(sorted(others, key=lambda one: (one.key, one.operator.value, one.values))))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil every requirement; an empty selector matches everything."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def equalities(self) -> dict[str, str]:
        """The labels that must have exactly one value."""
        return {one.key: one.values[0] for one in self.requirements if one.operator is Operator.EQUALS}

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
