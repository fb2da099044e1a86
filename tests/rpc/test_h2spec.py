"""Our servers against h2spec, the conformance test of HTTP/2 that others wrote: 145 cases each, as processes."""

from __future__ import annotations

import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.controllers import controller
from tests.interop import exporters

pytestmark = pytest.mark.timeout(180)
CASES = 145
SECONDS = "3"
"""That a case waits for an answer. What passes does not wait."""
DIFFERENT = {
    # It sends a frame of 20 KB and takes for granted that a server takes 16 KiB, the default. Ours say in their
    # settings that they take 1 MiB, as frames of 64 KiB are what a router carries. grpc-go says nothing, and passes.
    # Beyond what ours say the case holds: see the test below.
    "4.2.3: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
}
"""The cases that do not hold here, each with its reason and what grpc-go does. Of the 145, grpc-go 1.75 fails 29."""


@pytest.fixture(scope="module")
def controller_ports() -> Iterator[tuple[int, int]]:
    """Of a controller and of the router in its process, both with TLS."""
    router = exporters.free_port()
    more = ["--with-router", "--router-listen", f"127.0.0.1:{router}"]
    with tempfile.TemporaryDirectory(prefix="h2-") as home, controller(Path(home), more=more) as lab:
        yield lab.port, router


@pytest.fixture(scope="module")
def exporter_port() -> Iterator[int]:
    """Of an exporter that asks for a passphrase, without TLS."""
    with tempfile.TemporaryDirectory(prefix="h2-") as folder:
        home = Path(folder)
        (home / "lab.yaml").write_text("export: {power: {type: power.MockPower}}\n")
        (home / "secret").write_text("open sesame\n")
        port = exporters.free_port()
        command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run"]
        command += ["--config", home / "lab.yaml", "--socket", home / "exporter.sock"]
        command += ["--listen", f"127.0.0.1:{port}", "--insecure", "--passphrase-file", home / "secret"]
        with exporters.running(command, home) as daemon:
            daemon.first_line()
            yield port


def failures(h2spec: Path, port: int, tmp_path: Path, *options: str) -> tuple[int, set[str]]:
    """How many cases were run, and which do not hold or were skipped."""
    report = tmp_path / "report.xml"
    command = [h2spec, "--host", "127.0.0.1", "--port", str(port), "--timeout", SECONDS]
    done = subprocess.run(
        [*command, "--junit-report", report, *options], capture_output=True, text=True, check=False
    )
    assert report.exists(), done.stdout + done.stderr
    count, failed = 0, set()
    for suite in ET.parse(report).iter("testsuite"):
        for number, case in enumerate(suite.iter("testcase"), 1):
            count += 1
            if len(case):
                failed.add(
                    f"{str(suite.get('package')).rpartition('/')[2]}.{number}: {case.get('classname')}"
                )
    return count, failed


@pytest.mark.parametrize("server", ["controller", "router", "exporter"])
def test_a_server_does_what_http2_demands(
    server: str, h2spec: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if server == "exporter":
        port, options = request.getfixturevalue("exporter_port"), []
    else:
        port = request.getfixturevalue("controller_ports")[server == "router"]
        options = ["--tls", "--insecure"]
    count, failed = failures(h2spec, port, tmp_path, *options)
    assert count == CASES
    assert failed == DIFFERENT


def test_a_frame_above_what_we_say_that_we_take_is_refused(
    h2spec: Path, tmp_path: Path, exporter_port: int
) -> None:
    larger = str((1 << 20) // 4)  # five of them are in its frame
    _, failed = failures(h2spec, exporter_port, tmp_path, "--max-header-length", larger, "http2/4.2/3")
    assert failed == set()
