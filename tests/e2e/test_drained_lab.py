"""A lab that is drained and restarted, as for an upgrade: no session is lost, and no lease begins meanwhile."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.lab import LIMIT, Reader
from tests.interop import exporters
from tests.support.lab import Lab

pytestmark = pytest.mark.timeout(180)


def controller(lab: Lab, *words: str) -> list[str | Path]:
    """`jumpstarter-controller …` on the lab's folder."""
    return [exporters.scripts() / "jumpstarter-controller", *words, "--data", lab.data]


def done(lab: Lab, *words: str) -> str:
    """What a command prints that has to succeed."""
    ended = subprocess.run(
        controller(lab, *words), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def metric(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(line for line in lines if line.startswith("jumpstarter_drained"))


def test_a_drained_lab_is_restarted_without_a_lost_session_and_gives_nobody_a_board_until_it_is_resumed() -> (
    None
):
    port = exporters.free_port()
    with Lab.opened("--metrics-listen", f"127.0.0.1:{port}", "--log-level", "info") as lab:
        lab.exporter("rpi4")
        lab.exporter("rock", label="board=rock")
        ann, bob = lab.client("ann"), lab.client("bob")
        go, ready = lab.home / "go", lab.home / "ready"
        script = f"j power on && touch {ready}; while ! test -e {go}; do sleep 0.05; done; j power off"
        shell = lab.start("shell", "-l", "board=rpi4", "--client", ann, "--", "sh", "-c", script)
        lab.until(lambda: ready.exists() or shell.poll() is not None)
        assert metric(port) == "jumpstarter_drained 0.0"
        said = done(lab, "drain", "--reason", "upgrade")
        assert (
            said
            == "drained: no lease begins until `jumpstarter-controller resume`; 1 lease runs, none wait\n"
        )
        # A board that is free is given to nobody, before the restart and after it.
        waiting = Reader(lab.start("power", "on", "-l", "board=rock", "--client", bob))
        lab.until(lambda: "the lab is drained (upgrade)" in " ".join(waiting.text["err"].split()))
        lab.controller.process.terminate()
        lab.controller.process.wait(LIMIT)
        assert "lab is drained (upgrade)" in lab.controller.log.read_text()
        lab.start_controller()
        assert metric(port) == "jumpstarter_drained 1.0"
        assert "drained since" in lab.controller.log.read_text()
        lab.until(lambda: lab.status("rock") == "AVAILABLE")
        assert waiting.process.poll() is None
        with subprocess.Popen(
            controller(lab, "drain", "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as drain:
            assert drain.stdout is not None
            assert "1 lease runs, 1 waits" in drain.stdout.readline()
            go.touch()
            out, err = shell.communicate(timeout=LIMIT)
            assert shell.returncode == 0, (out, err)
            assert drain.wait(LIMIT) == 0
        assert waiting.process.poll() is None
        assert done(lab, "resume").startswith("leases begin again; ")
        code, _, said = waiting.end()
        assert code == 0, said
        assert metric(port) == "jumpstarter_drained 0.0"


def test_a_lab_is_drained_before_it_starts_and_a_wait_for_its_leases_has_an_end() -> None:
    with Lab.opened() as lab:
        lab.exporter("rpi4")
        ann = lab.client("ann")
        lab.ok("lease", "create", "-l", "board=rpi4", "--client", ann)
        ended = subprocess.run(
            controller(lab, "drain", "--wait", "--timeout", "1"),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert ended.returncode == 6, ended.stderr
        assert "leases still run after 1 s; the lab stays drained" in ended.stderr
        done(lab, "resume")
        lab.kill_controller()
        assert "1 lease runs" in done(lab, "drain")
        lab.start_controller()
        assert "drained since" in lab.controller.log.read_text()


def test_a_wait_for_leases_goes_on_while_no_controller_runs_and_lets_one_start() -> None:
    with Lab.opened() as lab:
        lab.exporter("rpi4")
        ann = lab.client("ann")
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        lab.kill_controller()
        with subprocess.Popen(
            controller(lab, "drain", "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as drain:
            assert drain.stdout is not None
            assert "1 lease runs" in drain.stdout.readline()
            lab.start_controller()
            assert "rpi4" in lab.admin("exporter", "list")
            lab.controller.process.terminate()
            lab.controller.process.wait(LIMIT)
            lab.start_controller()
            lab.until(lambda: lab.status("rpi4") == "LEASE_READY")
            assert drain.poll() is None
            lab.ok("lease", "release", "mine", "--client", ann)
            out, err = drain.communicate(timeout=LIMIT)
            assert (drain.returncode, out) == (0, "no leases run, none wait\n"), err
