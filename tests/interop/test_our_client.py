"""Our Python client and command line drive Jumpstarter 0.9.0's exporter, over a unix socket and over TLS.

The same tests run against our exporter once, so that what passes does so for the right reason.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.interop import exporters, hardware
from tests.interop.exporters import Certificate, Exporter
from tests.interop.user import COMPRESSIONS, LIMIT, User, assert_same, encode
from tests.support.peers import Environment


@pytest.fixture(scope="module", params=["theirs-unix", "theirs-tls", "ours-unix"])
def exporter(
    request: pytest.FixtureRequest, upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    started: AbstractContextManager[Exporter]
    if request.param == "theirs-unix":
        started = exporters.their_unix(upstream, config, home)
    elif request.param == "theirs-tls":
        started = exporters.their_tls(upstream, config, home, certificate)
    else:
        started = exporters.our_unix(config, home)
    with started as running:
        yield running


@pytest.fixture(scope="module")
def user(exporter: Exporter, home: Path) -> User:
    return User(exporters.scripts(), exporter, home)


def test_client_builds_our_classes_from_their_report(user: User) -> None:
    tree = user.program("tree")
    classes = {name: child["class"] for name, child in tree["children"].items()}
    assert classes == {
        "power": "PowerClient",
        "serial": "PySerialClient",
        "tcp": "NetworkClient",
        "echo": "NetworkClient",
        "dead": "NetworkClient",
        "flasher": "FlasherClient",
        "storage": "StorageMuxFlasherClient",
        "board": "CompositeClient",
    }
    board = tree["children"]["board"]["children"]
    assert {name: child["class"] for name, child in board.items()} == {
        "loop": "PySerialClient",
        "supply": "PowerClient",
    }
    assert tree["shared"], "a ref repeats its target's uuid"


def test_power_from_python(user: User) -> None:
    assert user.program("power") == [[0.0, 0.0, 0.0], [5.0, 2.0, 10.0]]


def test_errors_reach_python_as_the_exceptions_of_0_9_0(user: User) -> None:
    seen = user.program("errors")
    for what in ("unknown method", "not exported", "wrong kind"):
        assert seen[what][0] == "DriverMethodNotImplemented", what
        assert {"DriverError", "NotImplementedError"} <= set(seen[what]), what
    assert seen["unknown streaming method"][0] == "DriverError"
    assert "DriverError" in seen["wrong argument"]
    assert seen["dead service"] is not None
    assert seen["still works"] is None


def test_serial_from_python(user: User) -> None:
    assert user.program("serial") == {"looped": "loop"}


def test_network_from_python(user: User) -> None:
    seen = user.program("network")
    assert seen.pop("address").startswith("tcp://127.0.0.1:")
    assert all(seen.values()), seen


def test_logs_from_python(user: User) -> None:
    severity, message = user.program("logs")
    assert severity == "INFO"
    assert "power on" in message


def test_status_from_python(user: User) -> None:
    assert "LEASE_READY" in user.program("status")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_flash_and_dump_from_python(user: User, image: Path, tmp_path: Path, compression: str) -> None:
    """16 MiB plain and as gzip; the slow encodings with less."""
    if compression in ("xz", "bz2", "zstd"):
        image = hardware.write_image(tmp_path / "small.img", 6 * hardware.MIB)
    stored = tmp_path / f"stored.{compression}"
    stored.write_bytes(encode(image.read_bytes(), compression))
    dumps = user.program("storage", str(stored), str(tmp_path / "dump"), compression)
    for dump in dumps.values():
        assert_same(Path(dump), image, compression, user.exporter)


def test_cli_devices(user: User) -> None:
    shown = user.run("jumpstarter", "devices").stdout
    for name in ("power", "serial", "tcp", "echo", "flasher", "storage", "board", "supply", "loop"):
        assert name in shown
    assert json.loads(user.run("jumpstarter", "devices", "-o", "json").stdout)


def test_cli_power(user: User) -> None:
    user.run("jumpstarter", "power", "on", "power")
    user.run("jumpstarter", "power", "off", "power")
    user.run("jumpstarter", "power", "cycle", "power", "--wait", "0")
    shown = user.run("jumpstarter", "power", "read", "power").stdout
    assert "5.0" in shown


def test_j_power(user: User) -> None:
    user.run("j", "power", "on")
    user.run("j", "board", "supply", "off")
    assert "5.0" in user.run("j", "power", "read").stdout


def test_cli_serial_pipe(user: User) -> None:
    pipe = user.start("jumpstarter", "serial", "pipe", "serial")
    with pipe:
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        pipe.stdin.write("reboot now\n")
        pipe.stdin.flush()
        assert pipe.stdout.readline() == "REBOOT NOW\n"
        pipe.send_signal(signal.SIGINT)
        assert pipe.wait(LIMIT) == 0
        pipe.stdin.close()


def test_cli_network_forward(user: User) -> None:
    forward = user.start("jumpstarter", "network", "forward-tcp", "tcp", "0")
    with forward, ExitStack() as stack:
        stack.callback(forward.kill)  # else a failure would wait for its end
        assert forward.stdout is not None
        host, _, port = forward.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"through the board")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as said:  # else a failure keeps the connection open
                assert said.read() == b"through the board"
        forward.send_signal(signal.SIGINT)
        assert forward.wait(LIMIT) == 0


@pytest.mark.parametrize("device", ["flasher", "storage"])
def test_cli_flash_and_dump(user: User, image: Path, tmp_path: Path, device: str) -> None:
    user.run("jumpstarter", "storage", "flash", device, image)
    user.run("jumpstarter", "storage", "dump", device, tmp_path / "dump")
    assert_same(tmp_path / "dump", image, "", user.exporter)


def test_cli_flash_and_dump_compressed(user: User, image: Path, tmp_path: Path) -> None:
    """The encoding is told from the file's content when flashing."""
    stored = tmp_path / "image.gz"
    stored.write_bytes(encode(image.read_bytes(), "gzip"))
    user.run("jumpstarter", "storage", "flash", "flasher", stored)
    user.run("jumpstarter", "storage", "dump", "flasher", tmp_path / "dump.gz", "--compression", "gzip")
    assert_same(tmp_path / "dump.gz", image, "gzip", user.exporter)


@pytest.fixture
def their_tls(
    upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    with exporters.their_tls(upstream, config, home, certificate) as running:
        yield running


def test_a_wrong_passphrase_is_one_sentence(their_tls: Exporter, home: Path) -> None:
    user = User(exporters.scripts(), their_tls, home, {"JMP_GRPC_PASSPHRASE": "guess"})
    done = user.run("jumpstarter", "power", "on", "power", check=False)
    assert done.returncode not in (0, 1)
    assert "passphrase" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_that_no_ca_has_issued_is_rejected(their_tls: Exporter, home: Path) -> None:
    user = User(exporters.scripts(), their_tls, home)
    for name in ("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        del user.environment[name]
    done = user.run("jumpstarter", "power", "on", "power", check=False)
    assert done.returncode not in (0, 1)
    assert "certificate" in done.stderr
    assert "Traceback" not in done.stderr
