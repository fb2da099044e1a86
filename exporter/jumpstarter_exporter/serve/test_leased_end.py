"""The end of a process with a board that is leased."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.cli.drain import drain_boards

PROGRAM = """
import sys, threading
from pathlib import Path
import trio
from jumpstarter_exporter.config.folder import boards_of, read_file
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.registration import conftest
from jumpstarter_exporter.registration import registered_exporter
from jumpstarter_exporter.serve import host

class Stuck(conftest.Board):
    opens_at_start = True

    async def open(self):
        print("open", flush=True)

    async def close(self):
        print("closing", flush=True)
        await trio.to_thread.run_sync(threading.Event().wait)

class StuckCore(Core):
    opens_at_start = True
    open, close = Stuck.open, Stuck.close

class Kept(conftest.Board):
    core_of = StuckCore

if __name__ == "__main__":
    lab = conftest.Lab()
    lab.say(sys.argv[3])
    registered_exporter.ControllerConnection = lambda *_, **__: conftest.Wired(lab)
    host.LEASED_END_SECONDS = host.END_SECONDS = float(sys.argv[2])
    files = boards_of([read_file(Path(sys.argv[1]))])
    trio.run(host.run, files, Path(sys.argv[1] + ".sock"), None, lambda _: files)
"""


@contextmanager
def running(folder: Path, seconds: float, kind: str, *, lease: str = "") -> Iterator[subprocess.Popen[str]]:
    """An exporter with a device that does not close, whose end may take so long."""
    program = folder / "stuck_board.py"
    program.write_text(PROGRAM)
    file = folder / "exporter.yaml"
    document = {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": "ExporterConfig",
        "metadata": {"namespace": "lab", "name": "one"},
        "endpoint": "lab:8082",
        "token": "token",
        "export": {"board": {"type": f"stuck_board.{kind}"}},
    }
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, str(program), str(file), str(seconds), lease]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.kills
def test_drained_to_its_end_it_waits_no_longer_for_such_a_device_and_says_for_which(tmp_path: Path) -> None:
    with running(tmp_path, 3.5, "Kept") as process:
        assert process.stdout is not None
        said = (line for line in process.stdout if not line.startswith(("Serving ", "Listening ")))
        assert next(said) == "open\n"
        drain_boards([], exit_after=True, socket=tmp_path / "exporter.yaml.sock")
        _, log = process.communicate(timeout=60)
    assert process.returncode == ExitCode.FAILED
    assert "the exporter waits for the device board to close, for 0.5 s more at most" in log
    assert "the device board did not close within 3.5 s; the hardware keeps its state" in log


@pytest.mark.kills
@pytest.mark.parametrize(("seconds", "signals", "code"), [(0.1, 1, ExitCode.FAILED), (1000, 2, 143)])
def test_a_device_that_does_not_close_does_not_keep_the_process(
    tmp_path: Path, seconds: float, signals: int, code: int
) -> None:
    """Neither beyond its time, nor when a second signal comes."""
    with running(tmp_path, seconds, "Stuck", lease="mine") as process:
        assert process.stdout is not None
        said = (line for line in process.stdout if not line.startswith(("Serving ", "Listening ")))
        for line in ["open\n", "closing\n"][:signals]:
            assert next(said) == line
            process.terminate()
        assert process.wait(60) == code
