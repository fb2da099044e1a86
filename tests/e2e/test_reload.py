"""A host's files are read again, by the command and by a signal, while a neighbour's console is recorded."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from jumpstarter_proto.errors import ExitCode

from tests.interop import exporters

LIMIT = 60.0
POWER = "export: {power: {type: power.MockPower}}\n"
TWO = "export: {power: {type: power.MockPower}, spare: {type: power.MockPower}}\n"


class Console:
    """A serial port, whose board says something now and then."""

    def __init__(self) -> None:
        self._board, self._port = pty.openpty()
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)

    def say(self, text: str) -> None:
        os.write(self._board, f"{text}\r\n".encode())

    def close(self) -> None:
        os.close(self._board)
        os.close(self._port)


class Host:
    """Its folder of configurations, with the board `near`, which has a console."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.socket = home / "run" / "exporter.sock"
        self.folder = home / ".config" / "jumpstarter" / "exporters"
        self.folder.mkdir(parents=True)
        self.write("near", f"export: {{console: {{type: serial.PySerial, config: {{url: {console.path}}}}}}}")

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.yaml").write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [exporters.scripts() / words[0], *words[1:]],
            env=exporters.clean_environment(self.home) | {"JUMPSTARTER_HOST": str(self.socket)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def reload(self) -> tuple[int, list[str], str]:
        done = self.run("jumpstarter-exporter", "reload", "--socket", str(self.socket))
        return done.returncode, done.stdout.splitlines(), done.stderr

    def daemon(self, *words: str) -> exporters.Command:
        return [
            exporters.scripts() / "jumpstarter-exporter",
            "run",
            "--log-level",
            "info",
            "--socket",
            self.socket,
            *words,
        ]


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def console() -> Iterator[Console]:
    with closing(Console()) as console:
        yield console


@pytest.mark.clock_rate(5)
def test_boards_come_change_and_go_while_a_neighbours_console_is_recorded(
    tmp_path: Path, console: Console
) -> None:
    host = Host(tmp_path, console)
    host.write("rpi4", POWER)
    with exporters.running(host.daemon(), tmp_path) as daemon:
        daemon.first_line()
        until(lambda: "opened" in host.run("jumpstarter", "serial", "log", "--board", "near").stderr)
        console.say("before")
        until(lambda: "before" in host.run("jumpstarter", "serial", "log", "--board", "near").stdout)
        host.write("rpi4", TWO)
        host.write("rock", POWER)
        assert host.reload() == (0, ["near: unchanged", "rock: served", "rpi4: restarted"], "")
        devices = host.run("jumpstarter", "devices", "-o", "name", "--board", "rpi4").stdout.split()
        assert devices == ["power", "spare"]

        host.write("rpi4", "export: [")
        code, lines, _ = host.reload()
        assert code == ExitCode.USAGE
        assert lines[:2] == ["near: unchanged", "rock: unchanged"]
        assert lines[2].startswith(f"rpi4: stays as it was: {host.folder / 'rpi4.yaml'}")
        assert host.run("jumpstarter", "power", "on", "--board", "rock").returncode == 0

        (host.folder / "rock.yaml").unlink()
        host.write("rpi4", TWO)
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "rock: its file is gone; it ends after local use by " in daemon.log.read_text())
        until(lambda: "rock" not in host.run("jumpstarter", "devices", "-o", "json").stdout)

        console.say("behind")
        until(lambda: "behind" in host.run("jumpstarter", "serial", "log", "--board", "near").stdout)
        said = host.run("jumpstarter", "serial", "log", "--board", "near").stdout
        assert said.index("before") < said.index("behind")
        events = host.run("jumpstarter", "serial", "log", "--board", "near").stderr
        assert events.count("the port was opened") == 1

        for file in host.folder.iterdir():
            file.rename(tmp_path / file.name)
        code, lines, why = host.reload()
        assert (code, lines) == (ExitCode.NOT_FOUND, [])
        assert "there is no exporter configuration" in why
        assert host.run("jumpstarter", "power", "on", "power", "--board", "rpi4").returncode == 0


def test_a_daemon_of_one_file_reads_that_again(tmp_path: Path, console: Console) -> None:
    host = Host(tmp_path, console)
    file = tmp_path / "one.yaml"
    file.write_text(POWER)
    with exporters.running(host.daemon("--config", str(file)), tmp_path) as daemon:
        daemon.first_line()
        file.write_text(TWO)
        assert host.reload() == (0, ["one: restarted"], "")
        assert host.run("jumpstarter", "devices", "-o", "name").stdout.split() == ["power", "spare"]
        file.unlink()
        code, [line], _ = host.reload()
        assert code == ExitCode.USAGE
        assert line.startswith("one: stays as it was: ")
        assert "there is no such file" in line
        assert host.run("jumpstarter", "power", "on", "power").returncode == 0
