"""The text of a selector: `board=rpi4,arch!=arm,site in (a,b),!broken,ram>2`."""

from __future__ import annotations

import re

from jumpstarter_controller.selectors.labels import LabelError, check_key, check_value
from jumpstarter_controller.selectors.selector import Operator, Requirement, Selector, SelectorError

__all__ = ["MAX_SELECTOR_LENGTH", "parse"]

MAX_SELECTOR_LENGTH = 8192
"""Characters; a selector comes from a peer."""

_MAX_SHOWN_LENGTH = 200
_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_SYMBOLS = frozenset(("=", "==", "!=", "!", "(", ")", ",", "<", ">"))


def parse(text: str) -> Selector:
    """Parse with Kubernetes' grammar; empty text matches everything.

    Raises:
        SelectorError: where it stops making sense.
    """
    if len(text) > MAX_SELECTOR_LENGTH:
        raise SelectorError(f"a selector has at most {MAX_SELECTOR_LENGTH} characters")
    if not text.strip():
        return Selector()
    parser = _Parser(text)
    try:
        return Selector.of(parser.requirements())
    except LabelError as error:
        raise SelectorError(f"selector {text[:_MAX_SHOWN_LENGTH]!r}: {error}") from None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def requirements(self) -> list[Requirement]:
        found = [self._requirement()]
        while self._peek() == ",":
            self._at += 1
            found.append(self._requirement())
        if self._peek() is not None:
            raise self._wrong("a comma", self._peek())
        return found

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._at += 1
            return Requirement(self._key(), Operator.DOES_NOT_EXIST)
        key = self._key()
        operator = self._peek()
        if operator is None or operator == ",":
            return Requirement(key, Operator.EXISTS)
        self._at += 1
        match operator:
            case "=" | "==":
                return Requirement(key, Operator.EQUALS, (self._value(key),))
            case "!=":
                return Requirement(key, Operator.NOT_IN, (self._value(key),))
            case "in":
                return Requirement(key, Operator.IN, self._values(key))
            case "notin":
                return Requirement(key, Operator.NOT_IN, self._values(key))
            case "<" | ">":
                value = self._value(key)
                if not re.fullmatch(r"-?[0-9]{1,19}", value):
                    raise self._wrong(f"an integer after {key}{operator}", value)
                return Requirement(key, Operator.LESS if operator == "<" else Operator.GREATER, (value,))
            case _:
                raise self._wrong(
                    f"=, !=, in, notin, <, > or a comma after {key[:_MAX_SHOWN_LENGTH]!r}", operator
                )

    def _key(self) -> str:
        mark = self._next()
        if mark is None or mark in _SYMBOLS or mark in {"in", "notin"}:
            raise self._wrong("a label's key", mark)
        check_key(mark)
        return mark

    def _value(self, key: str) -> str:
        mark = self._peek()
        if mark is None or mark == ",":
            return ""
        if mark in _SYMBOLS:
            raise self._wrong(f"a value for {key!r}", mark)
        self._at += 1
        check_value(key, mark)
        return mark

    def _values(self, key: str) -> tuple[str, ...]:
        if (mark := self._next()) != "(":
            raise self._wrong(f"( and the values of {key!r}", mark)
        values = set[str]()
        while True:
            mark = self._next()
            if mark in {",", ")"}:  # nothing between two marks is the empty value
                values.add("")
            elif mark is None or mark in _SYMBOLS:
                raise self._wrong(f"a value for {key!r}", mark)
            else:
                check_value(key, mark)
                values.add(mark)
                mark = self._next()
                if mark not in {",", ")"}:
                    raise self._wrong("a comma or )", mark)
            if mark == ")":
                return tuple(sorted(values))

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str | None:
        mark = self._peek()
        self._at += 1
        return mark

    def _wrong(self, wanted: str, found: str | None) -> SelectorError:
        what = "its end" if found is None else repr(found[:_MAX_SHOWN_LENGTH])
        return SelectorError(
            f"selector {self._text[:_MAX_SHOWN_LENGTH]!r}: expected {wanted}, found {what}; "
            "write for example board=rpi4,site in (a,b),!broken"
        )
