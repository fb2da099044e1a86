"""How much a YAML text may hold, counted before anything of it is built: aliases multiply, and each node costs."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Loader",
    "OddValueError",
    "TooMuchError",
    "check_bounds",
    "load_text",
]

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 1024 * 1024
"""What people write is smaller; a disk image given by mistake is not."""
MAX_NODES = 50_000
"""Values, keys, lists and mappings of a file, each as often as aliases name it; a large lab's has hundreds."""
MAX_DEPTH = 100
"""Lists and mappings in each other."""
MAX_NUMBER_LENGTH = 100
"""Characters of a number or a time: to read one of a million digits takes minutes."""
_SHOWN = 40
"""Characters of a value that a message shows."""
_NUMBERS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_ODD_VALUE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What PyYAML's constructors raise about a value that is not of its type, such as the 45th of a month."""


class TooMuchError(yaml.MarkedYAMLError):
    """The text holds more than anybody writes, or contains itself."""


class OddValueError(yaml.MarkedYAMLError):
    """A value is not of the type that its tag or its looks say. The problem says what to do."""


class Loader(_SafeLoader):  # type: ignore[misc]  # one of two classes
    """PyYAML's safe one, whose errors about values are all its own, and have a place."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A node's value.

        Raises:
            OddValueError: it is not of its type, or of one that we do not know.
        """
        try:
            return super().construct_object(node, deep)
        except OddValueError:
            raise
        except (*_ODD_VALUE, yaml.constructor.ConstructorError) as error:
            raise _odd(node, error) from None

    def construct_document(self, node: Any) -> Any:
        """A whole document's value: what is in lists and mappings is made after them."""
        try:
            return super().construct_document(node)
        except _ODD_VALUE as error:
            raise _odd(node, error) from None


def check_bounds(text: str) -> None:
    """Read the text's structure, and no further than it keeps the bounds.

    Raises:
        TooMuchError: it does not keep them; says which, and where.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError("it is larger than 1 MiB")
    loader = Loader(text)
    try:
        _Counter(loader).count()
    finally:
        loader.dispose()


class _Counter:
    """Counts what the events of one text stand for."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._total = 0
        self._open: list[tuple[str | None, int]] = []
        """The anchor of each list or mapping that has not ended, and the total at its begin."""
        self._sizes: dict[str, int | None] = {}
        """By anchor; None while what it names has not ended."""

    def count(self) -> None:
        while self._loader.check_event():
            event = self._loader.get_event()
            match event:
                case yaml.AliasEvent():
                    self._add(self._size(event), event)
                case yaml.ScalarEvent():
                    self._check_number(event)
                    self._add(1, event)
                    if event.anchor:
                        self._sizes[event.anchor] = 1
                case yaml.CollectionStartEvent():
                    self._add(1, event)
                    self._begin(event)
                case yaml.CollectionEndEvent():
                    anchor, before = self._open.pop()
                    if anchor:
                        self._sizes[anchor] = self._total - before
                case yaml.DocumentStartEvent():
                    self._sizes.clear()

    def _add(self, nodes: int, event: Any) -> None:
        self._total += nodes
        if self._total > MAX_NODES:
            raise _too_much(f"it holds more than {MAX_NODES} values, including those of aliases", event)

    def _begin(self, event: Any) -> None:
        self._open.append((event.anchor, self._total - 1))
        if event.anchor:
            self._sizes[event.anchor] = None
        if len(self._open) > MAX_DEPTH:
            raise _too_much(f"it is more than {MAX_DEPTH} levels deep", event)

    def _size(self, event: Any) -> int:
        size = self._sizes.get(event.anchor, 1)  # without its anchor, it is an error of whoever composes it
        if size is None:
            raise _too_much(f"the alias {event.anchor[:40]!r} contains itself", event)
        return size

    def _check_number(self, event: Any) -> None:
        if len(event.value) <= MAX_NUMBER_LENGTH:
            return
        tag = event.tag
        if tag is None and event.implicit[0]:
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag in _NUMBERS:
            raise _too_much(f"a number of more than {MAX_NUMBER_LENGTH} characters", event)


def _too_much(problem: str, event: Any) -> TooMuchError:
    return TooMuchError(problem=problem, problem_mark=event.start_mark)


def _odd(node: Any, error: Exception) -> yaml.MarkedYAMLError:
    name = node.tag.removeprefix("tag:yaml.org,2002:")
    if node.tag not in Loader.yaml_constructors:
        what = f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')!r} is not known; leave it out"
    elif isinstance(node, yaml.ScalarNode):
        value = node.value if len(node.value) <= _SHOWN else f"{node.value[: _SHOWN - 3]}..."
        what = f"{value!r} is not a valid {name}; change it, or put it in quotes without a tag if it is text"
    elif isinstance(error, yaml.constructor.ConstructorError):
        return error
    else:
        what = f"this is not a valid {name} ({error}); change it"
    return OddValueError(problem=what, problem_mark=node.start_mark)


def load_text(text: str) -> Any:
    """The data in a text of one document, of which the places of its values do not matter.

    Raises:
        yaml.YAMLError: it is not YAML, or does not keep the bounds.
    """
    check_bounds(text)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe one
    except RecursionError as error:
        raise yaml.YAMLError(f"it is too deep: {error}") from None
