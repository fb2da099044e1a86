"""`jumpstarter exporters`: which board is leased by whom, live, over a restart of the controller."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pexpect
import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.interop import exporters

HOOKS = """hooks:
  beforeLease: {script: "true password=hidden", timeout: 90, onFailure: endLease}
  afterLease: {script: "true", exec: /bin/sh}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.opened() as lab:
        lab.exporter("one", hooks=HOOKS)
        lab.admin("exporter", "create", "two", "--label", "board=rpi5", "--save", lab.home / "two.yaml")
        lab.admin("exporter", "disable", "two")
        yield lab


@pytest.fixture(scope="module")
def ann(lab: Lab) -> Path:
    return lab.client("ann")


def test_free_held_disabled_and_offline_are_shown_as_such(lab: Lab, ann: Path) -> None:
    rows = lab.ok("exporters", "--client", ann).splitlines()
    assert rows[0].split() == ["NAME", "STATE", "HELD", "BY", "UNTIL", "LABELS", "INTERFACES", "REASON"]
    assert rows[1].split() == ["one", "free", "board=rpi4", "power,serial,storage"]
    assert rows[2].split()[:3] == ["two", "offline,", "disabled"]
    name = lab.ok("lease", "create", "-n", "one", "-o", "name", "--client", ann).strip()
    row = lab.ok("get", "exporters", "-l", "board=rpi4", "--client", ann).splitlines()[1].split()
    assert row[:3] == ["one", "leased", "ann"]
    assert row[3].startswith("20")
    queued = [
        lab.ok("lease", "create", *words, "--no-wait", "-o", "name", "--client", ann).strip()
        for words in (("-l", "board=rpi4"), ("-n", "one"), ("-n", "two"))
    ]
    lines = lab.ok("exporters", "show", "one", "--client", ann).splitlines()
    assert "queue:    2 waiting: ann, ann" in lines
    assert f"lease:    {name}" in lines
    shown = json.loads(lab.ok("exporters", "show", "one", "-o", "json", "--client", ann))
    assert {one["lease"] for one in shown["queue"]} == set(queued[:2])
    assert datetime.fromisoformat(shown["lease"]["until"]).tzinfo is not None
    listed = lab.ok("lease", "list", "--client", ann).splitlines()
    assert listed[0].split()[2] == "BEGINS"
    row_of_lease = next(line for line in listed if name[-8:] in line)
    begins, expires = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row_of_lease)
    assert begins < expires
    lab.ok("lease", "release", *queued, "--client", ann)
    found = json.loads(lab.ok("exporters", "-o", "json", "--client", ann))["exporters"]
    assert [(one["name"], one["state"], one["enabled"]) for one in found] == [
        ("one", "leased", True),
        ("two", "offline", False),
    ]
    assert (found[0]["lease"]["name"], found[0]["lease"]["client"]) == (name, "ann")
    assert lab.ok("exporters", "-o", "name", "--client", ann) == "one\ntwo\n"
    lab.ok("lease", "release", name, "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    code, sentence = lab.refused("exporters", "-l", "board in", "--client", ann)
    assert (code, sentence.count("\n")) == (2, 1), sentence


def test_an_exporters_devices_are_shown_with_what_they_are_and_how_they_are(lab: Lab, ann: Path) -> None:
    shown = json.loads(lab.ok("exporters", "show", "one", "-o", "json", "--client", ann))
    assert (shown["name"], shown["state"], shown["omitted_devices"]) == ("one", "free", 0)
    devices = {one["path"]: one for one in shown["devices"]}
    assert (devices["rpi4.power"]["interface"], devices["rpi4.power"]["state"]) == ("power", "ready")
    listed = json.loads(lab.ok("exporters", "-o", "json", "--client", ann))["exporters"]
    assert [one["devices"] for one in listed] == [shown["devices"], []]
    lines = lab.ok("exporters", "show", "one", "--client", ann).splitlines()
    assert lines[0].split() == ["name:", "one"]
    titles = next(line for line in lines if line.startswith("DEVICE"))
    assert titles.split() == ["DEVICE", "INTERFACE", "STATE", "REASON"]
    assert ["rpi4.power", "power", "ready"] in [line.split()[:3] for line in lines]
    assert "hook:     beforeLease, at most 90s; a failure ends the lease" in lines
    assert "hook:     afterLease, at most 120s; a failure is a warning" in lines
    assert shown["hooks"] == [
        {"name": "beforeLease", "timeout_seconds": 90, "on_failure": "endLease"},
        {"name": "afterLease", "timeout_seconds": 120, "on_failure": "warn"},
    ]
    assert "hidden" not in f"{shown}{lines}"
    code, sentence = lab.refused("exporters", "show", "three", "--client", ann)
    assert (code, sentence.count("\n")) == (3, 1), sentence
    assert lab.ok("__complete", "exporters", "show", "--client", ann) == "one\ntwo\n"


def test_a_watch_in_a_pipe_prints_changes_and_outlives_its_controller(lab: Lab, ann: Path) -> None:
    watch = Reader(lab.start("exporters", "--watch", "--client", ann))
    lab.until(lambda: "one is free\n" in watch.text["out"])
    name = lab.ok("lease", "create", "-n", "one", "-o", "name", "--client", ann).strip()
    lab.until(lambda: "one is leased: ann until 20" in watch.text["out"])
    lab.kill_controller()
    lab.until(lambda: "the controller is unreachable" in watch.text["err"])
    lab.start_controller()
    lab.until(lambda: "the controller is reachable again" in watch.text["err"])
    lab.ok("lease", "release", name, "--client", ann)
    lab.until(lambda: watch.text["out"].count("one is free\n") == 2)
    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(timeout=LIMIT) == 130
    assert watch.text["err"].count("\n") == 2, watch.text


def test_a_watch_on_a_terminal_draws_one_table_again(lab: Lab, ann: Path) -> None:
    program = str(exporters.scripts() / "jumpstarter")
    environment = {**os.environ, **lab.environment, "TERM": "xterm"}
    watch = pexpect.spawn(
        program,
        ["exporters", "--watch", "--client", str(ann)],
        env=environment,
        encoding="utf-8",
        dimensions=(24, 100),
        timeout=LIMIT,
    )
    watch.expect("one +free")
    name = lab.ok("lease", "create", "-n", "one", "-o", "name", "--client", ann).strip()
    watch.expect("\x1b\\[4A\x1b\\[J")
    watch.expect("one +leased +ann")
    watch.expect("Ctrl-C ends this")
    lab.ok("lease", "release", name, "--client", ann)
    watch.expect("one +free")
    watch.sendintr()
    watch.expect(pexpect.EOF)
    watch.close()
    assert watch.exitstatus == 130
    assert "Traceback" not in (watch.before or "")
