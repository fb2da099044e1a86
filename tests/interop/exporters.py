"""Starts either exporter, on a unix socket or on TLS, and says how a client reaches it."""

from __future__ import annotations

import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.support.peers import Environment

PASSPHRASE = "open sesame"
START = 30.0
FIRST_PORT = 12000
PORT_WORKERS = 16
"""Each worker has every sixteenth port."""
MAX_TEMPORARY_FOLDER_LENGTH = 65
"""A socket's path has at most 107 characters."""

Command = list[str | Path]


@dataclass(frozen=True)
class Certificate:
    """A server certificate for localhost and the file a client trusts."""

    chain: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Exporter:
    """A running exporter."""

    environment: Mapping[str, str]
    """What a client needs in its environment to reach it."""
    address: str
    log: Path
    ours: bool


@contextmanager
def our_unix(config: Path, home: Path, installed: Environment | None = None) -> Iterator[Exporter]:
    """`jumpstarter-exporter run --socket`, from this environment or another."""
    path = home / "exporter.sock"
    command: Command = [
        scripts(installed) / "jumpstarter-exporter",
        "run",
        "--config",
        config,
        "--socket",
        path,
    ]
    with running(command, home) as daemon:
        daemon.first_line()
        yield Exporter({"JUMPSTARTER_HOST": str(path)}, str(path), daemon.log, ours=True)


@contextmanager
def our_tls(
    config: Path, home: Path, certificate: Certificate, installed: Environment | None = None
) -> Iterator[Exporter]:
    """`jumpstarter-exporter run --listen` with TLS and a passphrase, from this environment or another."""
    # It also serves a unix socket; two of them need two. And a file is one exporter's at a time.
    home = Path(tempfile.mkdtemp(dir=home))
    config = Path(shutil.copy(config, home))
    secret = home / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    address = f"localhost:{free_port()}"
    command: Command = [scripts(installed) / "jumpstarter-exporter", "run"]
    command += ["--config", config, "--listen", address]
    command += ["--tls-cert", certificate.chain, "--tls-key", certificate.key, "--passphrase-file", secret]
    with running([*command, "--socket", home / "local.sock"], home) as daemon:
        daemon.first_line()
        yield Exporter(_trusting(address, certificate), address, daemon.log, ours=True)


@contextmanager
def their_unix(upstream: Environment, config: Path, home: Path) -> Iterator[Exporter]:
    """`jmp shell --exporter-config`: 0.9.0 serves a unix socket for as long as its one command runs."""
    say_where = "import os, sys; print(os.environ['JUMPSTARTER_HOST'], flush=True); sys.stdin.read()"
    command: Command = [upstream.bin / "jmp", "shell", "--exporter-config", config, "--"]
    with running([*command, upstream.python, "-c", say_where], home) as daemon:
        path = daemon.first_line()
        yield Exporter({"JUMPSTARTER_HOST": path}, path, daemon.log, ours=False)
        daemon.hang_up()


@contextmanager
def their_tls(
    upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    """`jmp run --tls-grpc-listener` with a passphrase."""
    port = free_port()
    command: Command = [upstream.bin / "jmp", "run", "--exporter-config", config]
    command += ["--tls-grpc-listener", f"127.0.0.1:{port}", "--passphrase", PASSPHRASE]
    command += ["--tls-cert", certificate.chain, "--tls-key", certificate.key]
    with running(command, home) as daemon:
        daemon.until_it_listens(port)
        address = f"localhost:{port}"
        yield Exporter(_trusting(address, certificate), address, daemon.log, ours=False)


def scripts(installed: Environment | None = None) -> Path:
    """Where our own commands are: in this environment, or where else we are installed."""
    return installed.bin if installed else Path(sys.executable).parent


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without anything that would lead a client elsewhere."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JMP_", "JUMPSTARTER_", "XDG_", "GRPC_", "PYTHON"))
    }
    if len(str(home)) <= MAX_TEMPORARY_FOLDER_LENGTH:
        environment["TMPDIR"] = str(home)  # what a process that is killed leaves there goes with the lab
    return environment | {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "JUMPSTARTER_RUNTIME_DIRECTORY": str(home / "run"),
        "JUMPSTARTER_DISCOVERY": "false",  # else whatever is plugged in here is opened
        "TERM": "dumb",
        "COLUMNS": "200",
    }


def _trusting(address: str, certificate: Certificate) -> dict[str, str]:
    # grpcio reads its roots from the first, everything else from the second.
    return {
        "JUMPSTARTER_HOST": address,
        "JMP_GRPC_PASSPHRASE": PASSPHRASE,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate.ca),
        "SSL_CERT_FILE": str(certificate.ca),
    }


class Daemon:
    """A process whose stdout is read all the time, so that what it prints can never stop it."""

    def __init__(
        self,
        command: Command,
        home: Path,
        *,
        activated: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = clean_environment(home) | dict(environment or {})
        if activated:
            environment["PATH"] = f"{Path(command[0]).parent}:{environment['PATH']}"
        self.log = home / f"{Path(command[0]).name}.log"
        self._lines: queue.Queue[str] = queue.Queue()
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=home,
                env=environment,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def first_line(self) -> str:
        """What it says first; an error if it says nothing."""
        try:
            line = self._lines.get(timeout=START)
        except queue.Empty:
            line = ""
        return line or self.fail()

    def until_it_listens(self, port: int) -> None:
        """0.9.0 says on no stream of its own where it listens, so knock until it answers."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        self.fail()

    def fail(self) -> NoReturn:
        raise RuntimeError(f"{self.process.args!r} did not start:\n{self.log.read_text()}")

    def hang_up(self) -> None:
        """Close its stdin and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(15)

    def end(self) -> None:
        """SIGTERM, and it is an error not to have ended 15 s later."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            self._reader.join(15)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def running(
    command: Command, home: Path, *, activated: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """The process until the block is left; `activated` puts its environment's commands into its path."""
    daemon = Daemon(command, home, activated=activated, environment=environment)
    try:
        yield daemon
    finally:
        daemon.end()


def free_port() -> int:
    """A TCP port on the loopback that nobody uses, and that no connection, no other worker of the tests and no
    earlier caller takes: a lab asks for several before it opens the first."""
    for port in _ports():
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no port is free between {FIRST_PORT} and {FIRST_CONNECTION_PORT}")


def _ports() -> Iterator[int]:
    """Each port of this worker once, in an order of its own; those that earlier callers took come last."""
    for _ in range(len(_order)):
        port = _order.popleft()
        _order.append(port)
        yield port


def _worker_ports() -> deque[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % PORT_WORKERS
    ports = list(range(FIRST_PORT + worker, max(FIRST_CONNECTION_PORT, FIRST_PORT + 1000), PORT_WORKERS))
    random.SystemRandom().shuffle(ports)
    return deque(ports)


FIRST_CONNECTION_PORT = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
_order = _worker_ports()
