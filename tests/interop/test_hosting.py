"""Drivers that a lab wrote for Jumpstarter 0.9 run in a child of our exporter; 0.9's client and ours use them."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import exporters, hosting
from tests.interop.exporters import Exporter
from tests.interop.user import User
from tests.support.peers import Environment

CONFIG = """\
metadata: {{name: hosted}}
python: {python}
export:
  greeter:
    type: lab_drivers.Greeter
    description: says hello
    config: {{word: hi, note: {note}}}
  board:
    children:
      other: {{type: lab_drivers.Greeter}}
      alone: {{type: lab_drivers.Greeter, ownProcess: true}}
      broken: {{type: lab_drivers.Broken}}
  power: {{type: power.MockPower}}
"""


@pytest.fixture(scope="module")
def note(home: Path) -> Path:
    return home / "note"


@pytest.fixture(scope="module")
def exporter(upstream: Environment, home: Path, note: Path) -> Iterator[Exporter]:
    environment = hosting.lab_environment(upstream, home)
    config = home / "hosted.yaml"
    config.write_text(CONFIG.format(python=environment.python, note=note))
    with exporters.our_unix(config, home) as running:
        yield running


@pytest.fixture(scope="module")
def ann(exporter: Exporter, home: Path) -> User:
    return User(exporters.scripts(), exporter, home)


@pytest.fixture(scope="module")
def bob(upstream: Environment, exporter: Exporter, home: Path) -> User:
    also = {"JMP_DRIVERS_ALLOW": "UNSAFE", "PYTHONPATH": str(hosting.LAB_MODULES)}
    return User(upstream.bin, exporter, home, also)


def call(user: User, *words: str) -> object:
    return json.loads(user.run("jumpstarter", "call", *words, "-o", "json").stdout or "null")


PROGRAM = """
import json
from jumpstarter.utils.env import env
with env() as client:
    greeter = client.greeter
    with greeter.stream() as stream:
        stream.send(b"loud")
        loud = stream.receive().decode()
    try:
        greeter.call("refuse")
    except Exception as error:
        refusal = [type(error).__name__, str(error)]
    print(json.dumps({
        "class": type(greeter).__name__, "labels": dict(greeter.labels), "description": greeter.description,
        "greeting": greeter.greet("bob"), "counted": list(greeter.streamingcall("count", 3)), "loud": loud,
        "refusal": refusal, "power": client.power.on(),
    }))
"""


def test_the_client_of_0_9_finds_its_classes(bob: User) -> None:
    found = json.loads(bob.run("python", "-c", PROGRAM).stdout.splitlines()[-1])
    labels = found.pop("labels")
    assert labels["lab.example/word"] == "hi"
    assert labels["jumpstarter.dev/state"] == "ready", "only the exporter sets that"
    assert found.pop("refusal")[1].endswith("no such thing")
    assert found == {
        "class": "GreeterClient",
        "description": "says hello",
        "greeting": "hi bob",
        "counted": [0, 1, 2],
        "loud": "LOUD",
        "power": None,
    }


def test_our_command_calls_methods_by_name(ann: User) -> None:
    assert call(ann, "greeter", "greet", "ann", "2") == "hi ann hi ann"
    assert ann.run("jumpstarter", "call", "greeter", "count", "2").stdout == "0\n1\n"
    refused = ann.run("jumpstarter", "call", "greeter", "refuse", check=False)
    assert (refused.returncode, refused.stderr) == (2, "error: no such thing\n")


def test_our_command_lists_methods(ann: User) -> None:
    listed = ann.run("jumpstarter", "call", "greeter", "help").stdout
    assert "greet(name: str, times: float = 1)\n    Greet somebody.\n" in listed
    assert "count(most: float)  (streaming)\n" in listed
    assert "connect()  (byte stream)\n" in listed
    assert "on()\n" in ann.run("jumpstarter", "call", "power").stdout


def test_devices_of_a_board_share_a_child_unless_told_otherwise(ann: User) -> None:
    greeter, other, alone = (call(ann, name, "pid") for name in ("greeter", "other", "board.alone"))
    assert greeter == other != alone


def test_devices_names_the_childs_memory_and_why_one_is_not_made(ann: User) -> None:
    call(ann, "greeter", "pid")
    devices = {one["path"]: one for one in json.loads(ann.run("jumpstarter", "devices", "-o", "json").stdout)}
    assert devices["greeter"]["labels"]["jumpstarter.dev/memory"].endswith(" MB")
    assert "  (its process has " in ann.run("jumpstarter", "devices").stdout
    assert "FileNotFoundError: no adapter" in devices["board.broken"]["reason"]


def test_the_child_inherits_neither_descriptors_nor_secrets(ann: User, home: Path) -> None:
    inherited = call(ann, "greeter", "environment")
    assert isinstance(inherited, dict)
    assert not [name for name in inherited["variables"] if name.startswith(("JMP_", "JUMPSTARTER"))]
    assert inherited["files"] == []


def test_a_crash_fails_its_devices_and_nobody_else(ann: User) -> None:
    alone = call(ann, "board.alone", "pid")
    crashed = ann.run("jumpstarter", "call", "greeter", "crash", check=False)
    assert crashed.returncode == 1
    assert "ended with the exit code 7" in crashed.stderr
    ann.run("jumpstarter", "power", "on")
    assert call(ann, "board.alone", "pid") == alone
    states = {
        one["path"]: one["state"]
        for one in json.loads(ann.run("jumpstarter", "devices", "-o", "json").stdout)
    }
    assert states["greeter"] == "failed"
    assert states["board.alone"] == "ready"
    assert call(ann, "greeter", "greet", "again") == "hi again"


def test_what_a_driver_has_started_ends_with_its_child(ann: User) -> None:
    program, child = call(ann, "greeter", "start_program"), call(ann, "greeter", "pid")
    assert isinstance(program, float | int)
    assert isinstance(child, float | int)
    watched = os.pidfd_open(int(program))
    os.kill(int(child), signal.SIGKILL)
    assert select.select([watched], [], [], 30)[0]
    os.close(watched)
