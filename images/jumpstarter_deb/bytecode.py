"""Compile the modules of a package. Run by the interpreter of the release, which has nothing of ours.

Python does not compare the sources with what is compiled here: on a read-only root it would compile at every start.
The modules of libraries are compiled without their docstrings, which nobody reads on a host: a daemon would keep a
megabyte of them in memory. Ours stay, because `--help` is made from them.
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
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def compile_folder(folder: Path, installed: str, own: frozenset[str]) -> None:
    """Compile all modules; `installed` is what it is on a host, `own` the packages that keep docstrings.

    Raises:
        SyntaxError: a file is not for this version of Python.
    """
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        inside = path.relative_to(folder)
        tree = ast.parse(source, str(inside))
        if inside.parts[0] not in own:
            _remove_docstrings(tree)
        code = compile(tree, f"{installed}/{inside}", "exec", dont_inherit=True)
        target = Path(importlib.util.cache_from_source(str(path)))
        target.parent.mkdir(exist_ok=True)
        head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
        target.write_bytes(head + importlib.util.source_hash(source) + marshal.dumps(code))


def _remove_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, _DOCUMENTED):
            continue
        while ast.get_docstring(node, clean=False) is not None:  # a string behind it would take its place
            text = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), text))


if __name__ == "__main__":
    compile_folder(Path(sys.argv[1]), sys.argv[2], frozenset(sys.argv[3:]))
