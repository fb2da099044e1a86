"""Starts either exporter, on a unix socket or on TLS, and says how a client reaches it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import Environment

PASSPHRASE = "open sesame"
START = 30.0

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
def our_unix(config: Path, home: Path) -> Iterator[Exporter]:
    """`jumpstarter-exporter run --socket`."""
    path = home / "exporter.sock"
    command: Command = [scripts() / "jumpstarter-exporter", "run", "--config", config, "--socket", path]
    with _running(command, home) as (process, log):
        _first_line(process, log)
        yield Exporter({"JUMPSTARTER_HOST": str(path)}, str(path), log, ours=True)


@contextmanager
def our_tls(config: Path, home: Path, certificate: Certificate) -> Iterator[Exporter]:
    """`jumpstarter-exporter run --listen` with TLS and a passphrase."""
    secret = home / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    address = f"localhost:{_free_port()}"
    command: Command = [scripts() / "jumpstarter-exporter", "run", "--config", config, "--listen", address]
    command += ["--tls-cert", certificate.chain, "--tls-key", certificate.key, "--passphrase-file", secret]
    with _running([*command, "--socket", home / "local.sock"], home) as (process, log):
        _first_line(process, log)
        yield Exporter(_trusting(address, certificate), address, log, ours=True)


@contextmanager
def their_unix(upstream: Environment, config: Path, home: Path) -> Iterator[Exporter]:
    """`jmp shell --exporter-config`: 0.9.0 serves a unix socket for as long as its one command runs."""
    say_where = "import os, sys; print(os.environ['JUMPSTARTER_HOST'], flush=True); sys.stdin.read()"
    command: Command = [upstream.bin / "jmp", "shell", "--exporter-config", config, "--"]
    with _running([*command, upstream.python, "-c", say_where], home) as (process, log):
        path = _first_line(process, log)
        yield Exporter({"JUMPSTARTER_HOST": path}, path, log, ours=False)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


@contextmanager
def their_tls(
    upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    """`jmp run --tls-grpc-listener` with a passphrase."""
    port = _free_port()
    command: Command = [upstream.bin / "jmp", "run", "--exporter-config", config]
    command += ["--tls-grpc-listener", f"127.0.0.1:{port}", "--passphrase", PASSPHRASE]
    command += ["--tls-cert", certificate.chain, "--tls-key", certificate.key]
    with _running(command, home) as (process, log):
        _until_it_listens(port, process, log)
        address = f"localhost:{port}"
        yield Exporter(_trusting(address, certificate), address, log, ours=False)


def scripts() -> Path:
    """Where our own commands are."""
    return Path(sys.executable).parent


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without anything that would lead a client elsewhere."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JMP_", "JUMPSTARTER_", "XDG_", "GRPC_", "PYTHON"))
    }
    return environment | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "TERM": "dumb", "COLUMNS": "200"}


def _trusting(address: str, certificate: Certificate) -> dict[str, str]:
    # grpcio reads its roots from the first, everything else from the second.
    return {
        "JUMPSTARTER_HOST": address,
        "JMP_GRPC_PASSPHRASE": PASSPHRASE,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate.ca),
        "SSL_CERT_FILE": str(certificate.ca),
    }


@contextmanager
def _running(command: Command, home: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = home / f"{Path(command[0]).name}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=home,
            env=clean_environment(home),
            start_new_session=True,
        )
    with process:
        try:
            yield process, log
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}")
    return line.strip()


def _until_it_listens(port: int, process: subprocess.Popen[str], log: Path) -> None:
    """0.9.0 says on no stream of its own where it listens, so knock until it answers."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
