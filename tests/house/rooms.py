"""The project's source files as the house tests see them: packages, modules and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.peers import ROOT

PACKAGES = {
    f"jumpstarter_{room}": ROOT / room / f"jumpstarter_{room}"
    for room in ("proto", "exporter", "drivers", "client", "controller")
} | {"jumpstarter_image": ROOT / "images" / "jumpstarter_image"}
GENERATED = ("_pb2.py", "_grpc.py")


@dataclass(frozen=True)
class Module:
    """One source file and its dotted name."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    def mentions(self, *words: str) -> bool:
        """Whether any stands in the text: asked first, as parsing all files takes seconds of a processor."""
        return any(word in self.text for word in words)

    @property
    def is_test(self) -> bool:
        return self.path.name.startswith("test_") or self.path.name == "conftest.py"

    @property
    def is_generated(self) -> bool:
        return self.path.name.endswith(GENERATED)

    @property
    def package(self) -> str:
        """The dotted name of the package whose names a relative import starts from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    def imports(self) -> set[str]:
        """Everything an import statement names, also inside functions and under TYPE_CHECKING.

        `from a import b` gives `a` and `a.b`, since b may be a module.
        """
        return {name for node in statements(self.tree) for name in self.names(node)}

    def names(self, node: ast.AST) -> Iterator[str]:
        """What one import statement names, absolute; nothing for other statements."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = self.package.split(".")
                above = ".".join(parts[: len(parts) - node.level + 1])
                base = f"{above}.{base}" if base else above
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, also inside functions, without what they consist of."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        inner = [
            one
            for one in ast.iter_child_nodes(waiting.pop())
            if isinstance(one, ast.stmt | ast.ExceptHandler | ast.match_case)
        ]
        yield from inner
        waiting += inner


def modules(package: str) -> list[Module]:
    """Every source file of one of our packages, tests and generated code included."""
    root = PACKAGES[package]
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found.append(Module(path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return found


def all_modules() -> list[Module]:
    return [module for package in PACKAGES for module in modules(package)]


def driver_folders() -> list[Path]:
    """The driver folders: every subpackage of jumpstarter_drivers."""
    return sorted(path.parent for path in PACKAGES["jumpstarter_drivers"].glob("*/__init__.py"))
