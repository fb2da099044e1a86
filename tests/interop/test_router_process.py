"""Jumpstarter 0.9.0's client and exporter through a `jumpstarter-router` in its own process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.interop import exporters
from tests.support.lab import Lab
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: jumpstarter_driver_power.driver.MockPower}\n"


def test_0_9_0_believes_the_router_by_the_configuration_that_it_has(upstream: Environment) -> None:
    # Short: 0.9.0 puts its sockets below, and a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        lab = Lab(Path(home), stack)
        endpoint = f"127.0.0.1:{exporters.free_port()}"
        lab.start_controller("--router", endpoint)
        lab.admin("router", "create", endpoint, "--save", lab.home / "router.pem")
        program = exporters.scripts() / "jumpstarter-router"
        router = lab.daemon(program, "--key", lab.home / "router.pem", "--listen", endpoint)
        assert router.first_line() == f"Router on {endpoint}"
        file = lab.home / "one.yaml"
        lab.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", file)
        file.write_text(file.read_text().replace("export: {}\n", EXPORT))
        ann = lab.client("ann")
        exporter = lab.daemon(upstream.bin / "jmp", "run", "--exporter-config", file)
        lab.until(lambda: "one  AVAILABLE" in lab.admin("exporter", "list"))
        environment = exporters.clean_environment(lab.home)
        environment["PATH"] = f"{upstream.bin}:{os.environ['PATH']}"
        command = [upstream.bin / "jmp", "shell", "--client-config", ann, "--selector", "board=rpi4"]
        done = subprocess.run(
            [*command, "--", "j", "power", "on"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "power on" in exporter.log.read_text().lower()
        lab.until(lambda: "stream ended" in router.log.read_text())
