"""One process on a host with three boards: a lease of the first, a local user of the second, no hardware at the third.

It is killed in every state that a board can be in, and the next process goes on where it was.
"""

from __future__ import annotations

import getpass
import json
import os
import pty
import subprocess
import tty
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from tests.interop import exporters
from tests.support.lab import Lab

NAME = "jumpstarter.dev/name"
BOARD = """export:
  power: {{type: power.GpioRelay, config: {{pin: {pin}, pin_factory: ledger}}}}
  console: {{type: serial.PySerial, config: {{url: {port}}}}}
"""
CONSOLE = "export:\n  console: {{type: serial.PySerial, required: true, config: {{url: {port}}}}}\n"
HOOKS = """hooks:
  beforeLease: {{script: "echo before >> {home}/hooks; until test -e {home}/prepared; do sleep 0.05; done"}}
  afterLease: {{script: "echo after >> {home}/hooks; until test -e {home}/cleaned; do sleep 0.05; done"}}
"""
LEDGER = """
import os
from gpiozero.pins.mock import MockFactory, MockPin

def write(pin, what):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{pin.info.name} {what}\\n")

class Pin(MockPin):
    def _set_function(self, value):
        super()._set_function(value)
        write(self, value)
    def _set_state(self, value):
        super()._set_state(value)
        write(self, int(value))

class Factory(MockFactory):
    def __init__(self):
        super().__init__(pin_class=Pin)
"""
"""A pin factory of gpiozero that writes down what is done to its pins."""


class Host:
    """A host with the boards one, two and three, and a controller that leases them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home = lab.home / "host"
        self.door = str(self.home / "run" / "exporter.sock")
        self._files = self.home / ".config" / "jumpstarter" / "exporters"
        self._files.mkdir(parents=True)
        installed = self.home / "installed" / "ledger-1.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: ledger\nVersion: 1\n")
        (installed / "entry_points.txt").write_text("[gpiozero_pin_factories]\nledger = ledger:Factory\n")
        (installed.parent / "ledger.py").write_text(LEDGER)
        self.ledger = self.home / "ledger"
        self.ledger.touch()
        self.hooks = self.home / "hooks"
        self._cables: dict[str, int] = {}
        lab.client("ann")

    def board(self, name: str, export: str, hooks: str = "") -> None:
        """One that is enrolled."""
        file = self._files / f"{name}.yaml"
        self.lab.admin("exporter", "create", name, "--label", f"board={name}", "--save", file)
        file.write_text(file.read_text().replace("export: {}\n", export) + hooks.format(home=self.home))

    def plug_in(self, adapter: Path, board: str) -> None:
        """A console's adapter, for which the host has made a device file."""
        self._cables[board], port = pty.openpty()
        self.lab.stack.callback(os.close, self._cables[board])
        self.lab.stack.callback(os.close, port)
        tty.setraw(port)
        adapter.symlink_to(os.ttyname(port))

    def writes(self, board: str, text: str) -> None:
        """The board itself, on its console."""
        os.write(self._cables[board], text.encode() + b"\n")

    def start(self) -> None:
        """`jumpstarter-exporter run`, which serves all of them."""
        variables = (f"PYTHONPATH={self.home / 'installed'}", f"LEDGER={self.ledger}")
        self.daemon = self.lab.daemon(
            "env",
            *variables,
            exporters.scripts() / "jumpstarter-exporter",
            "run",
            "--log-level",
            "info",
            folder=self.home,
        )
        self.said = [self.daemon.first_line()]
        while not self.said[-1].startswith("Listening on "):
            self.said.append(self.daemon.first_line())

    def kill(self) -> None:
        """`kill -9`."""
        self.daemon.process.kill()
        self.daemon.process.wait()

    def ok(self, *words: str) -> str:
        """What a user of the host reads."""
        return self.lab.ok(*words, JUMPSTARTER_HOST=self.door)

    def console(self, board: str) -> str:
        """The state of its console."""
        found = json.loads(self.ok("devices", "-o", "json"))
        return next(str(one["state"]) for one in found if one["path"] in (f"{board}.console", "console"))

    def until(self, name: str, status: str) -> None:
        """What the controller hears of that board."""
        self.lab.until(lambda: self.lab.status(name) == status)

    def uuids(self, name: str) -> dict[str, str]:
        """Of the devices, by their name."""
        with grpc.insecure_channel(f"unix:{self.door}") as channel:
            ask = channel.unary_unary(
                "/jumpstarter.v1.ExporterService/GetReport",
                request_serializer=empty_pb2.Empty.SerializeToString,
                response_deserializer=jumpstarter_pb2.GetReportResponse.FromString,
            )
            reports = ask(empty_pb2.Empty(), metadata=(("x-jumpstarter-board", name),), timeout=60).reports
        # The root's is the session's.
        return {one.labels[NAME]: one.uuid for one in reports if one.parent_uuid}


@pytest.fixture
def host() -> Iterator[Host]:
    with Lab.opened() as lab:
        yield Host(lab)


def test_each_of_three_boards_has_its_own_user(host: Host) -> None:
    lab, client = host.lab, host.home.parent / "ann.yaml"
    for name, pin in (("one", 17), ("two", 27)):
        host.plug_in(host.home / f"port-{name}", name)
        host.board(name, BOARD.format(pin=pin, port=host.home / f"port-{name}"))
    host.board("three", CONSOLE.format(port=host.home / "port-three"))
    host.start()
    for name, status in (("one", "AVAILABLE"), ("two", "AVAILABLE"), ("three", "AFTER_LEASE_HOOK")):
        host.until(name, status)
        assert any(line.endswith(f" with the board {name}") for line in host.said)
        lab.until(lambda logged=f": {name}: registered with ": logged in host.daemon.log.read_text())
    lab.until(lambda: ": three: the device console is missing: " in host.daemon.log.read_text())

    lab.ok("lease", "create", "-l", "board=one", "--client", client)
    lab.ok("power", "on", "--client", client, "--lease", lease(lab))
    host.ok("power", "on", "--board", "two")
    host.until("two", "AFTER_LEASE_HOOK")
    code, why = lab.refused("power", "off", "--board", "one", JUMPSTARTER_HOST=host.door)
    assert code == ExitCode.DENIED
    assert "leased by ann" in why
    assert ledger(host) == ["GPIO17 output", "GPIO17 1", "GPIO27 output", "GPIO27 1"]
    shown = host.ok("devices")
    assert "one  leased by ann (" in shown
    assert f"two  in local use by {getpass.getuser()}\n" in shown
    assert host.ok("devices", "--board", "one").startswith("one  leased by ann ("), (
        "at the board's own socket, too"
    )

    assert lab.status("three") == "AFTER_LEASE_HOOK"
    host.plug_in(host.home / "port-three", "three")
    host.until("three", "AVAILABLE")
    host.writes("three", "U-Boot 2026.10")
    lab.until(lambda: "U-Boot 2026.10" in host.ok("serial", "log", "--board", "three"))
    assert lab.status("one") == "LEASE_READY", "nobody has disturbed it"


def test_whatever_a_board_is_in_the_next_process_goes_on_with_it(host: Host) -> None:
    lab, client = host.lab, host.home.parent / "ann.yaml"
    host.plug_in(host.home / "port", "one")
    host.board("one", BOARD.format(pin=17, port=host.home / "port"), HOOKS)
    host.start()
    host.until("one", "AVAILABLE")
    uuids, said = host.uuids("one"), 0

    def killed(status: str) -> None:
        """And started again: it is so, after which the same is true as before."""
        nonlocal said
        # What is heard before the recorder has its port again is lost with any process.
        lab.until(lambda: host.console("one") == "ready")
        host.writes("one", f"mark {(said := said + 1)}")
        lab.until(lambda: f"mark {said}\n" in host.ok("serial", "log", "--board", "one"))
        switched = ledger(host)
        host.kill()
        host.start()
        lab.until(lambda: "registered with" in host.daemon.log.read_text())
        host.until("one", status)
        assert host.uuids("one") == uuids
        recorded = host.ok("serial", "log", "--board", "one").split("\n")
        assert [line for line in recorded if "mark" in line] == [f"mark {n}" for n in range(1, said + 1)]
        assert ledger(host) == switched, "a restart switches nothing"

    killed("AVAILABLE")

    host.ok("power", "on")
    host.until("one", "AFTER_LEASE_HOOK")
    killed("AVAILABLE")

    wanted = lab.start("lease", "create", "-l", "board=one", "--client", client)
    lab.until(lambda: hooks(host) == ["before"])
    killed("BEFORE_LEASE_HOOK")
    lab.until(lambda: hooks(host) == ["before", "before"])
    (host.home / "prepared").touch()
    host.until("one", "LEASE_READY")
    assert wanted.wait(60) == 0

    killed("LEASE_READY")
    lab.ok("power", "off", "--client", client, "--lease", lease(lab))

    lab.ok("lease", "release", lease(lab), "--client", client)
    lab.until(lambda: hooks(host) == ["before", "before", "after"])
    killed("AFTER_LEASE_HOOK")
    lab.until(lambda: hooks(host) == ["before", "before", "after", "after"])
    (host.home / "cleaned").touch()
    host.until("one", "AVAILABLE")

    drain = subprocess.run(
        [exporters.scripts() / "jumpstarter-exporter", "drain", "one"],
        env=lab.environment | {"JUMPSTARTER_RUNTIME_DIRECTORY": str(Path(host.door).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert drain.stdout == f"one: drained: by {getpass.getuser()}\n", drain.stderr
    killed("AFTER_LEASE_HOOK")
    assert hooks(host) == ["before", "before", "after", "after"]
    assert ledger(host) == ["GPIO17 output", "GPIO17 1", "GPIO17 output", "GPIO17 0"]


def lease(lab: Lab) -> str:
    return lab.ok("lease", "list", "--client", lab.home / "ann.yaml", "-o", "name").split()[0]


def hooks(host: Host) -> list[str]:
    """Those that have begun."""
    return host.hooks.read_text().split() if host.hooks.exists() else []


def ledger(host: Host) -> list[str]:
    """What was done to pins."""
    return host.ledger.read_text().splitlines()


def test_two_leases_on_one_host_see_their_own_logs_only(host: Host) -> None:
    lab = host.lab
    lab.client("bob")
    for name in ("one", "two"):
        hook = f'hooks:\n  beforeLease: {{{{script: "echo {name} is prepared"}}}}\n'
        host.board(name, "export:\n  power: {type: power.MockPower}\n", hook)
    host.start()
    shells = []
    for user, board in (("ann", "one"), ("bob", "two")):
        # Each is at work while the other board's lease begins, runs and ends.
        both = f"touch {board}; until test -e one -a -e two; do sleep 0.05; done"
        script = f"jumpstarter power on; {both}; jumpstarter power off"
        words = ("-l", f"board={board}", "--client", lab.home / f"{user}.yaml", "--exporter-logs")
        shells.append(lab.start("shell", *words, "--", "sh", "-c", script))
    (_, ann), (_, bob) = (shell.communicate(timeout=60) for shell in shells)
    assert [shell.returncode for shell in shells] == [0, 0], (ann, bob)
    assert "one is prepared" in ann
    assert "two is prepared" in bob
    assert "two" not in ann
    assert "one" not in bob
