"""No file and no room imports itself through others: what is loaded at import time has one direction.

A room is a folder of a package (`jumpstarter_exporter.devices`); all files at the top of a package are one room.
Imports inside functions and under TYPE_CHECKING do not count, as they are not executed when a module is loaded.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from tests.house.rooms import PACKAGES, Module, modules

Graph = Mapping[str, AbstractSet[str]]

KNOWN_ROOM_CIRCLES: tuple[frozenset[str], ...] = ()
"""Circles that are still to be removed. Add none. The commit that breaks a circle deletes its entry: an entry without a
circle fails the test."""


def test_no_file_imports_itself_through_others() -> None:
    assert [circle for package in PACKAGES for circle in circles(file_graph(package))] == []


def test_no_room_imports_itself_through_others() -> None:
    found = [frozenset(circle) for package in PACKAGES for circle in circles(room_graph(package))]
    new = [sorted(circle) for circle in found if not any(circle <= known for known in KNOWN_ROOM_CIRCLES)]
    assert new == []
    removed = [sorted(known) for known in KNOWN_ROOM_CIRCLES if not any(circle <= known for circle in found)]
    assert removed == [], "these circles are gone: delete their entries in KNOWN_ROOM_CIRCLES"


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}, "g": set()}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize(
    ("line", "loads"),
    [
        ("import p.a", {"p.a"}),
        ("from p import a", {"p.a"}),
        ("from p.a import name", {"p.a"}),
        ("from . import a", {"p.a"}),
        ("try:\n  import p.a\nexcept ImportError:\n  import p.b", {"p.a", "p.b"}),
        ("if TYPE_CHECKING:\n  import p.a\nelse:\n  import p.b", {"p.b"}),
        ("class C:\n  import p.a", {"p.a"}),
        ("def f():\n  import p.a", set()),
        ("async def f():\n  import p.a", set()),
    ],
)
def test_imports_that_are_executed_when_a_module_is_loaded(
    line: str, loads: set[str], tmp_path: Path
) -> None:
    (tmp_path / "__init__.py").write_text(line + "\n")
    assert loaded(Module(tmp_path / "__init__.py", "p"), {"p.a", "p.b"}) == loads


@functools.cache
def file_graph(package: str) -> Graph:
    sources = {module.name: module for module in modules(package) if not module.is_test}
    return {name: loaded(module, sources.keys()) - {name} for name, module in sources.items()}


def room_graph(package: str) -> Graph:
    folders = {module.name for module in modules(package) if module.path.name == "__init__.py"}
    graph: dict[str, set[str]] = {}
    for name, loaded in file_graph(package).items():
        graph.setdefault(_room(name, folders), set()).update(_room(other, folders) for other in loaded)
    return {room: others - {room} for room, others in graph.items()}


def circles(graph: Graph) -> list[list[str]]:
    """The groups in which each member reaches all others, of two members and more (strongly connected components)."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in graph if other in reached[name] and name in reached[other]))
        for name in graph
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _room(name: str, folders: AbstractSet[str]) -> str:
    package, *below = name.split(".")
    folder = f"{package}.{below[0]}" if below else package
    return folder if folder in folders else package


def loaded(module: Module, known: AbstractSet[str]) -> set[str]:
    """The modules of `known` that this one loads: for `from a import b` that is `a.b` if it is a module, else `a`."""
    found: set[str] = set()
    for statement in _executed(module.tree.body):
        names = list(module.names(statement))
        if isinstance(statement, ast.ImportFrom):
            base, *names = names
            names = [name if name in known else base for name in names]
        found |= set(names) & known
    return found


def _executed(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that loading a module executes, those of its classes and branches included."""
    for statement in statements:
        match statement:
            case ast.If():
                if "TYPE_CHECKING" not in ast.dump(statement.test):
                    yield from _executed(statement.body)
                yield from _executed(statement.orelse)
            case ast.Try():
                yield from _executed(statement.body)
                for handler in statement.handlers:
                    yield from _executed(handler.body)
                yield from _executed(statement.orelse)
                yield from _executed(statement.finalbody)
            case ast.With() | ast.ClassDef():
                yield from _executed(statement.body)
            case ast.Import() | ast.ImportFrom():
                yield statement
