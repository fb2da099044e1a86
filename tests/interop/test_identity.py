"""Jumpstarter 0.9.0's client and exporter with what enrolment and a login at an issuer have written."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.identity.config_files import ConfigFiles
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_proto.remote import Identity, Kind, Trust

from tests.e2e.lab import LIMIT, Lab
from tests.e2e.test_oidc import lab_with
from tests.interop import exporters
from tests.support import lab as support
from tests.support import oidc
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
pytestmark = pytest.mark.timeout(300)


def jmp(upstream: Environment, lab: Lab, *words: str) -> str:
    done = subprocess.run(
        [upstream.bin / "jmp", *words],
        env=exporters.clean_environment(lab.home) | {"PATH": f"{upstream.bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def enrol(lab: Lab, kind: str, name: str, *words: str | Path, label: str = "") -> None:
    labels = ["--label", label] if label else []
    offer = json.loads(lab.admin("pair", kind, name, *labels, "-o", "json"))
    program, *rest = offer["command"]
    subprocess.run(
        [exporters.scripts() / program, *rest, *words],
        env=lab.environment,
        input=offer["code"],
        text=True,
        timeout=LIMIT,
        check=True,
    )


def test_their_exporter_and_client_with_enrolled_configurations(
    upstream: Environment, warm_lab: support.Lab
) -> None:
    with Lab.opened(host=warm_lab) as lab, ExitStack() as stack:
        file = lab.home / "one.yaml"
        file.write_text(EXPORT)
        enrol(lab, "exporter", "one", "--save", file, label="board=rpi4")
        enrol(lab, "client", "ann")
        command: exporters.Command = [upstream.bin / "jmp", "run", "--exporter-config", file]
        daemon = stack.enter_context(exporters.running(command, lab.home))
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        # Ours is the current one: nobody has to name it.
        jmp(upstream, lab, "shell", "--selector", "board=rpi4", "--", "j", "power", "on")
        assert "power on" in daemon.log.read_text().lower()
        jmp(upstream, lab, "auth", "rotate")
        jmp(upstream, lab, "get", "leases")


def test_their_client_as_a_user_of_another_issuer(upstream: Environment, tmp_path: Path) -> None:
    with oidc.provider(tmp_path / "oidc") as provider, lab_with(provider, tmp_path) as lab:
        addresses = DataFolder(lab.home / "data").addresses()
        config = ClientConfig(
            addresses.endpoint,
            Identity(Kind.CLIENT, "default", "robot", provider.robot_token()),
            Trust(ca=base64.b64encode(addresses.ca.encode()).decode()),
            refresh_token="kept",
        )
        ConfigFiles(lab.home / ".config" / "jumpstarter").save("robot", config)
        assert '"leases": []' in jmp(upstream, lab, "get", "leases", "-o", "json")
        assert lab.admin("client", "list", "-o", "name").split() == ["robot"]
