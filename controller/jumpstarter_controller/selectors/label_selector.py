"""A selector as Kubernetes' objects have it, a LabelSelector with `matchLabels` and `matchExpressions`, and as text."""

from __future__ import annotations

from typing import Any

import msgspec

from jumpstarter_controller.selectors.grammar import parse
from jumpstarter_controller.selectors.labels import LabelError, check_labels
from jumpstarter_controller.selectors.selector import Operator, Requirement, Selector, SelectorError

__all__ = ["label_selector", "selector_text"]


class _Expression(msgspec.Struct):
    key: str
    operator: str
    values: list[str] | None = None


class _LabelSelector(msgspec.Struct, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Expression] | None = None


_OPERATORS = {one.value: one for one in Operator if one is not Operator.EQUALS}
_WITH_VALUES = {Operator.IN, Operator.NOT_IN, Operator.GREATER, Operator.LESS}


def label_selector(text: str) -> dict[str, Any]:
    """The LabelSelector of a selector's text. SelectorError: it is none."""
    selector = parse(text)
    found: dict[str, Any] = {"matchLabels": selector.equalities} if selector.equalities else {}
    expressions = [
        {"key": one.key, "operator": one.operator.value}
        | ({"values": list(one.values)} if one.values else {})
        for one in selector.requirements
        if one.operator is not Operator.EQUALS
    ]
    return found | ({"matchExpressions": expressions} if expressions else {})


def selector_text(data: object) -> str:
    """The canonical text of a LabelSelector; None is the empty one.

    Raises:
        SelectorError: Kubernetes would not take it; says why.
    """
    try:
        given = msgspec.convert({} if data is None else data, _LabelSelector)
    except msgspec.ValidationError as error:
        raise SelectorError(str(error)) from None
    found = [Requirement(key, Operator.EQUALS, (value,)) for key, value in (given.match_labels or {}).items()]
    for one in given.match_expressions or ():
        operator = _OPERATORS.get(one.operator)
        if operator is None:
            raise SelectorError(f"{one.operator[:80]!r} is none of {', '.join(_OPERATORS)}")
        if bool(one.values) != (operator in _WITH_VALUES):
            raise SelectorError(f"{one.operator} {'takes no values' if one.values else 'needs values'}")
        found.append(Requirement(one.key, operator, tuple(sorted(set(one.values or ())))))
    try:
        for requirement in found:
            for value in requirement.values or ("",):
                check_labels({requirement.key: value})
    except LabelError as error:
        raise SelectorError(str(error)) from None
    text = str(Selector.of(found))
    parse(text)  # of comparisons, for example, each has one number
    return text
