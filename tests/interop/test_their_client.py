"""Jumpstarter 0.9.0's own `j`, `jmp` and Python client drive our exporter, over a unix socket and over TLS.

The same tests run against its own exporter once, which shows that they ask for what 0.9.0 does.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.interop import exporters, hardware
from tests.interop.exporters import Certificate, Exporter
from tests.interop.user import COMPRESSIONS, LIMIT, User, assert_same, encode
from tests.support.peers import Environment

UNSAFE = {"JMP_DRIVERS_ALLOW": "UNSAFE"}


@pytest.fixture(scope="module", params=["ours-unix", "ours-tls", "theirs-unix"])
def exporter(
    request: pytest.FixtureRequest, upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    started: AbstractContextManager[Exporter]
    if request.param == "ours-unix":
        started = exporters.our_unix(config, home)
    elif request.param == "ours-tls":
        started = exporters.our_tls(config, home, certificate)
    else:
        started = exporters.their_unix(upstream, config, home)
    with started as running:
        yield running


@pytest.fixture(scope="module")
def user(upstream: Environment, exporter: Exporter, home: Path) -> User:
    return User(upstream.bin, exporter, home, UNSAFE)


def test_client_builds_its_own_classes_from_our_report(user: User) -> None:
    tree = user.program("tree")
    assert tree["class"] == "CompositeClient"
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
    assert board["supply"]["labels"]["jumpstarter.dev/name"] == "supply"
    assert tree["shared"], "a ref repeats its target's uuid"


def test_power_from_python(user: User) -> None:
    assert user.program("power") == [[0.0, 0.0, 0.0], [5.0, 2.0, 10.0]]


def test_errors_reach_python_as_its_own_exceptions(user: User) -> None:
    seen = user.program("errors")
    for what in ("unknown method", "not exported", "wrong kind"):
        assert seen[what][:2] == ["DriverMethodNotImplemented", "DriverError"], what
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
    assert user.program("status") == "LEASE_READY"


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


def test_j_power(user: User) -> None:
    user.run("j", "power", "on")
    user.run("j", "power", "off")
    assert "Power cycling" in user.run("j", "power", "cycle", "--wait", "0").stdout
    user.run("j", "board", "supply", "on")
    assert user.run("j", "power", "read").stdout.splitlines() == [
        "voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA",
        "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA",
    ]


def test_j_lists_every_device(user: User) -> None:
    shown = user.run("j", "--help").stdout
    for name in ("power", "serial", "tcp", "echo", "flasher", "storage", "board"):
        assert f"  {name} " in shown


def test_j_serial_pipe(user: User) -> None:
    pipe = user.start("j", "serial", "pipe")
    with pipe:
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        # Its stdin is read in blocks of 1024 bytes, so a line goes out when there is no more to come.
        pipe.stdin.write("reboot now\n")
        pipe.stdin.close()
        assert pipe.stdout.readline() == "REBOOT NOW\n"
        pipe.send_signal(signal.SIGINT)
        pipe.wait(LIMIT)


def test_j_serial_pipe_sends_and_exits(user: User) -> None:
    if "JMP_GRPC_PASSPHRASE" in user.exporter.environment:
        pytest.skip(
            "0.9.0's client, with a passphrase, may wait for ever after it has half-closed a stream twice: "
            "it does so with its own exporter too"
        )
    user.run("j", "serial", "pipe", "--no-output", stdin="halt\n")


def test_j_network_forward(user: User) -> None:
    forward = user.start("j", "tcp", "forward-tcp", "0")
    with forward:
        assert forward.stdout is not None
        host, _, port = forward.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"through the board")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as said:  # else a failure keeps the connection open
                assert said.read() == b"through the board"
        forward.kill()
        forward.wait(LIMIT)
    assert user.run("j", "tcp", "address").stdout.startswith("127.0.0.1:")


@pytest.mark.parametrize("device", ["flasher", "storage"])
def test_j_flash_and_dump(user: User, image: Path, tmp_path: Path, device: str) -> None:
    user.run("j", device, "flash", image)
    user.run("j", device, "dump", tmp_path / "dump")
    assert_same(tmp_path / "dump", image, "", user.exporter)


def test_j_flash_and_dump_compressed(user: User, image: Path, tmp_path: Path) -> None:
    stored = tmp_path / "image.gz"
    stored.write_bytes(encode(image.read_bytes(), "gzip"))
    user.run("j", "flasher", "flash", stored, "--compression", "gzip")
    user.run("j", "flasher", "dump", tmp_path / "dump.gz", "--compression", "gzip")
    assert_same(tmp_path / "dump.gz", image, "gzip", user.exporter)


@pytest.fixture
def our_tls(config: Path, home: Path, certificate: Certificate) -> Iterator[Exporter]:
    with exporters.our_tls(config, home, certificate) as running:
        yield running


def test_jmp_shell_over_tls(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    user = User(upstream.bin, our_tls, home, UNSAFE)
    shell = [
        "shell",
        "--tls-grpc",
        our_tls.address,
        "--passphrase",
        exporters.PASSPHRASE,
        "--exporter-logs",
        "--",
    ]
    done = user.run("jmp", *shell, "j", "power", "read")
    assert "voltage=5.0 V" in done.stdout


def test_jmp_shell_with_a_pinned_certificate(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    """JMP_GRPC_INSECURE makes it fetch the certificate over a TLS connection without ALPN first."""
    user = User(upstream.bin, our_tls, home, UNSAFE)
    del user.environment["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    user.environment["JMP_GRPC_INSECURE"] = "1"
    shell = ["shell", "--tls-grpc", our_tls.address, "--passphrase", exporters.PASSPHRASE, "--"]
    assert user.run("jmp", *shell, "echo", "in the shell").stdout.endswith("in the shell\n")


def test_jmp_shell_with_a_wrong_passphrase_is_refused(
    upstream: Environment, our_tls: Exporter, home: Path
) -> None:
    user = User(upstream.bin, our_tls, home, UNSAFE)
    shell = ["shell", "--tls-grpc", our_tls.address, "--passphrase", "guess", "--"]
    done = user.run("jmp", *shell, "true", check=False)
    assert done.returncode == 1
    assert "invalid or missing passphrase" in done.stdout + done.stderr


def test_end_session_answers_at_once(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    assert isinstance(User(upstream.bin, our_tls, home, UNSAFE).program("end_session"), bool)
