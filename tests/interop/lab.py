"""A lab with our controller and router, and whoever joins it: exporters and people, with 0.9.0's software or ours."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.v1.common_pb2 import ExporterStatus

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.interop.raw import Board, Caller, credential_of
from tests.interop.user import LIMIT
from tests.support.administration import administer
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
SECONDS = 60.0

Done = subprocess.CompletedProcess[str]


class Lab:
    """A controller with its router in a process, and whoever joins; ended with `stack`.

    0.9.0's exporter puts its sockets below `home`, and a socket's path has at most 107 characters: keep it short.
    `installed` is where the controller and its router are from, if not from this tree.
    """

    def __init__(
        self,
        home: Path,
        stack: ExitStack,
        upstream: Environment | None = None,
        installed: Environment | None = None,
    ) -> None:
        self.home = home
        self._installed = installed
        self._program = exporters.scripts(installed) / "jumpstarter-controller"
        self._controllers = stack.enter_context(ExitStack())
        self._stack = stack.enter_context(ExitStack())  # ends first: exporters say goodbye to a controller
        self._upstream = upstream
        ports = [exporters.free_port() for _ in range(2)]
        self._command: exporters.Command = [self._program, "run"]
        self._command += ["--with-router", "--data", home / "data", "--listen", f"127.0.0.1:{ports[0]}"]
        self._command += ["--router-listen", f"127.0.0.1:{ports[1]}"]
        self.start()
        self._observer = self.credential("Client", "observer")
        self.observer = self._observing()

    @property
    def upstream(self) -> Environment:
        """Where 0.9.0 is installed."""
        assert self._upstream is not None, "this lab is ours alone"
        return self._upstream

    def start(self) -> None:
        """Start the controller; again, after `kill`, at the same addresses."""
        self.controller = self._controllers.enter_context(exporters.running(self._command, self.home))
        assert self.controller.first_line().startswith("Listening on 127.0.0.1:")

    def kill(self) -> None:
        """`kill -9` the controller, and its router with it."""
        self.controller.process.kill()
        self.controller.process.wait()
        self.observer = self._observing()  # a channel does not know at once that its peer is gone

    def _observing(self) -> Caller:
        caller = Caller.of(self._observer)
        self._stack.callback(caller.close)
        return caller

    # Objects, by the admin commands and by the service behind them, which is quicker

    def admin(self, *words: str | Path) -> str:
        """`jumpstarter-controller admin`; what it says."""
        if self._installed is None:
            done = administer(self.home / "data", *words)
        else:
            command = [self._program, "admin", *words, "--data", self.home / "data"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def credential(
        self, kind: str, name: str, labels: Mapping[str, str] = {}, *, namespace: str = "default"
    ) -> Any:
        """A new client's or exporter's."""
        request = lab_pb2.CreateRequest(kind=kind, namespace=namespace, name=name, labels=labels)
        return self.administrate("Create", request)

    def administrate(self, method: str, request: Any) -> Any:
        """A call of the service behind the admin commands."""
        with grpc.insecure_channel(f"unix:{self.home}/data/admin.sock") as channel:
            return Caller(channel).admin(method, request)

    def set_enabled(self, kind: str, name: str, enabled: bool) -> None:
        """Disable or enable somebody."""
        request = lab_pb2.SetEnabledRequest(kind=kind, namespace="default", name=name, enabled=enabled)
        self.administrate("SetEnabled", request)

    # Who joins

    def caller(self, name: str, *, namespace: str = "default") -> Caller:
        """A client that is nothing but calls."""
        caller = Caller.of(self.credential("Client", name, namespace=namespace))
        self._stack.callback(caller.close)
        return caller

    def board(self, name: str, **labels: str) -> Board:
        """An exporter that is nothing but calls; it has not registered yet."""
        board = Board.of(self.credential("Exporter", name, labels))
        self._stack.callback(board.close)
        assert isinstance(board, Board)
        return board

    def person(self, name: str, installed: Environment | None = None) -> Person:
        """Somebody with a configuration, and a home of their own; with our client as it is `installed`."""
        home = self.home / name
        home.mkdir()
        file = self.home / f"{name}.yaml"
        self.admin("client", "create", name, "--save", file)
        return Person(self, name, file, home, installed)

    def exporter(
        self,
        name: str,
        *,
        ours: bool,
        board: str = "rpi4",
        hooks: str = "",
        wait: bool = True,
        export: str = EXPORT,
        installed: Environment | None = None,
    ) -> Daemon:
        """0.9.0's exporter or ours, or ours as it is `installed`, with a mock power switch, available."""
        file = self.home / f"{name}.yaml"
        self.admin("exporter", "create", name, "--label", f"board={board}", "--save", file)
        file.write_text(file.read_text().replace("export: {}\n", export) + hooks)
        daemon = self.run_exporter(name, ours=ours, installed=installed)
        if wait:
            self.until(lambda: self.status(name) == "AVAILABLE")
        return daemon

    def run_exporter(self, name: str, *, ours: bool, installed: Environment | None = None) -> Daemon:
        """The exporter whose configuration is there already."""
        file, home = self.home / f"{name}.yaml", self.home / f"at-{name}"
        home.mkdir(exist_ok=True)
        if ours:
            command: exporters.Command = [exporters.scripts(installed) / "jumpstarter-exporter", "run"]
            command += ["--config", file, "--log-level", "info"]
        else:
            command = [self.upstream.bin / "jmp", "run", "--exporter-config", file]
        # The hooks of 0.9.0 find its `j` where the user's path has it.
        return self._stack.enter_context(exporters.running(command, home, activated=not ours))

    # What is seen

    def status(self, exporter: str) -> str:
        """What an exporter says of itself; OFFLINE if it is not there."""
        request = client_pb2.GetExporterRequest(name=f"namespaces/default/exporters/{exporter}")
        seen = self.observer.client("GetExporter", request)
        return ExporterStatus.Name(seen.status).removeprefix("EXPORTER_STATUS_") if seen.online else "OFFLINE"

    def leases(self) -> list[Any]:
        """All that have not ended."""
        request = client_pb2.ListLeasesRequest(parent="namespaces/default")
        return list(self.observer.client("ListLeases", request).leases)

    def everything(self) -> list[Any]:
        """All leases, also those that have ended, the oldest first."""
        request = client_pb2.ListLeasesRequest(parent="namespaces/default", only_active=False)
        return list(self.observer.client("ListLeases", request).leases)

    def lease(self, name: str) -> Any:
        """One by its name."""
        request = client_pb2.GetLeaseRequest(name=f"namespaces/default/leases/{name}")
        return self.observer.client("GetLease", request)

    def until(self, holds: Callable[[], object]) -> None:
        """Look again and again until it is so, for a minute at most."""
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.02)


@dataclass(frozen=True)
class Person:
    """Somebody who leases, with both clients installed."""

    lab: Lab
    name: str
    file: Path
    home: Path
    installed: Environment | None = None

    def jmp(
        self, *words: str | Path, inside: tuple[str | Path, ...] = (), check: bool = True, stdin: str = ""
    ) -> Done:
        """Run 0.9.0's `jmp words... [-- inside...]` to its end as this client."""
        return self._run(self._command(words, inside, theirs=True), check=check, stdin=stdin)

    def ours(
        self, *words: str | Path, inside: tuple[str | Path, ...] = (), check: bool = True, stdin: str = ""
    ) -> Done:
        """Run our `jumpstarter words... [-- inside...]` to its end as this client."""
        return self._run(self._command(words, inside, theirs=False), check=check, stdin=stdin)

    @contextmanager
    def shell(self, *words: str | Path, script: str, theirs: bool) -> Iterator[subprocess.Popen[str]]:
        """Either client's `shell words... -- sh -c script`, started; killed if the block leaves it behind."""
        command = self._command(("shell", *words), ("sh", "-c", script), theirs=theirs)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.home,
            env=self.environment(theirs=theirs),
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def plain(self, *command: str | Path, check: bool = True) -> Done:
        """Run a command of 0.9.0 as it stands: the configuration is this person's current one."""
        return self._run([self.lab.upstream.bin / command[0], *command[1:]], check=check, stdin="")

    def environment(self, *, theirs: bool) -> dict[str, str]:
        """With one of the two clients first in the path."""
        scripts = self.lab.upstream.bin if theirs else exporters.scripts(self.installed)
        environment = exporters.clean_environment(self.home)
        return environment | {"PATH": f"{scripts}:{environment['PATH']}"}

    @property
    def caller(self) -> Caller:
        """This person's calls by grpcio."""
        return Caller.of(credential_of(self.file))

    def _command(
        self, words: tuple[str | Path, ...], inside: tuple[str | Path, ...], *, theirs: bool
    ) -> exporters.Command:
        scripts = self.lab.upstream.bin if theirs else exporters.scripts(self.installed)
        program, option = ("jmp", "--client-config") if theirs else ("jumpstarter", "--client")
        command: exporters.Command = [scripts / program, *words, option, self.file]
        return [*command, "--", *inside] if inside else command

    def _run(self, command: exporters.Command, *, check: bool, stdin: str) -> Done:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            cwd=self.home,
            env=self.environment(theirs=Path(command[0]).parent != exporters.scripts(self.installed)),
        )
        return _checked(done) if check else done


def _checked(done: Done) -> Done:
    if done.returncode != 0:
        words = " ".join(map(str, done.args))
        raise AssertionError(f"{words} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@contextmanager
def open_lab(upstream: Environment | None = None, installed: Environment | None = None) -> Iterator[Lab]:
    """A lab for the block."""
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        yield Lab(Path(home), stack, upstream, installed)
