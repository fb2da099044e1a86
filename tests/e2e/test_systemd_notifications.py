"""Controller and router as systemd's services: it hears when they listen, what they do, and that they end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

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


def reloaded(systemd: socket.socket, daemon: Daemon) -> str:
    """The status after a reload, empty if it is as before."""
    daemon.process.send_signal(signal.SIGHUP)
    while not systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
        pass
    ready, _, status = systemd.recv(4096).decode().partition("\nSTATUS=")
    assert ready == "READY=1"
    return status


def pair(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    made = trustme.CA().issue_cert("127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    made.cert_chain_pems[0].write_to_path(chain)
    made.private_key_pem.write_to_path(key)
    return chain, key


def test_a_controller_says_why_something_new_is_not_taken_up(lab: Lab, systemd: socket.socket) -> None:
    chain, key = pair(lab.home)
    config = lab.home / "controller.yaml"
    config.write_text("{}\n")
    words = ("--listen", f"127.0.0.1:{lab.port}", "--tls-cert", chain, "--tls-key", key, "--config", config)
    controller = start(lab, systemd, "jumpstarter-controller", "run", "--data", lab.data, *words)
    idle = "0 of 0 exporters online; 0 leases active, 0 waiting"
    assert systemd.recv(4096).decode() == f"READY=1\nSTATUS={idle}"
    good = key.read_bytes()
    key.write_text("no key")
    refused = f"{idle}; {chain} and {key} cannot be used ("
    assert reloaded(systemd, controller).startswith(refused)
    config.write_text("provisioning: {enabled: true}\n")
    status = reloaded(systemd, controller)
    assert status.startswith(refused)
    changed = f"{config} has changed; restart the controller to have it read, which disturbs no lease"
    assert status.endswith(changed)
    key.write_bytes(good)
    assert reloaded(systemd, controller) == f"{idle}; {changed}"
    config.write_text("provisioning: 1\n")
    assert reloaded(systemd, controller).endswith("; the values read at the start stay in use")
    config.write_text("{}\n")
    assert reloaded(systemd, controller) == idle


def replace(file: Path, content: bytes) -> None:
    """At once: the router looks at its file by itself, too."""
    other = file.with_name("other")
    other.touch(0o600)
    other.write_bytes(content)
    other.rename(file)


def test_a_router_says_why_something_new_is_not_taken_up(lab: Lab, systemd: socket.socket) -> None:
    lab.start_controller()
    lab.kill_controller()
    endpoint, file = f"127.0.0.1:{lab.router_port}", lab.home / "router.pem"
    lab.admin("router", "create", endpoint, "--save", file)
    router = start(lab, systemd, "jumpstarter-router", "--key", file, "--listen", endpoint)
    idle = f"router on {endpoint}, 0 connections of clients to boards"
    assert systemd.recv(4096).decode() == f"READY=1\nSTATUS={idle}"
    good = file.read_bytes()
    begin, _, rest = good.partition(b"\n")
    replace(file, begin + b"\nAAAA" + rest[4:])
    assert reloaded(systemd, router) == f"{idle}; {file} has another key; restart the router to have it read"
    replace(file, b"nothing")
    status = reloaded(systemd, router)
    assert f"{idle}; {file} and {file} cannot be used (" in status
    assert f"{file} is not the file of a router; create one: " in status
    replace(file, good)
    assert reloaded(systemd, router) == idle


def test_the_status_says_how_many_exporters_and_leases_there_are(lab: Lab, systemd: socket.socket) -> None:
    lab.start_controller()
    lab.exporter("rpi4")
    lab.kill_controller()
    listen = ("--listen", f"127.0.0.1:{lab.port}", "--router-listen", f"127.0.0.1:{lab.router_port}")
    start(lab, systemd, "jumpstarter-controller", "run", "--with-router", "--data", lab.data, *listen)
    while "1 of 1 exporters online" not in systemd.recv(4096).decode():
        pass


def test_the_status_says_that_the_journal_cannot_be_written(lab: Lab, systemd: socket.socket) -> None:
    lab.data.mkdir(0o700)
    (lab.data / "journal.sqlite").mkdir()
    listen = f"127.0.0.1:{lab.port}"
    start(lab, systemd, "jumpstarter-controller", "run", "--data", lab.data, "--listen", listen)
    idle = "0 of 0 exporters online; 0 leases active, 0 waiting"
    assert systemd.recv(4096).decode() == f"READY=1\nSTATUS={idle}"
    lab.admin("client", "create", "ann", "--save", lab.home / "ann.yaml")
    file = lab.data / "journal.sqlite"
    why = systemd.recv(4096).decode()
    assert why.startswith(f"STATUS={idle}; entries of the journal may get lost: {file}: unable to open")
    assert "make room on its disk" in why
    file.rmdir()
    assert systemd.recv(4096).decode() == f"STATUS={idle}"
    assert "client created" in lab.admin("journal", "--client", "ann")
