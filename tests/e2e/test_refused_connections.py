"""An exporter on the network that a command cannot use: what is wrong, at which address, and a next step that works."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.support import lab as support

README = Path(__file__).parents[2] / "README.md"
LIMIT = 60.0
SECRET = "open sesame"


class Network:
    """Two exporters with a passphrase: one with TLS and a certificate that README makes, one without TLS."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        self.certificate = home / "host.pem"
        (made,) = re.findall(r"^    (openssl req .*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
        subprocess.run(
            made.replace("lab-pi-1", "localhost"), shell=True, cwd=home, check=True, capture_output=True
        )
        (home / "secret").write_text(SECRET)
        (home / "rpi4.yaml").write_text("export: {power: {type: power.MockPower}}\n")
        self.tls = self._start("tls", "--tls-cert", "host.pem", "--tls-key", "host.key")
        self.plain = self._start("plain", "--insecure")

    def _start(self, name: str, *words: str) -> str:
        (self.home / f"{name}.yaml").write_text("export: {power: {type: power.MockPower}}\n")
        command: exporters.Command = [
            *(exporters.scripts() / "jumpstarter-exporter", "run", "--config", self.home / f"{name}.yaml"),
            *("--socket", self.home / f"{name}.sock", "--passphrase-file", self.home / "secret"),
            *("--listen", "localhost:0"),
            *(self.home / word if word.startswith("host.") else word for word in words),
        ]
        daemon = self._stack.enter_context(exporters.running(command, self.home))
        port = daemon.first_line().rpartition(" and ")[2].split()[0].rpartition(":")[2]
        return f"localhost:{port}"

    def refused(self, host: str, *words: str, **environment: str) -> str:
        done = self.run(host, *words, **environment)
        assert done.returncode != 0, done.stdout
        assert "may or may not have been executed" not in done.stderr
        return done.stderr

    def run(self, host: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [exporters.scripts() / "jumpstarter", *(words or ("devices",))],
            env=exporters.clean_environment(self.home) | {"JUMPSTARTER_HOST": host} | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(tmp_path_factory.mktemp("network"), stack)


def test_a_certificate_that_is_not_trusted_leads_to_the_variable_that_trusts_it(network: Network) -> None:
    assert network.refused(network.tls, JMP_GRPC_PASSPHRASE=SECRET) == (
        f"error: the certificate of {network.tls} is not trusted (self-signed certificate); set SSL_CERT_FILE to a "
        "copy of the exporter's --tls-cert, or of the certificate of its CA\n"
    )
    trusted = {"JMP_GRPC_PASSPHRASE": SECRET, "SSL_CERT_FILE": str(network.certificate)}
    assert network.run(network.tls, **trusted).returncode == 0
    other = network.tls.replace("localhost", "127.0.0.1")
    said = network.refused(other, **trusted)
    assert f"the certificate of {other} is not trusted (IP address mismatch, " in said
    assert said.endswith("; connect to a name that is in the certificate, or make one for this name\n")


@pytest.mark.parametrize("variable", ["JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"])
@pytest.mark.parametrize("words", [("devices",), ("power", "on")])
def test_without_tls_at_a_port_that_has_it(network: Network, variable: str, words: tuple[str, ...]) -> None:
    said = network.refused(network.tls, *words, **{variable: "1"})
    assert said == f"error: {network.tls} speaks TLS; unset {variable}\n"


def test_without_tls_at_a_controller(network: Network, warm_lab: support.Lab) -> None:
    endpoint = f"localhost:{warm_lab.port}"
    said = network.refused(endpoint, JMP_GRPC_INSECURE="1")
    assert said == f"error: {endpoint} speaks TLS; unset JMP_GRPC_INSECURE\n"


def test_with_tls_at_a_port_without(network: Network) -> None:
    assert network.refused(network.plain, JMP_GRPC_PASSPHRASE=SECRET) == (
        f"error: {network.plain} does not speak TLS; is it the right port? For an exporter that runs with "
        "--insecure, set JMP_GRPC_INSECURE=1\n"
    )
    done = network.run(network.plain, JMP_GRPC_PASSPHRASE=SECRET, JMP_GRPC_INSECURE="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [(), ("--tls-fingerprint", "AB" * 32)])
def test_a_login_at_a_port_without_tls_does_not_offer_to_leave_it_out(
    network: Network, options: tuple[str, ...]
) -> None:
    said = network.refused("", "login", network.plain, "--pairing-code", *options, JMP_PAIRING_CODE="x")
    assert said == (
        f"error: {network.plain} does not speak TLS; is it the port of the controller? Controllers and routers have "
        "TLS\n"
    )


def test_no_passphrase_and_a_wrong_one_are_two_things(network: Network) -> None:
    assert network.refused(network.plain, JMP_GRPC_INSECURE="1") == (
        f"error: the exporter {network.plain} requires a passphrase; set JMP_GRPC_PASSPHRASE to it\n"
    )
    assert network.refused(network.plain, JMP_GRPC_INSECURE="1", JMP_GRPC_PASSPHRASE="guessed") == (
        f"error: the passphrase in JMP_GRPC_PASSPHRASE is not the one of the exporter {network.plain}; "
        "ask its administrator for it\n"
    )


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says this to everybody, and leaves."""
    with socket.create_server(("localhost", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(16)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "is it the right address?"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the peer speaks HTTP/1, not gRPC; is it the right port?"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "the peer does not speak HTTP/2; is it the right address?"),
    ],
)
def test_what_is_no_exporter_has_executed_nothing(network: Network, answer: bytes, reason: str) -> None:
    with answering(answer) as host:
        said = network.refused(host, "power", "on", JMP_GRPC_INSECURE="1")
    assert said.startswith(f"error: no exporter answers at {host}: ")
    assert said.endswith(f"{reason}\n")
