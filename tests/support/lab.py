"""A lab of real processes on the loopback: a controller, routers, exporters, and the commands of its users.

What all labs share. Where nothing is killed and no option differs, a lab is a guest of the `warm_lab` of its test
process (tests/conftest.py): it has a namespace of its own at a controller that runs already.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.interop import exporters
from tests.interop.exporters import Command, Daemon
from tests.support.administration import administer
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: power.MockPower}\n"
LIMIT = 60.0
_guests = itertools.count(1)


class Lab:
    """Everything in `home`; ends with `stack`, the controller last.

    `installed` is where the controller and its router are from, if not from this tree. A guest of another lab uses
    the controller of that one, in a namespace of its own.
    """

    export = EXPORT
    """What an exporter exports if nothing else is said."""

    def __init__(
        self, home: Path, stack: ExitStack, *, host: Lab | None = None, installed: Environment | None = None
    ) -> None:
        self.home = home
        self.stack = stack
        self.data = host.data if host else home / "data"
        self.namespace = f"guest-{next(_guests)}" if host else "default"
        self.port = host.port if host else exporters.free_port()
        self.router_port = host.router_port if host else exporters.free_port()
        self.exporters: dict[str, Daemon] = {}
        self._installed = installed
        self._options: tuple[str, ...] = ()
        self._started = itertools.count(1)
        if host:
            self.controller = host.controller
        else:
            self._controllers = stack.enter_context(ExitStack())
            self.stack = stack.enter_context(ExitStack())  # ends first: exporters say goodbye to a controller

    @classmethod
    @contextmanager
    def opened(cls, *options: str, **how: Any) -> Iterator[Self]:
        """A lab in a folder with a short name: a socket's path has at most 107 bytes."""
        with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
            lab = cls(Path(home), stack, **how)
            if "host" not in how:
                lab.start_controller(*options)
            yield lab

    # Its processes

    def start_controller(self, *options: str) -> Daemon:
        """`jumpstarter-controller run` on the lab's addresses, ready; with its router, unless options name others.

        Without options, those of the time before.
        """
        self.launch_controller(*options)
        assert self.controller.first_line() == f"Listening on 127.0.0.1:{self.port}"
        return self.controller

    def launch_controller(self, *options: str) -> Daemon:
        """The same, which may not be ready yet."""
        self._options = options or self._options
        listen = f"127.0.0.1:{self.port}"
        command: Command = [exporters.scripts(self._installed) / "jumpstarter-controller", "run"]
        command += ["--data", self.data, "--listen", listen, *self._options]
        if "--router" not in self._options:
            command += ["--with-router", "--router-listen", f"127.0.0.1:{self.router_port}"]
        self.controller = self._controllers.enter_context(exporters.running(command, self._folder()))
        return self.controller

    def kill_controller(self) -> None:
        """`kill -9`, and its router with it."""
        self.controller.process.kill()
        self.controller.process.wait()

    def daemon(self, *command: str | Path, folder: Path | None = None, **how: Any) -> Daemon:
        """A process with a folder of its own, for its log too, or with that of one before it."""
        return self.stack.enter_context(exporters.running(list(command), folder or self._folder(), **how))

    def _folder(self) -> Path:
        folder = self.home / f"process-{next(self._started)}"
        folder.mkdir()
        return folder

    # Who joins it

    def admin(self, *words: str | Path, fails: bool = False) -> str:
        """What `jumpstarter-controller admin` prints; for one that fails, its sentence."""
        if self.namespace != "default":
            words = (*words, "--namespace", self.namespace)
        if self._installed is None:
            done = administer(self.data, *words)
        else:
            program = exporters.scripts(self._installed) / "jumpstarter-controller"
            done = subprocess.run(
                [program, "admin", *words, "--data", self.data],
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def client(self, name: str, *options: str) -> Path:
        """A new client's configuration."""
        file = self.home / f"{name}.yaml"
        self.admin("client", "create", name, "--save", file, *options)
        return file

    def exporter(
        self, name: str, *, label: str = "board=rpi4", export: str = "", hooks: str = "", **how: Any
    ) -> Daemon:
        """A new exporter, available."""
        file = self.home / f"{name}.yaml"
        self.admin("exporter", "create", name, "--label", label, "--save", file)
        file.write_text(file.read_text().replace("export: {}\n", export or self.export) + hooks)
        return self.start_exporter(name, **how)

    def start_exporter(self, name: str, *program: str | Path, wait: bool = True, **how: Any) -> Daemon:
        """The exporter whose configuration is there already; `program` takes that as its last argument."""
        if not program:
            program = (exporters.scripts() / "jumpstarter-exporter", "run", "--log-level", "info", "--config")
        daemon = self.exporters[name] = self.daemon(*program, self.home / f"{name}.yaml", **how)
        if wait:
            self.until(lambda: self.status(name) == "AVAILABLE")
        return daemon

    def status(self, exporter: str) -> str:
        """What an exporter says of itself; OFFLINE if it is not there."""
        found = json.loads(self.admin("exporter", "list", "-o", "json"))["exporters"]
        return next(str(one["status"]) for one in found if one["name"] == exporter)

    def until(self, holds: Callable[[], object], limit: float = LIMIT) -> None:
        """Look again and again until it is so."""
        end = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.02)

    # What its users do

    @property
    def environment(self) -> dict[str, str]:
        """A user's, with our commands first in the path."""
        found = exporters.clean_environment(self.home)
        return found | {"PATH": f"{exporters.scripts()}:{os.environ['PATH']}", "NO_COLOR": "1"}

    def start(self, *words: str | Path, by: str = "", **environment: str | Path) -> subprocess.Popen[str]:
        """`jumpstarter …`, left running; started `by` another program."""
        command = [exporters.scripts() / "jumpstarter", *words]
        return self.start_program(*([by, *command] if by else command), **environment)

    def start_program(self, *command: str | Path, **environment: str | Path) -> subprocess.Popen[str]:
        """Any program as a user's, left running."""
        process = subprocess.Popen(
            command,
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

    def run(self, *words: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
        """`jumpstarter …`, to its end."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=LIMIT)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ok(self, *words: str | Path, **environment: str | Path) -> str:
        """What a command printed that must succeed."""
        done = self.run(*words, **environment)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: str | Path, **environment: str | Path) -> tuple[int, str]:
        """The exit code and the sentence of a command that must fail."""
        done = self.run(*words, **environment)
        assert done.returncode != 0, done.stdout
        return done.returncode, done.stderr


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its children hold its streams, too
    process.communicate(timeout=LIMIT)
