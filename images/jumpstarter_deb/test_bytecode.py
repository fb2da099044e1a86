"""The modules of a package are compiled by an interpreter that has nothing of ours, and run by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jumpstarter_deb import bytecode

LIBRARY = '''"""About the library."""
class Thing:
    """About the thing."""
    size: int = 1
    async def wait(self):
        """Only this."""
def check(value):
    """About the check."""
    "not a docstring"
    level: int = value
    assert value, "asserts stay"
'''
OWN = '''"""About ours."""
def command():
    """What --help prints."""
'''
USE = """
import sys, asyncio
sys.path.insert(0, sys.argv[1])
import traceback, library, library.part, ours.cli
print(library.__doc__, library.Thing.__doc__, library.Thing.wait.__doc__, library.check.__doc__)
print(asyncio.run(library.Thing().wait()), library.part.__doc__)
print(library.Thing.__annotations__)
print(ours.cli.__doc__, ours.cli.command.__doc__)
try:
    library.check(0)
except AssertionError as error:
    last = traceback.extract_tb(error.__traceback__)[-1]
    print(error, last.filename, last.lineno)
"""


def _compile(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", bytecode.__file__, str(folder), "/usr/lib/some/lib", "ours"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_libraries_have_no_docstrings_and_ours_have(tmp_path: Path) -> None:
    for name, text in {
        "library/__init__.py": LIBRARY,
        "library/part.py": '"""Nothing else."""',
        "ours/__init__.py": "",
        "ours/cli.py": OWN,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _compile(tmp_path).returncode == 0
    compiled = [path.read_bytes() for path in tmp_path.rglob("*.pyc")]
    assert len(compiled) == 4
    assert not any(bytes(tmp_path) in data for data in compiled), "two builds would differ"
    # Not what is compiled at the import: that is not compared with its source.
    (tmp_path / "library/__init__.py").write_text("raise SystemExit('the source was compiled')")
    command = [sys.executable, "-IS", "-c", USE, str(tmp_path)]
    used = subprocess.run(command, capture_output=True, text=True, check=False)
    assert used.stdout.splitlines() == [
        "None None None None",
        "None None",
        "{'size': <class 'int'>}",
        "About ours. What --help prints.",
        f"asserts stay {tmp_path}/library/__init__.py 11",
    ], used.stderr


def test_a_file_for_another_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("print 'hello'\n")
    done = _compile(tmp_path)
    assert done.returncode != 0
    assert "old.py" in done.stderr
