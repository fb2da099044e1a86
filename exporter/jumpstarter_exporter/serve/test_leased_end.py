"""The end of a process with a board that is leased."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode

PROGRAM = """
import sys, threading
from pathlib import Path
import trio
from jumpstarter_exporter.config.folder import boards_of, read_file
from jumpstarter_exporter.registration import conftest, registered
from jumpstarter_exporter.serve import host

class Stuck(conftest.Board):
    opens_at_start = True

    async def open(self):
        print("open", flush=True)

    async def close(self):
        print("closing", flush=True)
        await trio.to_thread.run_sync(threading.Event().wait)

if __name__ == "__main__":
    lab = conftest.Lab()
    lab.say("mine")
    registered.Controller = lambda *_, **__: conftest.Wired(lab)
    host.LEASED_END_SECONDS = float(sys.argv[2])
    files = boards_of([read_file(Path(sys.argv[1]))])
    trio.run(host.run, files, Path(sys.argv[1] + ".sock"), None, lambda _: files)
"""


@pytest.mark.kills
@pytest.mark.parametrize(("seconds", "signals", "code"), [(0.1, 1, ExitCode.FAILED), (1000, 2, 143)])
def test_a_device_that_does_not_close_does_not_keep_the_process(
    tmp_path: Path, seconds: float, signals: int, code: int
) -> None:
    """Neither beyond its time, nor when a second signal comes."""
    program = tmp_path / "stuck_board.py"
    program.write_text(PROGRAM)
    file = tmp_path / "exporter.yaml"
    document = {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": "ExporterConfig",
        "metadata": {"namespace": "lab", "name": "one"},
        "endpoint": "lab:8082",
        "token": "token",
        "export": {"board": {"type": "stuck_board.Stuck"}},
    }
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, str(program), str(file), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = (line for line in process.stdout if not line.startswith(("Serving ", "Listening ")))
            for line in ["open\n", "closing\n"][:signals]:
                assert next(said) == line
                process.terminate()
            assert process.wait(60) == code
        finally:
            process.kill()
