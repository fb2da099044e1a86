"""What others wrote is read and printed by the functions that are made for it, and by nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.rooms import Module, all_modules

YAML_READERS = {
    f"{kind}{name}" for kind in ("", "safe_", "full_", "unsafe_") for name in ("load", "load_all")
} | {"compose", "compose_all", "parse", "scan"}


def written() -> list[Module]:
    return [m for m in all_modules() if not m.is_test and not m.is_generated]


def calls(module: Module) -> Iterator[tuple[str, int]]:
    """Each function of a module that is called as `module.function`, and the line."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
                yield f"{owner}.{name}", node.lineno


def test_yaml_is_read_within_bounds() -> None:
    """By `documents`, which refuses what would grow."""
    readers = {f"yaml.{name}" for name in YAML_READERS}
    found = [
        f"{module.name}:{line}"
        for module in written()
        if not module.name.startswith("jumpstarter_proto.documents")
        for call, line in calls(module)
        if call in readers
    ]
    assert found == [], "use jumpstarter_proto.documents: Document, or load_text"
