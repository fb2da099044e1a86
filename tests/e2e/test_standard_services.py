"""Health checking and reflection of controller and router, as grpcio's own clients see them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.support.lab import Lab
from tests.support.peers import ROOT

STANDARD = {
    "grpc.health.v1.Health": {"Check", "Watch"},
    "grpc.reflection.v1.ServerReflection": {"ServerReflectionInfo"},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo"},
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


@pytest.mark.parametrize(
    ("which", "service", "method"),
    [
        ("controller", "jumpstarter.v1.ControllerService", "Dial"),
        ("router", "jumpstarter.v1.RouterService", "Stream"),
    ],
)
def test_anybody_may_ask(lab: Lab, which: str, service: str, method: str) -> None:
    daemon = lab.start_controller()
    endpoint = f"127.0.0.1:{lab.port}"
    if which == "router":
        endpoint = f"127.0.0.1:{exporters.free_port()}"
        lab.admin("router", "create", endpoint, "--save", lab.home / "router.pem")
        program = exporters.scripts() / "jumpstarter-router"
        daemon = lab.daemon(program, "--key", lab.home / "router.pem", "--listen", endpoint)
        daemon.first_line()
    command = [sys.executable, "-m", "tests.rpc.standard_client", endpoint, str(lab.data / "tls.crt")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        found = json.loads(peer.stdout.readline())
        assert peer.stdout.readline() == "SERVING\n"
        daemon.process.terminate()
        assert peer.stdout.read() == "NOT_SERVING\n"
        assert peer.wait(30) == 0
    assert daemon.process.wait(30) == 0
    assert method in found["methods"][service]
    assert {name: set(found["methods"].get(name, ())) for name in STANDARD} == STANDARD
    assert found["v1"] == [
        "list_services_response",
        "file_descriptor_response",
        "error_response 5",
        "error_response 5",
        "all_extension_numbers_response",
        "error_response 5",
        "error_response 5",
        "error_response 3",
    ]
    assert found["health"][""] == found["health"][service] == "SERVING"
    assert found["health"]["no.such.Service"] == "NOT_FOUND"
