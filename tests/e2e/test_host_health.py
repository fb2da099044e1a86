"""How an exporter's host is, in `exporters show` and in the controller's metrics."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.lab import LIMIT, Lab
from tests.interop import exporters
from tests.support.programs import clock_rate

FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def health(lab: Lab, ann: Path) -> dict[str, Any]:
    """What is shown of it: empty as long as that is nothing."""
    found = json.loads(lab.ok("exporters", "show", "one", "-o", "json", "--client", ann))["health"]
    return found or {}


def power(lab: Lab, ann: Path) -> str:
    found = [one for one in health(lab, ann).get("findings", ()) if one["key"] == "power.undervoltage"]
    return found[0]["severity"] if found else ""


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.name + sample.labels.get("severity", ""): sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("exporter") == "one"
        }


def test_a_weak_supply_is_seen_by_who_leases_and_in_metrics_and_again_after_a_restart(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    for place, text in (
        ("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
        ("proc/meminfo", "MemTotal: 3884372 kB\nMemAvailable: 3012340 kB\n"),
        (FLAGS, "0\n"),
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    port = exporters.free_port()
    with ExitStack() as stack:
        lab = Lab(tmp_path, stack)
        lab.start_controller("--metrics-listen", f"127.0.0.1:{port}")
        with clock_rate(5):  # the host is looked at once a minute
            lab.exporter("one", environment={"JUMPSTARTER_HOST_ROOT": str(root)})
        ann = lab.client("ann")
        lab.until(lambda: power(lab, ann) == "ok")
        (root / FLAGS).write_text("50005\n")
        lab.until(lambda: power(lab, ann) == "error")
        lines = lab.ok("exporters", "show", "one", "--client", ann).splitlines()
        assert any(line.startswith("health:   1 error and ") for line in lines)
        assert any(line.startswith("error:    the supply's voltage is too low now; use ") for line in lines)
        starts = [line[:8] for line in lines]
        # What only who looks after the host can do something about comes after the devices.
        assert starts.index("health: ") < starts.index("DEVICE  ") < starts.index("error:  "), lines
        numbers = metrics(port)
        assert numbers["jumpstarter_host_findingserror"] == 1
        assert numbers["jumpstarter_host_undervoltage"] == 1
        assert numbers["jumpstarter_host_memory_available_bytes"] == 3012340 * 1024
        lab.kill_controller()
        lab.start_controller()
        lab.until(lambda: power(lab, ann) == "error")


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """An exporter with a board that is served and one that is not; what a user beside it has in their environment."""
    configurations = folder / ".config/jumpstarter/exporters"
    configurations.mkdir(parents=True)
    head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: %s}\n"
    (configurations / "rpi4.yaml").write_text(head % "rpi4" + "export: {power: {type: power.MockPower}}\n")
    (configurations / "rock.yaml").write_text(head % "rock" + "export: {power: {type: power.NoSuchThing}}\n")
    program = exporters.scripts() / "jumpstarter-exporter"
    with exporters.running([program, "run"], folder) as daemon:
        assert daemon.first_line().startswith("Listening on ")
        yield exporters.clean_environment(folder)


def test_doctor_beside_an_exporter_that_runs(tmp_path: Path) -> None:
    program = exporters.scripts() / "jumpstarter-exporter"

    def findings(environment: dict[str, str]) -> dict[str, Any]:
        command = [program, "doctor", "-o", "json"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert (done.returncode, done.stderr) == (1, "")
        return {one["key"]: one for one in json.loads(done.stdout)["findings"]}

    with served(tmp_path) as environment:
        found = findings(environment)
        assert found["exporter.running"]["sentence"] == "an exporter runs, and has 2 boards"
        assert (found["exporter.board"]["subject"], found["exporter.board"]["severity"]) == ("rock", "error")
        assert found["config.broken"]["subject"].endswith("rock.yaml")
    found = findings(environment)
    assert found["exporter.running"]["sentence"].startswith("no exporter runs")
