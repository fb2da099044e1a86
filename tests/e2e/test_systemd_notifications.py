"""Controller and router as systemd's services: it hears when they listen, what they do, and that they end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.lab import Lab

LIMIT = 60.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.settimeout(LIMIT)
        yield found


def start(lab: Lab, systemd: socket.socket, program: str, *words: str | Path) -> Daemon:
    command = ("env", f"NOTIFY_SOCKET={systemd.getsockname()}", exporters.scripts() / program, *words)
    return lab.daemon(*command)


def hears(systemd: socket.socket, daemon: Daemon, status: str) -> None:
    assert systemd.recv(4096).decode() == f"READY=1\nSTATUS={status}"
    daemon.process.send_signal(signal.SIGHUP)
    assert systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert systemd.recv(4096) == b"READY=1"
    daemon.process.send_signal(signal.SIGTERM)
    assert systemd.recv(4096) == b"STOPPING=1"
    assert daemon.process.wait(LIMIT) == 0


def test_controller_and_router_tell_systemd(lab: Lab, systemd: socket.socket) -> None:
    listen = f"127.0.0.1:{lab.port}"
    controller = start(lab, systemd, "jumpstarter-controller", "run", "--data", lab.data, "--listen", listen)
    hears(systemd, controller, "0 of 0 exporters online; 0 leases active, 0 waiting")
    endpoint, file = f"127.0.0.1:{lab.router_port}", lab.home / "router.pem"
    lab.admin("router", "create", endpoint, "--save", file)
    router = start(lab, systemd, "jumpstarter-router", "--key", file, "--listen", endpoint)
    hears(systemd, router, f"router on {endpoint}, 0 connections of clients to boards")


def test_the_status_says_how_many_exporters_and_leases_there_are(lab: Lab, systemd: socket.socket) -> None:
    lab.start_controller()
    lab.exporter("rpi4")
    lab.kill_controller()
    listen = f"127.0.0.1:{lab.port}"
    start(
        lab, systemd, "jumpstarter-controller", "run", "--with-router", "--data", lab.data, "--listen", listen
    )
    while "1 of 1 exporters online" not in systemd.recv(4096).decode():
        pass
