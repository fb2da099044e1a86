"""A driver forks a child, as Python's multiprocessing does. The child outlives the exporter and keeps nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.interop import exporters

FORKING = """
import os, signal
from dataclasses import dataclass
from jumpstarter_exporter.driver import Driver, export

@dataclass(kw_only=True, eq=False)
class Forking(Driver):
    client = "jumpstarter_driver_power.client.PowerClient"
    interface = "power"
    child: str

    @export
    def on(self) -> None:
        pid = os.fork()
        if pid == 0:
            os.closerange(0, 3)
            signal.pause()
            os._exit(0)
        with open(self.child, "a") as file:
            print(pid, file=file)
"""


class Host:
    """An exporter with the boards forking and good, without a controller."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self._stack = home, stack
        self._children = home / "children"
        self._children.touch()
        self._address = f"127.0.0.1:{exporters.free_port()}"
        self._files = home / ".config" / "jumpstarter" / "exporters"
        self._files.mkdir(parents=True)
        (home / "installed").mkdir()
        (home / "installed" / "forking.py").write_text(FORKING)
        forking = f"{{type: forking.Forking, config: {{child: {self._children}}}}}"
        (self._files / "forking.yaml").write_text(f"export: {{power: {forking}}}\n")
        self.write_good("")
        stack.callback(self._end_children)

    def _end_children(self) -> None:
        for line in self._children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)

    def write_good(self, comment: str) -> None:
        (self._files / "good.yaml").write_text(f"export: {{power: {{type: power.MockPower}}}}\n# {comment}\n")

    def start(self) -> exporters.Daemon:
        command = [
            exporters.scripts() / "jumpstarter-exporter",
            "run",
            "--insecure",
            "--listen",
            self._address,
        ]
        installed = {"PYTHONPATH": str(self.home / "installed")}
        daemon = self._stack.enter_context(exporters.running(command, self.home, environment=installed))
        assert daemon.first_line().startswith("Listening on ")
        return daemon

    def ok(self, *words: str) -> str:
        program, *options = words
        done = subprocess.run(
            [exporters.scripts() / program, *options],
            env=exporters.clean_environment(self.home),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def power_on(self, board: str) -> None:
        self.ok("jumpstarter", "power", "on", "--board", board)


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="host-") as home, ExitStack() as stack:
        yield Host(Path(home), stack)


def test_a_child_of_one_board_keeps_neither_its_neighbours_nor_the_next_exporter_from_starting(
    host: Host,
) -> None:
    daemon = host.start()
    host.power_on("forking")
    host.write_good("changed")
    assert "good: restarted\n" in host.ok("jumpstarter-exporter", "reload")
    daemon.process.kill()
    daemon.process.wait()
    host.start()
    for board in ("forking", "good"):
        host.power_on(board)
