"""The modules of a package are compiled by an interpreter that has nothing of ours, and run by it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from jumpstarter_deb import bytecode

OURS = tuple(
    f"jumpstarter_{name}" for name in ("proto", "exporter", "drivers", "client", "controller", "udev")
)
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
class Record:
    """About the record."""
    def change(self):
        """About a change."""
def command():
    """What --help prints."""
'''
READ = """
import importlib, inspect, sys
sys.path.insert(0, sys.argv[1])
from jumpstarter_controller.cli.commands import app as controller
from jumpstarter_exporter.cli.commands import app as exporter
from jumpstarter_exporter.config.types import known_types, resolve
from jumpstarter_exporter.decorators import summarize
from jumpstarter_proto.driver_packages import all_packages
from jumpstarter_proto.yaml_files import load_text
def walk(app, words):
    print(*words, app.help)
    for name in sorted(app):
        if not name.startswith("-"):
            walk(app[name], [*words, name])
for app in (controller, exporter):
    walk(app, list(app.name))
for name in sorted(known_types()):
    print(name, summarize(resolve(name)))
paths = {path for package in all_packages() for path in package.clients.values()}
for module, _, name in sorted(path.rpartition(".") for path in paths):
    client = getattr(importlib.import_module(module), name)
    for kind in client.__mro__:
        print(kind, [function.__doc__ for function in vars(kind).values() if inspect.isfunction(function)])
print(load_text.__doc__ is None)
"""
USE = """
import sys, asyncio
sys.path.insert(0, sys.argv[1])
import traceback, library, library.part, ours.part, jumpstarter_exporter.cli.run as printed
print(library.__doc__, library.Thing.__doc__, library.Thing.wait.__doc__, library.check.__doc__)
print(asyncio.run(library.Thing().wait()), library.part.__doc__)
print(library.Thing.__annotations__)
for module in (ours.part, printed):
    print(module.__doc__, module.Record.__doc__, module.Record.change.__doc__, module.command.__doc__)
try:
    library.check(0)
except AssertionError as error:
    last = traceback.extract_tb(error.__traceback__)[-1]
    print(error, last.filename, last.lineno)
"""


def _compile(folder: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-IS", "-X", "no_debug_ranges", bytecode.__file__]
    command = [*program, str(folder), "/usr/lib/some/lib", "ours", *OURS]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_docstrings_stay_where_somebody_reads_them(tmp_path: Path) -> None:
    for name, text in {
        "library/__init__.py": LIBRARY,
        "library/part.py": '"""Nothing else."""',
        "ours/__init__.py": "",
        "ours/part.py": OWN,
        "jumpstarter_exporter/cli/run.py": OWN,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    assert _compile(tmp_path).returncode == 0
    compiled = [path.read_bytes() for path in tmp_path.rglob("*.pyc")]
    assert len(compiled) == 5
    assert not any(bytes(tmp_path) in data for data in compiled), "two builds would differ"
    # Not what is compiled at the import: that is not compared with its source.
    (tmp_path / "library/__init__.py").write_text("raise SystemExit('the source was compiled')")
    command = [sys.executable, "-IS", "-c", USE, str(tmp_path)]
    used = subprocess.run(command, capture_output=True, text=True, check=False)
    assert used.stdout.splitlines() == [
        "None None None None",
        "None None",
        "{'size': <class 'int'>}",
        "None About the record. None None",
        "About ours. About the record. About a change. What --help prints.",
        f"asserts stay {tmp_path}/library/__init__.py 11",
    ], used.stderr


def test_help_and_the_methods_of_drivers_have_their_words(tmp_path: Path) -> None:
    rooms = Path(__file__).parents[2]
    for name in OURS:
        source = rooms / name.removeprefix("jumpstarter_") / name
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    assert _compile(tmp_path).returncode == 0

    def read(*options: str) -> list[str]:
        command = [sys.executable, *options, "-c", READ, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    *compiled, is_lean = read()
    *source_words, has_none = read("-X", f"pycache_prefix={tmp_path / 'cache'}")
    assert compiled == source_words
    assert len(compiled) > 300
    assert (is_lean, has_none) == ("True", "False")


def test_a_file_for_another_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("print 'hello'\n")
    done = _compile(tmp_path)
    assert done.returncode != 0
    assert "old.py" in done.stderr
