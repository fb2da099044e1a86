"""A lab of this project's own parts: a controller with its router, exporters and users, each a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.administration import administer

LIMIT = 60.0
EXPORT = "export:\n  rpi4:\n    type: virtual.VirtualBoard\n    config: {boot_seconds: 0}\n"


@dataclass
class Lab:
    """A controller, and whoever joins it."""

    home: Path
    stack: ExitStack
    options: tuple[str, ...] = ()
    """More of the controller's."""
    controller: Daemon = field(init=False)
    exporters: dict[str, Daemon] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = [exporters.free_port() for _ in range(2)]
        self._command: exporters.Command = [
            exporters.scripts() / "jumpstarter-controller",
            "run",
            "--with-router",
            "--data",
            self.home / "data",
            "--listen",
            f"127.0.0.1:{ports[0]}",
            "--router-listen",
            f"127.0.0.1:{ports[1]}",
            *self.options,
        ]
        self.start_controller()

    def start_controller(self) -> None:
        self.controller = self.stack.enter_context(exporters.running(self._command, self.home))
        assert self.controller.first_line().startswith("Listening on")

    def kill_controller(self) -> None:
        self.controller.process.kill()
        self.controller.process.wait()

    def admin(self, *words: str | Path) -> str:
        done = administer(self.home / "data", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, name: str) -> str:
        """A client's configuration file."""
        file = self.home / f"{name}.yaml"
        self.admin("client", "create", name, "--save", file)
        return str(file)

    def exporter(
        self, name: str, *, hooks: str = "", export: str = EXPORT, label: str = "board=rpi4"
    ) -> Daemon:
        """A host with a virtual board, registered and free."""
        file = self.home / f"{name}.yaml"
        self.admin("exporter", "create", name, "--label", label, "--save", file)
        file.write_text(file.read_text().replace("export: {}\n", export) + hooks)
        return self.start_exporter(name)

    def start_exporter(self, name: str) -> Daemon:
        home = self.home / f"home-{name}"
        home.mkdir(exist_ok=True)
        command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run", "--config"]
        daemon = self.stack.enter_context(
            exporters.running([*command, self.home / f"{name}.yaml", "--log-level", "info"], home)
        )
        self.exporters[name] = daemon
        self.until(lambda: self.status(name) == "AVAILABLE")
        return daemon

    def status(self, exporter: str) -> str:
        found = {
            one["name"]: one for one in json.loads(self.admin("exporter", "list", "-o", "json"))["exporters"]
        }
        return str(found[exporter]["status"])

    def until(self, holds: Callable[[], bool], limit: float = LIMIT) -> None:
        end = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.02)

    @property
    def environment(self) -> dict[str, str]:
        found = exporters.clean_environment(self.home)
        return found | {"PATH": f"{exporters.scripts()}:{os.environ['PATH']}", "NO_COLOR": "1"}

    def start(self, *words: str, by: str = "", **environment: str) -> subprocess.Popen[str]:
        """`jumpstarter …`, left running; started `by` another program."""
        command = [exporters.scripts() / "jumpstarter", *words]
        process = subprocess.Popen(
            [by, *command] if by else command,
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.stack.callback(_end, process)
        return process

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`jumpstarter …`, to its end."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=LIMIT)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ok(self, *words: str, **environment: str) -> str:
        """What a command printed that must succeed."""
        done = self.run(*words, **environment)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: str, **environment: str) -> tuple[int, str]:
        """The exit code and the sentence of a command that must fail."""
        done = self.run(*words, **environment)
        assert done.returncode != 0, done.stdout
        return done.returncode, done.stderr

    def leases(self, client: str, *words: str) -> dict[str, dict[str, Any]]:
        """The leases of everybody, by name."""
        data = json.loads(self.ok("lease", "list", "-A", *words, "-o", "json", "--client", client))
        return {one["name"]: one for one in data["leases"]}


class Reader:
    """What a process has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = {"out": "", "err": ""}
        self._threads: list[threading.Thread] = []
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None
            thread = threading.Thread(target=self._read, args=(name, stream), daemon=True)
            thread.start()
            self._threads.append(thread)
        process.stdout = process.stderr = None  # the threads' own from here on

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.text[name] += line

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: the exit code, and all that it said."""
        code = self.process.wait(timeout=LIMIT)
        for thread in self._threads:
            thread.join(timeout=LIMIT)
        return code, self.text["out"], self.text["err"]


def _end(process: subprocess.Popen[str]) -> None:
    """Kill it, and what it started, which holds the other ends of its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)


@contextmanager
def running(*options: str) -> Iterator[Lab]:
    """A controller in a folder with a short name: a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        yield Lab(Path(home), stack, options)
