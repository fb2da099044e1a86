"""A lab of Jumpstarter 0.9 moves as docs/from-jumpstarter.md says: a host, then a user, while others stay."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house import docs
from tests.interop import exporters
from tests.interop.lab import Lab
from tests.interop.upstream_lab import UpstreamLab
from tests.interop.user import LIMIT
from tests.support.peers import ROOT, Environment

PAGE = ROOT / "docs" / "from-jumpstarter.md"
EXPORT = {
    "power": {"type": "jumpstarter_driver_power.driver.MockPower"},
    "serial": {"type": "jumpstarter_driver_pyserial.driver.PySerial", "config": {"url": "loop://"}},
}


class PatientUpstreamLab(UpstreamLab):
    """Its time passes as everybody's, because the page starts its programs itself."""

    RATE = 1.0


def jmp(lab: Lab, home: Path, *words: str) -> str:
    """What 0.9.0's own command prints in that home."""
    environment = exporters.clean_environment(home)
    done = subprocess.run(
        [lab.upstream.bin / "jmp", *words],
        env=environment | {"PATH": f"{lab.upstream.bin}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def configure(lab: Lab, home: Path, credential: Path, *words: str, **more: Any) -> Path:
    """Have 0.9.0 write a configuration with what an administrator gave; then its user edits it."""
    given = yaml.safe_load(credential.read_text())
    options = (
        "--endpoint",
        given["endpoint"],
        "--token",
        given["token"],
        "--nointeractive",
        "--output",
        "path",
    )
    who = ("--namespace", given["metadata"]["namespace"], "--name", given["metadata"]["name"])
    file = Path(jmp(lab, home, "config", *words, *who, *options).strip())
    written = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(written | {"tls": given["tls"]} | more, sort_keys=False))
    return file


@pytest.mark.parametrize("kind", [Lab, PatientUpstreamLab])
def test_a_host_and_a_user_move_as_the_page_says(upstream: Environment, kind: type[Lab]) -> None:
    with kind.opened(upstream=upstream) as lab:
        home = lab.home / "ann"
        home.mkdir()
        lab.admin("exporter", "create", "demo", "--label", "board=rpi4", "--save", lab.home / "demo.yaml")
        board = configure(lab, home, lab.home / "demo.yaml", "exporter", "create", "demo", export=EXPORT)
        allowed = ("--allow", "jumpstarter_driver_*")
        user = configure(lab, home, lab.client("ann"), "client", "create", "ann", *allowed)
        files = {file: file.read_bytes() for file in (board, user)}
        theirs = lab.daemon(
            lab.upstream.bin / "jmp", "run", "--exporter", "demo", folder=home, activated=True
        )
        lab.until(lambda: lab.status("demo") == "AVAILABLE")
        use = ("shell", "--client", "ann", "--selector", "board=rpi4", "--", "j", "power", "on")
        jmp(lab, home, *use)
        lab.until(lambda: lab.status("demo") == "AVAILABLE")
        theirs.process.terminate()
        theirs.process.wait(LIMIT)
        lab.until(lambda: lab.status("demo") == "OFFLINE")

        environment = exporters.clean_environment(home)
        environment["PATH"] = f"{exporters.scripts()}:{environment['PATH']}"
        staying = f"env PATH={shlex.quote(f'{lab.upstream.bin}:')}$PATH jmp {shlex.join(use)}"
        assert docs.run_as_one(PAGE, home, "moved", environment, [staying]) == 6
        assert {file: file.read_bytes() for file in (board, user)} == files
        assert (home / "exporter.log").read_text().count("Serving leases") == 1
