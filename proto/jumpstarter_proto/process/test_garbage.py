"""What a daemon's start has needed is not kept; afterwards modules are imported and errors are shown as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, linecache, sys, traceback
sys.path.insert(0, sys.argv[1])
import attrs, early
from jumpstarter_proto.process import keep_what_is_there

@attrs.define
class Point:
    x: int = attrs.field(validator=attrs.validators.gt(0))

print(len(linecache.cache) > 0, len(sys.path_importer_cache) > 0, gc.get_freeze_count())
keep_what_is_there()
print(len(linecache.cache), len(sys.path_importer_cache), gc.get_freeze_count() > 1000)
import late
try:
    late.fail(Point)
except ValueError:
    print(traceback.format_exc())
"""


def test_what_the_start_has_needed_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("")
    (tmp_path / "late.py").write_text("def fail(make):\n    make(-1)  # the line of a module\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    before, after, *shown = done.stdout.splitlines()
    assert (before, after) == ("True True 0", "0 0 True"), done.stderr
    assert "    make(-1)  # the line of a module" in shown
    assert any(line.endswith("in __init__") for line in shown), "a method that attrs has generated"
