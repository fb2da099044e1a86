"""Compile the modules of a package. Run by the interpreter of the release, which has nothing of ours.

Python does not compare the sources with what is compiled here: on a read-only root it would compile at every start.
Docstrings that nobody reads on a host are left out, and so are the columns of a traceback's lines, if the interpreter
runs with `-X no_debug_ranges`: a daemon would keep more than a megabyte of them in memory.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import sys
from pathlib import Path

__all__ = ["compile_folder"]

_UNCHECKED_HASH = 1
"""PEP 552: by the hash of the source, which is not looked at."""
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
READ = (
    "jumpstarter_client/",
    "jumpstarter_controller/cli/",
    "jumpstarter_drivers/",
    "jumpstarter_exporter/cli/",
)
"""Where `--help` and the descriptions of a driver's methods have their words from: all docstrings stay."""


def compile_folder(folder: Path, installed: str, own: frozenset[str]) -> None:
    """Compile all modules; `installed` is what it is on a host, `own` the packages of this project.

    Raises:
        SyntaxError: a file is not for this version of Python.
    """
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        inside = path.relative_to(folder)
        tree = ast.parse(source, str(inside))
        if inside.parts[0] not in own:
            _remove_docstrings(tree, (ast.Module, ast.ClassDef, *_FUNCTIONS))
        elif not str(inside).startswith(READ):
            # A dataclass without one makes one, from its signature.
            _remove_docstrings(tree, (ast.Module, *_FUNCTIONS))
        code = compile(tree, f"{installed}/{inside}", "exec", dont_inherit=True)
        target = Path(importlib.util.cache_from_source(str(path)))
        target.parent.mkdir(exist_ok=True)
        head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
        target.write_bytes(head + importlib.util.source_hash(source) + marshal.dumps(code))


def _remove_docstrings(tree: ast.Module, kinds: tuple[type[_Documented], ...]) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, kinds):
            continue
        while ast.get_docstring(node, clean=False) is not None:  # a string behind it would take its place
            text = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), text))


if __name__ == "__main__":
    compile_folder(Path(sys.argv[1]), sys.argv[2], frozenset(sys.argv[3:]))
