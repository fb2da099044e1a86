"""A lab with our controller and router, and with exporters and clients of ours or of 0.9.0."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
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
from tests.support import lab as support
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: jumpstarter_driver_power.driver.MockPower}\n"

Done = subprocess.CompletedProcess[str]


class Lab(support.Lab):
    """A controller with its router, and the clients and exporters that join.

    0.9.0's exporter puts its sockets below `home`, and a socket's path has at most 107 characters: keep it short.
    """

    export = EXPORT

    def __init__(
        self, home: Path, stack: ExitStack, *, upstream: Environment | None = None, **how: Any
    ) -> None:
        super().__init__(home, stack, **how)
        self._upstream = upstream
        self._observer: Caller | None = None

    @property
    def upstream(self) -> Environment:
        """Where 0.9.0 is installed."""
        assert self._upstream is not None, "this lab is ours alone"
        return self._upstream

    @cached_property
    def _watcher(self) -> Any:
        return self.credential("Client", "observer")

    @property
    def observer(self) -> Caller:
        """A client's calls, for what is seen."""
        if self._observer is None:
            self._observer = Caller.of(self._watcher)
            self.stack.callback(self._observer.close)
        return self._observer

    def kill_controller(self) -> None:
        super().kill_controller()
        self._observer = None  # a channel does not know at once that its peer is gone

    # Objects, by the service behind the admin commands, which is quicker

    def credential(self, kind: str, name: str, labels: Mapping[str, str] = {}, *, namespace: str = "") -> Any:
        """A new client's or exporter's."""
        namespace = namespace or self.namespace
        request = lab_pb2.CreateRequest(kind=kind, namespace=namespace, name=name, labels=labels)
        return self.administrate("Create", request)

    def administrate(self, method: str, request: Any) -> Any:
        """A call of the service behind the admin commands."""
        with grpc.insecure_channel(f"unix:{self.data}/admin.sock") as channel:
            return Caller(channel).admin(method, request)

    def set_enabled(self, kind: str, name: str, enabled: bool) -> None:
        """Disable or enable somebody."""
        request = lab_pb2.SetEnabledRequest(kind=kind, namespace=self.namespace, name=name, enabled=enabled)
        self.administrate("SetEnabled", request)

    # Who joins

    def caller(self, name: str, *, namespace: str = "") -> Caller:
        """A client that is nothing but calls."""
        caller = Caller.of(self.credential("Client", name, namespace=namespace))
        self.stack.callback(caller.close)
        return caller

    def board(self, name: str, **labels: str) -> Board:
        """An exporter that is nothing but calls; it has not registered yet."""
        board = Board.of(self.credential("Exporter", name, labels))
        self.stack.callback(board.close)
        assert isinstance(board, Board)
        return board

    def person(self, name: str, installed: Environment | None = None) -> Person:
        """Somebody with a configuration, and a home of their own; with our client as it is `installed`."""
        home = self.home / name
        home.mkdir()
        return Person(self, name, self.client(name), home, installed)

    def start_exporter(
        self,
        name: str,
        *program: str | Path,
        ours: bool = True,
        installed: Environment | None = None,
        **how: Any,
    ) -> Daemon:
        """0.9.0's exporter or ours, or ours as it is `installed`."""
        if not ours:
            # Its hooks find its `j` where the user's path has it.
            program, how = (self.upstream.bin / "jmp", "run", "--exporter-config"), how | {"activated": True}
        elif installed is not None:
            program = (installed.bin / "jumpstarter-exporter", "run", "--log-level", "info", "--config")
        return super().start_exporter(name, *program, **how)

    # What is seen

    @property
    def parent(self) -> str:
        """The resource name of all that is in it."""
        return f"namespaces/{self.namespace}"

    def status(self, exporter: str) -> str:
        """What an exporter says of itself; OFFLINE if it is not there."""
        request = client_pb2.GetExporterRequest(name=f"{self.parent}/exporters/{exporter}")
        seen = self.observer.client("GetExporter", request)
        return ExporterStatus.Name(seen.status).removeprefix("EXPORTER_STATUS_") if seen.online else "OFFLINE"

    def leases(self) -> list[Any]:
        """All that have not ended."""
        request = client_pb2.ListLeasesRequest(parent=self.parent)
        return list(self.observer.client("ListLeases", request).leases)

    def everything(self) -> list[Any]:
        """All leases, also those that have ended, the oldest first."""
        request = client_pb2.ListLeasesRequest(parent=self.parent, only_active=False)
        return list(self.observer.client("ListLeases", request).leases)

    def lease(self, name: str) -> Any:
        """One by its name."""
        request = client_pb2.GetLeaseRequest(name=f"{self.parent}/leases/{name}")
        return self.observer.client("GetLease", request)


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
        with self._started(self._command(("shell", *words), ("sh", "-c", script), theirs=theirs)) as process:
            yield process

    def start(self, *words: str | Path) -> AbstractContextManager[subprocess.Popen[str]]:
        """Our `jumpstarter words...`, started; killed if the block leaves it behind."""
        return self._started(self._command(words, (), theirs=False))

    @contextmanager
    def _started(self, command: exporters.Command) -> Iterator[subprocess.Popen[str]]:
        theirs = Path(command[0]).parent != exporters.scripts(self.installed)
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
