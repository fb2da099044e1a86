"""Reads test files strictly: every error has its line and column and is found without a board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jumpstarter_proto.durations import TimeFormatError, parse_duration
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.yaml_files import (
    Document,
    Mistakes,
    PathInFile,
    check_keys,
    check_value,
    kind_of,
    nearest,
)

from jumpstarter_client.yamltest.model import BoardTest, Group, Item, Requires, StepCall
from jumpstarter_client.yamltest.steps import COMMON, StepType, known_steps
from jumpstarter_client.yamltest.variables import (
    NAME_HINT,
    InvalidReferenceError,
    UnknownVariableError,
    check_references,
    is_name,
    names,
    substitute,
)

__all__ = ["TOP", "locate", "read"]

TOP = frozenset(
    {
        "name",
        "description",
        "board",
        "requires",
        "variables",
        "timeout",
        "steps",
        "always",
        "apiVersion",
        "kind",
    }
)
GROUP = frozenset({"name", "retries", "delay", "group"})


def read(file: Path, given: Mapping[str, Any] | None = None) -> BoardTest:
    """Read a test, with the `given` values of its variables.

    Raises:
        ConfigError: a step or key is unknown, a type is wrong, a variable is not set, or the file is not YAML.
    """
    mistakes = Mistakes()
    return _Reader(Document(file, "steps", mistakes=mistakes), dict(given or {}), mistakes).test()


class _Reader:
    def __init__(self, document: Document, given: dict[str, Any], mistakes: Mistakes) -> None:
        self._document = document
        self._given = given
        self._mistakes = mistakes
        """In steps; the reader goes on behind them."""
        self._known: dict[str, Any] = {}
        """The variables that have a value before the test runs."""
        self._captured: set[str] = set()
        """The variables that earlier steps set."""

    def test(self) -> BoardTest:
        document, data, mistakes = self._document, self._document.data, self._mistakes
        with mistakes.collected():
            check_keys(document, data, TOP, ())
        variables: dict[str, Any] | None = None
        with mistakes.collected():
            variables = check_value(document, data.get("variables") or {}, dict[str, Any], ("variables",))
        if variables is None:  # every reference would be wrong
            mistakes.check()
            raise AssertionError
        for wrong in (name for name in self._given if name not in variables):
            sentence = f"this test has no variable {wrong!r}; {nearest(wrong, variables)}"
            mistakes.add(document.error(("variables",), sentence))
        self._known = self._resolved(variables)
        steps: tuple[Item, ...] = ()
        always: tuple[Item, ...] = ()
        with mistakes.collected():
            if data.get("steps"):
                steps = self._items(data["steps"], ("steps",))
            elif data.keys() <= TOP:  # a wrong key may be meant
                raise document.error(("steps",), "the test has no steps; add some below `steps:`")
        with mistakes.collected():
            always = self._items(data.get("always") or [], ("always",))
        texts: dict[str, str | None] = {}
        for key in ("name", "description", "board"):
            with mistakes.collected():
                texts[key] = self._text(key)
        requires = Requires()
        with mistakes.collected():
            requires = self._requires(data.get("requires"), ("requires",))
        seconds: float | None = None
        with mistakes.collected():
            seconds = self._duration(data["timeout"], ("timeout",)) if "timeout" in data else None
        mistakes.check()
        return BoardTest(
            document=document,
            name=texts["name"] or document.file.stem,
            description=texts["description"] or "",
            board=texts["board"],
            requires=requires,
            variables=self._known,
            seconds=seconds,
            steps=steps,
            always=always,
        )

    def _resolved(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Resolve variables; each may use the ones above it. One with a mistake has no value, but is known."""
        resolved: dict[str, Any] = {}
        for name, value in variables.items():
            used = self._given.get(name, value)
            if self._captured.intersection(names(used)):
                self._captured.add(name)
                continue
            try:
                check_references(value)
                resolved[name] = substitute(used, resolved)
            except (UnknownVariableError, InvalidReferenceError) as error:
                hint = (
                    "; a variable may use those above it" if isinstance(error, UnknownVariableError) else ""
                )
                self._mistakes.add(self._document.error(("variables", name), f"{error}{hint}"))
                self._captured.add(name)
        return resolved

    def _text(self, key: str) -> str | None:
        value = self._document.data.get(key)
        if value is None:
            return None
        text: str = check_value(self._document, self._known_value(value, (key,)), str, (key,))
        return text

    def _known_value(self, value: Any, place: PathInFile) -> Any:
        try:
            check_references(value)
            return substitute(value, self._known)
        except (UnknownVariableError, InvalidReferenceError) as error:
            raise self._document.error(place, str(error)) from None

    def _duration(self, value: Any, place: PathInFile) -> float:
        try:
            return parse_duration(self._known_value(value, place), allow_zero=True)
        except TimeFormatError as error:
            raise self._document.error(place, str(error)) from None

    def _requires(self, data: Any, place: PathInFile) -> Requires:
        if data is None:
            return Requires()
        if not isinstance(data, Mapping):
            raise self._document.error(
                place, f"this is {kind_of(data)}; it takes `interfaces:` and `labels:`"
            )
        check_keys(self._document, data, frozenset({"interfaces", "labels"}), place)
        return Requires(
            tuple(
                check_value(self._document, data.get("interfaces") or [], list[str], (*place, "interfaces"))
            ),
            check_value(self._document, data.get("labels") or {}, dict[str, str], (*place, "labels")),
        )

    def _items(self, data: Any, place: PathInFile) -> tuple[Item, ...]:
        if not isinstance(data, list):
            raise self._document.error(
                place, f"this is {kind_of(data)}; it takes a list of steps, each behind a `-`"
            )
        items = []
        for index, one in enumerate(data):
            with self._mistakes.collected():
                items.append(self._item(one, (*place, index)))
            # Also after a mistake, which must not make the steps that use its variables wrong.
            self._captured |= _sets(one)
        return tuple(items)

    def _item(self, data: Any, place: PathInFile) -> Item:
        document, known = self._document, known_steps()
        if isinstance(data, str):
            data = {data: None}
        if not isinstance(data, Mapping):
            raise document.error(
                place, f"this is {kind_of(data)}; a step starts with its action, such as `power.on:`"
            )
        if "group" in data:
            return self._group(data, place)
        does = [key for key in data if key not in COMMON]
        if not does:
            raise document.error(place, "this step has no action; add one, such as `power.on:`")
        for key in does:
            if key not in known:
                raise document.error(
                    (*place, key), f"unknown step {key!r}; {nearest(key, [*known, 'group'])}"
                )
        if len(does) > 1:
            raise document.error(
                (*place, does[1]),
                f"a step has one action, and this one has {' and '.join(does)}; write several steps",
            )
        return self._call(known[does[0]], data, place)

    def _group(self, data: Mapping[str, Any], place: PathInFile) -> Group:
        check_keys(self._document, data, GROUP, place, "beside `group`")
        steps = self._items(data["group"], (*place, "group"))
        title = check_value(self._document, data.get("name") or "group", str, (*place, "name"))
        return Group(place, title, *self._tries(data, place), steps)

    def _tries(self, data: Mapping[str, Any], place: PathInFile) -> tuple[int, float]:
        retries: int = check_value(self._document, data.get("retries", 0), int, (*place, "retries"))
        if not 0 <= retries <= 1000:
            raise self._document.error((*place, "retries"), f"retries is {retries}; it takes 0 to 1000")
        return retries, self._duration(data.get("delay", 0), (*place, "delay"))

    def _call(self, step: StepType, data: Mapping[str, Any], place: PathInFile) -> StepCall:
        document, mistakes = self._document, Mistakes()
        given = data[step.name]
        with mistakes.collected():
            self._check_arguments(step, given, (*place, step.name))
        named: str | None = None
        with mistakes.collected():
            named = self._device(step, data.get("device"), (*place, "device"))
        capture: str | None = None
        with mistakes.collected():
            capture = check_value(document, data.get("capture"), str | None, (*place, "capture"))
            if capture is not None and not is_name(capture):
                raise document.error((*place, "capture"), f"{capture!r} is not a name; {NAME_HINT}")
        seconds, title, tries = step.seconds, "", (0, 0.0)
        with mistakes.collected():
            seconds = self._duration(data["timeout"], (*place, "timeout")) if "timeout" in data else seconds
        with mistakes.collected():
            name: str | None = check_value(document, data.get("name"), str | None, (*place, "name"))
            title = name or _title(step, given)
        with mistakes.collected():
            tries = self._tries(data, place)
        mistakes.check()
        return StepCall(place, title, *tries, step, given, named, seconds, capture)

    def _check_arguments(self, step: StepType, given: Any, place: PathInFile) -> None:
        try:
            arguments = step.arguments(self._document, given, place, self._known, self._captured)
        except (UnknownVariableError, InvalidReferenceError) as error:
            raise self._document.error(place, str(error)) from None
        self._check_files(step, arguments, place)

    def _device(self, step: StepType, device: Any, place: PathInFile) -> str | None:
        if device is None:
            return None
        if not step.interface:
            raise self._document.error(place, f"{step.name} needs no device; leave it out")
        name: str = check_value(self._document, self._known_value(device, place), str, place)
        return name

    def _check_files(self, step: StepType, arguments: dict[str, Any], place: PathInFile) -> None:
        for key in step.files:
            name = arguments.get(key)
            if not isinstance(name, str) or "://" in name:
                continue
            path = locate(self._document.file, name)
            if not path.is_file():
                raise self._document.error(place, f"file {path} not found; check the path")


def locate(test: Path, name: str) -> Path:
    """Find a file that a test names: beside the test, or else in the current folder."""
    beside = test.parent / user_path(name)
    here = user_path(name)
    return here if here.is_file() and not beside.is_file() else beside


def _sets(data: Any) -> set[str]:
    """Return the variables that a step sets, as far as it is written well."""
    if isinstance(data, list):
        return set().union(*map(_sets, data))
    if not isinstance(data, Mapping):
        return set()
    found = _sets(data.get("group"))
    given = [*data["set"]] if isinstance(data.get("set"), Mapping) else []
    return found | {name for name in (*given, data.get("capture")) if isinstance(name, str)}


def _title(step: StepType, given: Any) -> str:
    if isinstance(given, Mapping):
        given = next(iter(given.values()), None)
    text = "" if given is None else " ".join(str(given).split())
    return f"{step.name} {text}".rstrip() if len(text) <= 60 else f"{step.name} {text[:57]}..."
