"""What the interop tests share: the hardware, one YAML for both exporters, and each exporter running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.interop import exporters, hardware
from tests.interop.desk import Desk
from tests.interop.exporters import Certificate, Exporter
from tests.interop.lab import Lab
from tests.support import lab as support
from tests.support.peers import Environment

TRANSPORTS = ["unix", "tls"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="module")
def config(home: Path) -> Iterator[Path]:
    """The YAML, filled in with a pty and a TCP service that live as long as the module's tests."""
    with hardware.serial_port() as serial, hardware.tcp_echo() as port:
        text = Path(__file__).with_name("exporter.yaml").read_text()
        path = home / "exporter.yaml"
        path.write_text(text.replace("@SERIAL@", serial).replace("@PORT@", str(port)))
        yield path


@pytest.fixture(scope="module")
def certificate(home: Path) -> Certificate:
    ca = trustme.CA()
    server = ca.issue_cert("localhost", "127.0.0.1")
    files = Certificate(home / "server.pem", home / "server.key", home / "ca.pem")
    for index, part in enumerate(server.cert_chain_pems):
        part.write_to_path(str(files.chain), append=index > 0)
    server.private_key_pem.write_to_path(str(files.key))
    ca.cert_pem.write_to_path(str(files.ca))
    return files


@pytest.fixture(scope="module", params=TRANSPORTS)
def our_exporter(
    request: pytest.FixtureRequest, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    with ExitStack() as stack:
        if request.param == "unix":
            yield stack.enter_context(exporters.our_unix(config, home))
        else:
            yield stack.enter_context(exporters.our_tls(config, home, certificate))


@pytest.fixture(scope="module", params=TRANSPORTS)
def their_exporter(
    request: pytest.FixtureRequest, upstream: Environment, config: Path, home: Path, certificate: Certificate
) -> Iterator[Exporter]:
    with ExitStack() as stack:
        if request.param == "unix":
            yield stack.enter_context(exporters.their_unix(upstream, config, home))
        else:
            yield stack.enter_context(exporters.their_tls(upstream, config, home, certificate))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardware.write_image(tmp_path_factory.mktemp("image") / "disk.img", 16 * hardware.MIB)


@pytest.fixture(scope="module")
def lab(upstream: Environment, warm_lab: support.Lab) -> Iterator[Lab]:
    """A lab for all tests of a module: each has boards or people of its own where it would disturb another."""
    with Lab.opened(upstream=upstream, host=warm_lab) as opened:
        yield opened


@pytest.fixture
def own_lab(upstream: Environment) -> Iterator[Lab]:
    """A lab for one test, which may kill its controller."""
    with Lab.opened(upstream=upstream) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """Callers and boards without any software but grpcio's."""
    with Lab.opened() as opened:
        yield Desk(opened, opened.caller("ann"), opened.caller("bob"))
