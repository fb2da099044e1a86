"""`jumpstarter-controller admin` without a process of its own: labs use it for each client, exporter and status.

It is the same command line, from its arguments to what it prints and its exit code, over the same socket. In
tests/faults it is a process.
"""

from __future__ import annotations

import io
import subprocess
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from jumpstarter_controller.cli import main

LIMIT = 60.0


def administer(data: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What `jumpstarter-controller admin words...` did to the data folder of a controller, whether that runs or not."""
    arguments = ["admin", *map(str, words), "--data", str(data)]
    out, err = io.StringIO(), io.StringIO()
    codes: list[int] = []

    def run() -> None:
        try:
            main(arguments)
        except SystemExit as end:
            codes.append(int(end.code or 0))

    # In a thread of its own: the test may be running a trio loop in this one.
    thread = threading.Thread(target=run, name="administration")
    with redirect_stdout(out), redirect_stderr(err):
        thread.start()
        thread.join(LIMIT)
    assert codes, f"{arguments} has not ended: {err.getvalue()}"
    return subprocess.CompletedProcess(arguments, codes[0], out.getvalue(), err.getvalue())
