"""Exporters that end by themselves, as their configuration says: with their lease, or after too many failures."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from jumpstarter_proto.errors import ExitCode

from tests.e2e.lab import LIMIT, Lab
from tests.interop import exporters
from tests.support import lab as support
from tests.support.peers import Environment

UNREACHABLE = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: one}
endpoint: 127.0.0.1:1
tls: {insecure: true, ca: ""}
token: nobody asks for it
failureDetection: {maxRapidFailures: 2, rapidFailureWindow: 60}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
"""


def test_an_exporter_ends_with_its_lease(warm_lab: support.Lab) -> None:
    with Lab.opened(host=warm_lab) as lab:
        daemon = lab.exporter("one", hooks="exitOnLeaseEnd: true\n")
        lab.ok("power", "on", "rpi4", "-l", "board=rpi4", "--client", lab.client("ann"))
        assert daemon.process.wait(LIMIT) == ExitCode.OK
        assert lab.status("one") == "OFFLINE"
        lab.start_exporter("one")


def test_both_give_up_after_as_many_failures(upstream: Environment) -> None:
    commands: list[exporters.Command] = [
        [upstream.bin / "jmp", "run", "--exporter-config"],
        [exporters.scripts() / "jumpstarter-exporter", "run", "--config"],
    ]
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        file = Path(home) / "one.yaml"
        file.write_text(UNREACHABLE)
        theirs, ours = (stack.enter_context(exporters.running([*one, file], Path(home))) for one in commands)
        theirs.process.wait(LIMIT)
        # 0.9.0 means to end with 1, and its command line makes 0 of it.
        assert ours.process.wait(LIMIT) == ExitCode.FAILED
        assert "child process failed 2 times within 60s each" in theirs.log.read_text()
        assert "2 times in a row the exporter was not served by 127.0.0.1:1" in ours.log.read_text()
