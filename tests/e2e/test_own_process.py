"""A board that has a process of its own, behind the door of the exporter that serves the others."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.interop import exporters

LIMIT = 60.0
BOARD = """{own}export:
  power: {{type: power.MockPower}}
  console: {{type: serial.PySerial, config: {{url: {port}}}}}
"""
RPI5 = ["rpi5.power", "rpi5.console"]
ROCK = ["rock.power", "rock.console"]
Start: TypeAlias = Callable[..., exporters.Daemon]


class Host:
    """A host with the boards rock and rpi5. The boards' ends of their consoles are in `cables`."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.door = home / "run" / "exporter.sock"
        self.own = self.door.parent / "boards" / "rpi5.sock"
        self.cables: dict[str, int] = {}
        self._stack = stack
        self._files = home / ".config" / "jumpstarter" / "exporters"
        self._files.mkdir(parents=True)
        self._ports: dict[str, int] = {}
        for name in ("rock", "rpi5"):
            self.cables[name], self._ports[name] = pty.openpty()
            tty.setraw(self._ports[name])
            stack.callback(os.close, self.cables[name])
            stack.callback(os.close, self._ports[name])
            self.write(name, "ownProcess: true\n" if name == "rpi5" else "")

    def write(self, name: str, own: str = "") -> None:
        text = BOARD.format(own=own, port=os.ttyname(self._ports[name]))
        (self._files / f"{name}.yaml").write_text(text)

    def remove(self, name: str) -> None:
        (self._files / f"{name}.yaml").unlink()

    def start(self, *words: str) -> exporters.Daemon:
        daemon = self._stack.enter_context(exporters.running(self._command(*words), self.home))
        daemon.first_line()
        return daemon

    def start_listening(self, *words: str) -> str:
        """Where it listens for other hosts."""
        daemon = self._stack.enter_context(exporters.running(self._command(*words), self.home))
        return daemon.first_line().rpartition(" and ")[2].split()[0]

    def exporter(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [exporters.scripts() / "jumpstarter-exporter", *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def refused(self, *words: str) -> tuple[int, str]:
        done = self.exporter("run", "--socket", str(self.door), *words)
        return done.returncode, done.stderr

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [exporters.scripts() / "jumpstarter", *words],
            env=self._environment() | {"JUMPSTARTER_HOST": str(self.door)} | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def console(self, board: str) -> subprocess.Popen[str]:
        """A user who reads it, and has begun to."""
        process = self._stack.enter_context(
            subprocess.Popen(
                [exporters.scripts() / "jumpstarter", "serial", "pipe", board],
                env=self._environment() | {"JUMPSTARTER_HOST": str(self.door)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._stack.callback(process.kill)
        assert process.stdout is not None
        # It may not have begun to read when the board says its first words.
        while not self._said(process, board):
            pass
        return process

    def _said(self, process: subprocess.Popen[str], board: str) -> bool:
        os.write(self.cables[board], b"U-Boot\n")
        assert process.stdout is not None
        return bool(select.select([process.stdout], [], [], 0.2)[0])

    def _command(self, *words: str) -> exporters.Command:
        return [exporters.scripts() / "jumpstarter-exporter", "run", "--socket", self.door, *words]

    def _environment(self) -> dict[str, str]:
        return exporters.clean_environment(self.home)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ExitStack() as stack:
        yield Host(tmp_path, stack)


NOT_RUNNING = (
    "error: the board rpi5 is not served: its own process has ended, or was not started; its "
    "service manager starts it again, or start it yourself: jumpstarter-exporter run --board rpi5\n"
)


@pytest.mark.kills
def test_a_board_with_a_process_of_its_own_is_used_through_the_same_door(host: Host) -> None:
    host.start()
    assert host.run("power", "on", "rpi5") == (1, "", NOT_RUNNING)
    assert host.run("power", "on", "--board", "rpi5") == (1, "", NOT_RUNNING)
    own = host.start("--board", "rpi5")
    assert host.run("devices", "-o", "name") == (0, "".join(f"{path}\n" for path in ROCK + RPI5), "")
    assert host.run("power", "on", "rpi5") == (0, "", "")
    assert host.run("power", "on", "--board", "rpi5") == (0, "", "")
    code, why = host.refused("--board", "rpi5")
    assert (code, f"is served by process {own.process.pid} on this host" in why) == (5, True)

    user, neighbour = host.console("rpi5"), host.console("rock")
    own.process.kill()
    own.process.wait()
    _, why = user.communicate(timeout=LIMIT)
    assert user.returncode == 4
    assert why.endswith("the console broke off: the peer closed the connection; connect again\n")
    for words in (["rpi5"], ["--board", "rpi5"]):  # its socket is there, and nobody behind it
        assert host.run("power", "on", *words) == (1, "", NOT_RUNNING)
    assert host.run("power", "on", "rock") == (0, "", "")
    assert neighbour.poll() is None
    host.start("--board", "rpi5")
    assert host.run("power", "on", "rpi5") == (0, "", "")
    neighbour.send_signal(signal.SIGTERM)


def test_a_process_of_its_own_that_was_there_first_keeps_its_board(host: Host) -> None:
    host.write("rpi5")
    own = host.start("--board", "rpi5")
    host.start()
    assert host.run("devices", "-o", "name") == (0, "".join(f"{path}\n" for path in ROCK + RPI5), "")
    assert host.run("power", "on", "rpi5") == (0, "", "")
    own.end()
    assert host.run("power", "on", "rpi5") == (1, "", NOT_RUNNING)


def test_a_door_to_processes_of_their_own_only_leads_to_them_and_ends(host: Host) -> None:
    host.write("rock", "ownProcess: true\n")
    daemon = host.start()
    host.start("--board", "rpi5")
    assert host.run("power", "on", "rpi5") == (0, "", "")
    assert host.run("power", "on")[0] == 2
    host.remove("rock")
    daemon.end()
    daemon = host.start()
    assert host.run("power", "on") == (0, "", "")
    done = host.exporter("drain", "--exit", "--socket", str(host.door))
    assert (done.returncode, daemon.process.wait(LIMIT)) == (0, 0)


def test_a_board_that_the_exporter_has_gets_no_second_process(host: Host) -> None:
    host.write("rpi5")
    daemon = host.start()
    code, why = host.refused("--board", "rpi5")
    assert (code, why.count("\n")) == (5, 1)
    assert (
        f"the board rpi5 is served by process {daemon.process.pid} of this host; to run it in its own process"
        in why
    )
    assert "write `ownProcess: true` into" in why
    assert host.run("power", "on", "rpi5") == (0, "", "")
    code, why = host.refused("--board", "rpi6")
    assert (code, "there is no configuration of a board 'rpi6'" in why) == (3, True)
    assert host.refused("--board", "rpi5", "--config", "rock")[0] == 2


def test_users_of_other_hosts_are_told_how_to_reach_a_board_with_a_process_of_its_own(host: Host) -> None:
    listen = ("--listen", "127.0.0.1:0", "--insecure")
    address = host.start_listening(*listen)
    own = host.start_listening("--board", "rpi5", *listen)
    there = {"JUMPSTARTER_HOST": address, "JMP_GRPC_INSECURE": "1"}
    why = (
        "its own process serves it, to users of its host only; use it there, such as through ssh, or let that "
        "process listen, too: jumpstarter-exporter run --board rpi5 --listen HOST:PORT\n"
    )
    code, said, _ = host.run("devices", **there)
    assert code == 0
    assert f"rpi5  not served: {why}" in said
    assert host.run("power", "on", "rpi5", **there) == (1, "", f"error: the board rpi5 is not served: {why}")
    assert host.run("power", "on", "--board", "rpi5", **there) == (
        1,
        "",
        f"error: the board rpi5 is not served here: {why}",
    )
    assert host.run("power", "on", "rock", **there) == (0, "", "")
    assert host.run("power", "on", **there | {"JUMPSTARTER_HOST": own}) == (0, "", "")
