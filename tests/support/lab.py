"""A lab of real processes on the loopback: a controller, routers, exporters, and the files of its clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.administration import administer

EXPORT = "export:\n  power: {type: power.MockPower}\n"
LIMIT = 60.0


@dataclass
class Lab:
    """Everything in `home`; ends with `stack`."""

    home: Path
    stack: ExitStack
    port: int = field(default_factory=exporters.free_port)
    started: int = 0

    @property
    def data(self) -> Path:
        return self.home / "data"

    def controller(self, *options: str) -> Daemon:
        """`jumpstarter-controller run` on the lab's address, ready."""
        listen = f"127.0.0.1:{self.port}"
        program = exporters.scripts() / "jumpstarter-controller"
        daemon = self.start(program, "run", "--data", self.data, "--listen", listen, *options)
        assert daemon.first_line() == f"Listening on {listen}"
        return daemon

    def start(self, *command: str | Path) -> Daemon:
        """A process with a folder of its own, for its log too."""
        self.started += 1
        home = self.home / f"process-{self.started}"
        home.mkdir()
        return self.stack.enter_context(exporters.running(list(command), home))

    def admin(self, *words: str | Path, fails: bool = False) -> str:
        """What `jumpstarter-controller admin` prints; for one that fails, its sentence."""
        done = administer(self.data, *words)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def client(self, name: str, *options: str) -> Path:
        """A new client's configuration."""
        file = self.home / f"{name}.yaml"
        self.admin("client", "create", name, "--save", file, *options)
        return file

    def exporter(self, name: str, *options: str) -> Daemon:
        """A new exporter with a board `rpi4`, available."""
        file = self.home / f"{name}.yaml"
        self.admin("exporter", "create", name, "--label", "board=rpi4", "--save", file, *options)
        file.write_text(file.read_text().replace("export: {}\n", EXPORT))
        program = exporters.scripts() / "jumpstarter-exporter"
        daemon = self.start(program, "run", "--config", file, "--log-level", "info")
        self.until(lambda: f"{name}  AVAILABLE" in self.admin("exporter", "list"))
        return daemon

    def until(self, holds: Callable[[], bool]) -> None:
        """Look again and again until it is so."""
        end = time.monotonic() + LIMIT
        while not holds():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.02)
