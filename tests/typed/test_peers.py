"""Boards driven by grpcio, purerpc's own client and a Go program: locally, over TLS with a passphrase, and leased."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.interop import exporters
from tests.support.lab import Lab
from tests.support.peers import ROOT

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: typed}
export:
  power: {type: power.MockPower}
  echo: {type: network.EchoNetwork}
  card: {type: storage.MockStorageMuxFlasher}
"""
LIMIT = 120
OURS = {"jumpstarter.v1.ExporterService", "jumpstarter.v1.RouterService"}
TYPED = {
    f"jumpstarter.driver.{name}"
    for name in (
        "composite.v1.CompositeInterface",
        "network.v1.NetworkInterface",
        "power.v1.PowerInterface",
        "storage.v1.StorageInterface",
        "storage_mux.v1.StorageMuxInterface",
    )
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "exporter.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> exporters.Certificate:
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    files = exporters.Certificate(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    server.cert_chain_pems[0].write_to_path(str(files.chain))
    server.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.ca))
    return files


@pytest.fixture
def lab(warm_lab: Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def grpcio(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tests.typed.grpcio_client", *map(str, arguments)]


def told(command: list[str]) -> Any:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any]) -> None:
    assert set(found["services"]) >= TYPED | OURS
    assert found["on"] == {}
    assert [one.get("voltage", 0) for one in found["read"]] == [0, 5]
    assert found["cycle"] == {}
    assert found["bad_cycle"] == ["INVALID_ARGUMENT", "wait is -1; it takes seconds, 0 or more"]
    assert found["rescue"] == ["UNIMPLEMENTED", "this power switch has no rescue mode"]
    assert found["wrong_device"][0] == "NOT_FOUND"
    assert found["echo"] == "hello world"
    assert found["unnamed"][0] == "INVALID_ARGUMENT"
    assert found["unnamed"][1].startswith("handle: a resource handle is")


def test_grpcio_and_its_reflection_client_on_a_unix_socket(config: Path, tmp_path: Path) -> None:
    with exporters.our_unix(config, tmp_path) as exporter:
        check(told(grpcio(f"unix:{exporter.address}")))


def test_grpcio_over_tls_with_a_passphrase(
    config: Path, tmp_path: Path, certificate: exporters.Certificate
) -> None:
    with exporters.our_tls(config, tmp_path, certificate) as exporter:
        trusting = (exporter.address, "--ca", certificate.ca)
        check(told(grpcio(*trusting, "--passphrase", exporters.PASSPHRASE)))
        done = subprocess.run(
            grpcio(*trusting, "--passphrase", "wrong"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert "UNAUTHENTICATED" in done.stderr


def test_grpcio_drives_a_leased_board_through_controller_and_router(lab: Lab) -> None:
    lab.exporter("one", label="board=typed", export=CONFIG[CONFIG.index("export:") :])
    client = lab.client("ann")
    inner = f'exec {" ".join(grpcio())} "unix:$JUMPSTARTER_HOST"'
    command = ("-l", "board=typed", "--client", client, "--", "sh", "-c", f"cd {ROOT} && {inner}")
    check(json.loads(lab.ok("shell", *command).splitlines()[-1]))


GO_SAW = {
    "read": [0, 5],
    "bad_cycle": ["InvalidArgument", "wait is -1; it takes seconds, 0 or more"],
    "echo": "hello",
}


def test_go_program_with_generated_stubs_on_a_unix_socket(
    go_board: Path, config: Path, tmp_path: Path
) -> None:
    with exporters.our_unix(config, tmp_path) as exporter:
        assert told([str(go_board), f"unix:{exporter.address}"]) == GO_SAW


def test_go_program_over_tls_with_a_passphrase(
    go_board: Path, config: Path, tmp_path: Path, certificate: exporters.Certificate
) -> None:
    with exporters.our_tls(config, tmp_path, certificate) as exporter:
        command = [str(go_board), exporter.address, str(certificate.ca), exporters.PASSPHRASE]
        assert told(command) == GO_SAW


def test_go_program_drives_a_leased_board(go_board: Path, lab: Lab) -> None:
    lab.exporter("one", label="board=typed", export=CONFIG[CONFIG.index("export:") :])
    command = ("-l", "board=typed", "--client", lab.client("ann"), "--")
    said = lab.ok("shell", *command, "sh", "-c", f'exec {go_board} "unix:$JUMPSTARTER_HOST"')
    assert json.loads(said.splitlines()[-1]) == GO_SAW


def test_purerpcs_own_client_over_tcp(config: Path, tmp_path: Path) -> None:
    port = exporters.free_port()
    program = exporters.scripts() / "jumpstarter-exporter"
    command: list[str | Path] = [
        program,
        "run",
        "--config",
        config,
        "--listen",
        f"127.0.0.1:{port}",
        "--insecure",
    ]
    with ExitStack() as stack:
        daemon = stack.enter_context(
            exporters.running([*command, "--socket", tmp_path / "local.sock"], tmp_path)
        )
        daemon.first_line()
        found = told([sys.executable, "-m", "tests.typed.purerpc_client", "127.0.0.1", str(port)])
    assert found == {"read": [0, 5], "bad_cycle": "wait is -1; it takes seconds, 0 or more"}


def test_exporter_loads_nothing_of_it_before_the_first_call(config: Path, tmp_path: Path) -> None:
    program = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from jumpstarter_exporter import config\n"
        "from jumpstarter_exporter.session.session import Session\n"
        "from jumpstarter_exporter.session.report import instance_reports\n"
        "async def main():\n"
        "    board = config.build(config.load(Path(sys.argv[1]))).make()\n"
        "    async with Session(board) as session:\n"
        "        (root, *others) = instance_reports(session.tree)\n"
        "        assert all(one.file_descriptor_proto and one.native_services for one in others)\n"
        "trio.run(main)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'purerpc', 'anyio', 'grpc', 'async_generator'}, loaded\n"
        "assert 'jumpstarter_proto.driver.power.v1.power_pb2' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(config)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
