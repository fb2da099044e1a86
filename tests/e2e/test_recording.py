"""The console flight recorder, through a daemon that dies and comes back."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop import exporters

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: lab, name: recorder}}
export:
  board:
    children:
      console: {{type: serial.PySerial, config: {{url: {port}}}}}
      quiet: {{type: serial.PySerial, config: {{url: "loop://", record: false}}}}
      power: {{type: jumpstarter_driver_power.driver.MockPower}}
"""


class Cable:
    """A console: what the board writes."""

    def __init__(self) -> None:
        self.board, self._port = pty.openpty()
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)

    def close(self) -> None:
        os.close(self.board)
        os.close(self._port)


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@contextmanager
def daemon(home: Path, *words: str) -> Iterator[exporters.Daemon]:
    command: exporters.Command = [
        exporters.scripts() / "jumpstarter-exporter",
        "run",
        "--config",
        home / "lab.yaml",
    ]
    with exporters.running([*command, "--socket", home / "s", *words], home) as running:
        running.first_line()
        yield running


def jumpstarter(home: Path, *words: str, **variables: str) -> bytes:
    done = subprocess.run(
        [exporters.scripts() / "jumpstarter", *words],
        env=exporters.clean_environment(home) | {"JUMPSTARTER_HOST": str(home / "s")} | variables,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


@contextmanager
def follow(home: Path, *words: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [exporters.scripts() / "jumpstarter", "serial", "log", "console", "--follow", *words],
        env=exporters.clean_environment(home) | {"JUMPSTARTER_HOST": str(home / "s")} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as watching:
        try:
            yield watching
        finally:
            watching.kill()


def read_until(watching: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    seen = b""
    assert watching.stdout is not None
    while wanted not in seen:
        readable, _, _ = select.select([watching.stdout], [], [], 30)
        assert readable, seen
        data = os.read(watching.stdout.fileno(), 65536)
        assert data, seen
        seen += data
    return seen


def test_what_nobody_watched_is_recorded_across_sessions_restarts_and_kills(
    tmp_path: Path, cable: Cable
) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    with daemon(tmp_path) as first, follow(tmp_path) as watching:
        read_until(watching, b"the port was opened")
        os.write(cable.board, b"one\r\n\xff\xfe two\r\n")
        read_until(watching, b"one\r\n\xff\xfe two\r\n")
        first.process.send_signal(signal.SIGKILL)
        assert watching.wait(10) == 4
    with daemon(tmp_path):
        with follow(tmp_path) as watching:
            lost = b"[jumpstarter: what came last before this may be missing: the exporter was killed]\n"
            read_until(watching, b" two\r\n" + lost + b"[jumpstarter: the port was opened]\n")
            os.write(cable.board, b"three\r\n")
            read_until(watching, b"three\r\n")
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 0
        whole = jumpstarter(tmp_path, "serial", "log", "console")
        assert whole == b"one\r\n\xff\xfe two\r\nthree\r\n"
        assert jumpstarter(tmp_path, "serial", "log", "console", "-n", "1") == b"three\r\n"
        assert (
            jumpstarter(tmp_path, "serial", "log", "console", "--grep", "^t|two")
            == b"\xff\xfe two\r\nthree\r\n"
        )
        assert jumpstarter(tmp_path, "serial", "log", "console", "--grep", "t", "-n", "1") == b"three\r\n"
        stamped = jumpstarter(
            tmp_path, "serial", "log", "console", "--timestamps", "--since", "1h", "--grep", "one"
        )
        assert re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} one\r\n", stamped)


def test_who_comes_from_the_network_sees_what_is_recorded_during_their_visit(
    tmp_path: Path, cable: Cable
) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    address = f"127.0.0.1:{exporters.free_port()}"
    network = {"JUMPSTARTER_HOST": address, "JMP_GRPC_INSECURE": "1"}
    with daemon(tmp_path, "--listen", address, "--insecure"):
        with follow(tmp_path) as watching:
            read_until(watching, b"the port was opened")
            os.write(cable.board, b"a secret of somebody else\r\n")
            read_until(watching, b"somebody else")
        assert jumpstarter(tmp_path, "serial", "log", "console", **network) == b""
        with follow(tmp_path, **network) as visit:
            os.write(cable.board, b"mine\r\n")
            assert read_until(visit, b"mine\r\n") == b"mine\r\n"
            assert jumpstarter(tmp_path, "serial", "log", "console", "-n", "9", **network) == b"mine\r\n"
        assert jumpstarter(tmp_path, "serial", "log", "console") == b"a secret of somebody else\r\nmine\r\n"


LATER = """
import sys
from datetime import datetime, timedelta
import jumpstarter_drivers.serial.client as client

AHEAD = timedelta(hours=float(sys.argv.pop(1)))

class Later(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + AHEAD

client.datetime = Later
from jumpstarter_client.cli import main
main()
"""


@pytest.mark.parametrize("ahead", ["1", "-1"])
def test_what_is_asked_for_by_its_age_is_found_though_the_clients_clock_is_wrong(
    tmp_path: Path, cable: Cable, ahead: str
) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    with daemon(tmp_path), follow(tmp_path) as watching:
        read_until(watching, b"the port was opened")
        os.write(cable.board, b"one\r\n")
        read_until(watching, b"one\r\n")
        for since, wanted in (("10m", b"one\r\n"), ("0s", b"")):
            done = subprocess.run(
                [sys.executable, "-c", LATER, ahead, "serial", "log", "console", "--since", since],
                env=exporters.clean_environment(tmp_path) | {"JUMPSTARTER_HOST": str(tmp_path / "s")},
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, wanted), done.stderr


def test_a_flood_of_garbage_is_recorded_and_slows_nobody(tmp_path: Path, cable: Cable) -> None:
    """More than a recording holds; other devices answer meanwhile, and the disk's use is bounded."""
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    garbage = bytes(range(256)) * 256
    end = b"\r\nthe end\r\n"
    with daemon(tmp_path) as running:
        flood = subprocess.Popen(["head", "-c", str(40 << 20), "/dev/urandom"], stdout=subprocess.PIPE)
        with flood:
            assert flood.stdout is not None
            jumpstarter(tmp_path, "serial", "log", "console", "-n", "1")
            sent = 0
            while data := flood.stdout.read(len(garbage)):
                view = memoryview(data)
                while view:
                    view = view[os.write(cable.board, view) :]
                sent += len(data)
                if sent % (8 << 20) == 0:
                    jumpstarter(tmp_path, "power", "on")
        os.write(cable.board, end)
        with follow(tmp_path, "-n", "1") as watching:
            read_until(watching, end.lstrip())
        [folder] = (tmp_path / ".local" / "state" / "jumpstarter" / "consoles").iterdir()
        assert sum(file.stat().st_size for file in folder.iterdir()) < 18 << 20
        assert running.process.poll() is None


def test_a_console_that_is_not_recorded_is_not_opened_and_says_so(tmp_path: Path, cable: Cable) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    with daemon(tmp_path):
        listed = jumpstarter(tmp_path, "devices").decode()
        [quiet] = [line for line in listed.splitlines() if "quiet" in line]
        assert "not tried yet" in quiet
        done = subprocess.run(
            [exporters.scripts() / "jumpstarter", "serial", "log", "quiet"],
            env=exporters.clean_environment(tmp_path) | {"JUMPSTARTER_HOST": str(tmp_path / "s")},
            capture_output=True,
            check=False,
        )
    assert done.returncode == 1
    assert b"this console is not recorded; set `record: true`" in done.stderr


BOARD = """
export:
  rpi4: {type: virtual.VirtualBoard, config: {boot_seconds: 0, hostname: NAME}}
"""


def test_boards_of_one_name_and_kind_have_recordings_of_their_own(tmp_path: Path) -> None:
    files = {name: tmp_path / name / "board.yaml" for name in ("ann", "bob")}

    def use(name: str, *words: str) -> bytes:
        return jumpstarter(tmp_path, "--config", str(files[name]), *words, JUMPSTARTER_HOST="")

    for name, file in files.items():
        file.parent.mkdir()
        file.write_text(BOARD.replace("NAME", name))
        script = "jumpstarter power on && jumpstarter serial run -- hostname"
        assert use(name, "shell", "--", "sh", "-c", script).strip() == name.encode()

    def logs() -> tuple[bytes, bytes]:
        return use("ann", "serial", "log"), use("bob", "serial", "log")

    before = logs()
    assert (b"ann login:" in before[0], b"bob login:" in before[0]) == (True, False)
    assert (b"ann login:" in before[1], b"bob login:" in before[1]) == (False, True)
    assert logs() == before, "they are found again"
    files["ann"].unlink()
    assert use("bob", "serial", "log") == before[1], "a board that is gone leaves its recording to nobody"
