"""Jumpstarter 0.9.0's own `j`, `jmp` and Python client drive our exporter, over a unix socket and over TLS.

The same tests run against its own exporter once, which shows that they ask for what 0.9.0 does.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import signal
import socket
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from tests.interop import exporters, hardware
from tests.interop.exporters import Certificate, Exporter
from tests.support.peers import Environment

PROGRAM = Path(__file__).with_name("their_session.py")
LIMIT = 100.0


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


class User:
    """Somebody with 0.9.0 installed and our exporter's address."""

    def __init__(self, upstream: Environment, exporter: Exporter, home: Path) -> None:
        self.bin = upstream.bin
        self.python = upstream.python
        self.exporter = exporter
        self.home = home
        self.environment = exporters.clean_environment(home) | {"JMP_DRIVERS_ALLOW": "UNSAFE"}
        self.environment |= exporter.environment
        self.environment["PATH"] = f"{self.bin}:{self.environment['PATH']}"

    def run(
        self, *command: str | Path, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env=self.environment,
            timeout=LIMIT,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def j(
        self, *arguments: str | Path, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.run(self.bin / "j", *arguments, check=check, stdin=stdin)

    def python_client(self, area: str, *arguments: str) -> Any:
        return json.loads(self.run(self.python, PROGRAM, area, *arguments).stdout.splitlines()[-1])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.bin / "j"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
        )


@pytest.fixture(scope="module")
def user(upstream: Environment, exporter: Exporter, home: Path) -> User:
    return User(upstream, exporter, home)


def test_client_builds_its_own_classes_from_our_report(user: User) -> None:
    tree = user.python_client("tree")
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
    assert user.python_client("power") == [[0.0, 0.0, 0.0], [5.0, 2.0, 10.0]]


def test_errors_reach_python_as_its_own_exceptions(user: User) -> None:
    seen = user.python_client("errors")
    for what in ("unknown method", "not exported", "wrong kind"):
        assert seen[what][:2] == ["DriverMethodNotImplemented", "DriverError"], what
    assert seen["unknown streaming method"][0] == "DriverError"
    assert "DriverError" in seen["wrong argument"]
    assert seen["dead service"] is not None
    assert seen["still works"] is None


def test_serial_from_python(user: User) -> None:
    assert user.python_client("serial") == {"looped": "loop"}


def test_network_from_python(user: User) -> None:
    seen = user.python_client("network")
    assert seen.pop("address").startswith("tcp://127.0.0.1:")
    assert all(seen.values()), seen


def test_logs_from_python(user: User) -> None:
    logger, severity, message = user.python_client("logs")
    assert (logger, severity) == ("exporter:driver", "INFO")
    assert message


def test_status_from_python(user: User) -> None:
    assert user.python_client("status") == "LEASE_READY"


@pytest.mark.parametrize("compression", ["", "gzip", "xz", "bz2", "zstd"])
def test_flash_and_dump_from_python(user: User, image: Path, tmp_path: Path, compression: str) -> None:
    """64 MiB plain and as gzip; the slow encodings with less."""
    if compression in ("xz", "bz2", "zstd"):
        image = hardware.write_image(tmp_path / "small.img", 6 * hardware.MIB)
    stored = tmp_path / f"stored.{compression}"
    stored.write_bytes(encode(image.read_bytes(), compression))
    dumps = user.python_client("storage", str(stored), str(tmp_path / "dump"), compression)
    for dump in dumps.values():
        assert_same(Path(dump), image, compression, user.exporter)


def test_j_power(user: User) -> None:
    user.j("power", "on")
    user.j("power", "off")
    assert "Power cycling" in user.j("power", "cycle", "--wait", "0").stdout
    user.j("board", "supply", "on")
    assert user.j("power", "read").stdout.splitlines() == [
        "voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA",
        "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA",
    ]


def test_j_lists_every_device(user: User) -> None:
    shown = user.j("--help").stdout
    for name in ("power", "serial", "tcp", "echo", "flasher", "storage", "board"):
        assert f"  {name} " in shown


def test_j_serial_pipe(user: User) -> None:
    pipe = user.start("serial", "pipe")
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
    user.j("serial", "pipe", "--no-output", stdin="halt\n")


def test_j_network_forward(user: User) -> None:
    forward = user.start("tcp", "forward-tcp", "0")
    with forward:
        assert forward.stdout is not None
        host, _, port = forward.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"through the board")
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == b"through the board"
        forward.kill()
        forward.wait(LIMIT)
    assert user.j("tcp", "address").stdout.startswith("127.0.0.1:")


@pytest.mark.parametrize("device", ["flasher", "storage"])
def test_j_flash_and_dump(user: User, image: Path, tmp_path: Path, device: str) -> None:
    user.j(device, "flash", image)
    user.j(device, "dump", tmp_path / "dump")
    assert_same(tmp_path / "dump", image, "", user.exporter)


def test_j_flash_and_dump_compressed(user: User, image: Path, tmp_path: Path) -> None:
    stored = tmp_path / "image.gz"
    stored.write_bytes(encode(image.read_bytes(), "gzip"))
    user.j("flasher", "flash", stored, "--compression", "gzip")
    user.j("flasher", "dump", tmp_path / "dump.gz", "--compression", "gzip")
    assert_same(tmp_path / "dump.gz", image, "gzip", user.exporter)


@pytest.fixture
def our_tls(config: Path, home: Path, certificate: Certificate) -> Iterator[Exporter]:
    with exporters.our_tls(config, home, certificate) as running:
        yield running


def test_jmp_shell_over_tls(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    user = User(upstream, our_tls, home)
    shell = [
        "shell",
        "--tls-grpc",
        our_tls.address,
        "--passphrase",
        exporters.PASSPHRASE,
        "--exporter-logs",
        "--",
    ]
    done = user.run(user.bin / "jmp", *shell, "j", "power", "read")
    assert "voltage=5.0 V" in done.stdout


def test_jmp_shell_with_a_pinned_certificate(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    """JMP_GRPC_INSECURE makes it fetch the certificate over a TLS connection without ALPN first."""
    user = User(upstream, our_tls, home)
    del user.environment["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    user.environment["JMP_GRPC_INSECURE"] = "1"
    shell = ["shell", "--tls-grpc", our_tls.address, "--passphrase", exporters.PASSPHRASE, "--"]
    assert user.run(user.bin / "jmp", *shell, "echo", "in the shell").stdout.endswith("in the shell\n")


def test_jmp_shell_with_a_wrong_passphrase_is_refused(
    upstream: Environment, our_tls: Exporter, home: Path
) -> None:
    user = User(upstream, our_tls, home)
    shell = ["shell", "--tls-grpc", our_tls.address, "--passphrase", "guess", "--"]
    done = user.run(user.bin / "jmp", *shell, "true", check=False)
    assert done.returncode == 1
    assert "invalid or missing passphrase" in done.stdout + done.stderr


def test_end_session_answers_at_once(upstream: Environment, our_tls: Exporter, home: Path) -> None:
    assert isinstance(User(upstream, our_tls, home).python_client("end_session"), bool)


def assert_same(dump: Path, image: Path, compression: str, exporter: Exporter) -> None:
    """The dump, stored with `compression`, holds the image.

    0.9.0's exporter never flushes its compressor at the end of a dump, so its compressed files are cut short;
    what is there has to be right.
    """
    data, complete = decode(dump.read_bytes(), compression)
    expected = image.read_bytes()
    if not complete and not exporter.ours:
        expected = expected[: len(data)]
    assert digest(data) == digest(expected)
    dump.unlink()


def encode(data: bytes, compression: str) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(data, 1)
        case "xz":
            return lzma.compress(data, preset=0)
        case "bz2":
            return bz2.compress(data, 1)
        case "zstd":
            return zstd.compress(data)
        case _:
            return data


def decode(data: bytes, compression: str) -> tuple[bytes, bool]:
    """What the data holds, and whether it is there up to its end mark."""
    decoders: dict[str, Any] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "xz": lzma.LZMADecompressor,
        "bz2": bz2.BZ2Decompressor,
        "zstd": zstd.ZstdDecompressor,
    }
    if not compression:
        return data, True
    decoder = decoders[compression]()
    return decoder.decompress(data), decoder.eof


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
