"""Consoles whose ports systemd keeps while the exporter is started again, whatever has ended it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from jumpstarter_exporter.recording import ConsoleRecord, Cursor, RecordingFolder, RecordKind
from jumpstarter_proto.process.descriptor_table import name_of

from tests.interop import exporters
from tests.support.service_manager import DescriptorKeeper, until_waiting

LIMIT = 60.0
EXPORTER = """
from jumpstarter_exporter import cli
from jumpstarter_proto.process import descriptor_store
descriptor_store.CLAIM_SECONDS = {claim_seconds}
cli.main()
"""
BOARD = "{own}export: {{console: {{type: serial.PySerial, config: {{url: {port}{more}}}}}}}\n"


class Cable:
    """A port behind a link, as a USB adapter has one, and what becomes of it.

    Once the exporter has it, its end here is closed: from then on somebody else has to keep it open.
    """

    def __init__(self, link: Path) -> None:
        self.board, self._port = pty.openpty()
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)
        self.name = name_of(os.fstat(self._port).st_rdev)
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)
        self.was_closed = threading.Event()
        """Set when nobody has it open."""
        self._ending, self._end = os.pipe()
        self._watch = threading.Thread(target=self._see)

    def let_go(self) -> None:
        os.close(self._port)
        self._port = -1
        self._watch.start()

    def _see(self) -> None:
        poll = select.poll()
        poll.register(self.board, 0)
        poll.register(self._ending, 0)
        if self.board in dict(poll.poll()):
            self.was_closed.set()

    def write(self, data: bytes) -> None:
        assert os.write(self.board, data) == len(data)

    def close(self) -> None:
        os.close(self._end)
        if self._port >= 0:
            os.close(self._port)
        else:
            self._watch.join(LIMIT)
        os.close(self._ending)
        os.close(self.board)


class Host:
    """A host with one board, and its service manager."""

    def __init__(self, home: Path, stack: ExitStack, *, keeps: bool = True) -> None:
        self.link = home / "usb-board-port0"
        self.words: tuple[str, ...] = ()
        self._home = home
        self._stack = stack
        self._file = home / ".config" / "jumpstarter" / "exporters" / "lab.yaml"
        self._file.parent.mkdir(parents=True)
        self.systemd = stack.enter_context(DescriptorKeeper(home / "notify", keeps=keeps))
        self.cable = self.plug_in()
        self.configure()

    def configure(self, *, own: str = "", more: str = "") -> None:
        self._file.write_text(BOARD.format(own=own, port=self.link, more=more))

    def plug_in(self) -> Cable:
        cable = Cable(self.link)
        self._stack.callback(cable.close)
        return cable

    @contextmanager
    def started(self, claim_seconds: float = 600) -> Iterator[subprocess.Popen[str]]:
        """An exporter that listens."""
        environment = exporters.clean_environment(self._home)
        environment["JUMPSTARTER_RUNTIME_DIRECTORY"] = str(self._home / "run")
        environment["JUMPSTARTER_STATE_DIRECTORY"] = str(self._home / "state")
        program = EXPORTER.format(claim_seconds=claim_seconds)
        with self.systemd.start(
            [sys.executable, "-c", program, "run", *self.words], environment, stdout=subprocess.PIPE
        ) as process:
            try:
                self.systemd.until_heard("READY=1")
                yield process
            finally:
                process.kill()

    def recorded(self, text: bytes) -> list[ConsoleRecord]:
        """The recording, as soon as that is in it."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            for folder in (self._home / "state" / "consoles").glob("*"):
                records, _ = RecordingFolder(folder).read(Cursor(0, 0))
                if text in b"".join(record.data for record in records):
                    return records
            time.sleep(0.02)
        pytest.fail(f"{text!r} was not recorded")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def stop(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.wait(LIMIT)


def open_flags(process: subprocess.Popen[str], path: str) -> list[int]:
    """Of each descriptor that the process has of a device node."""
    folder = Path(f"/proc/{process.pid}")
    found: list[int] = []
    for one in (folder / "fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed just now
            if os.readlink(one) == path:
                lines = (folder / "fdinfo" / one.name).read_text().splitlines()
                found += [int(line.split()[1], 8) for line in lines if line.startswith("flags:")]
    return found


KILLED = b"what came last before this may be missing: the exporter was killed"
ENDS = {"stopped": signal.SIGTERM, "killed": signal.SIGKILL, "by the watchdog": signal.SIGABRT}


@pytest.mark.kills
@pytest.mark.parametrize("own", [False, True], ids=["common", "own"])
@pytest.mark.parametrize("end", ENDS)
def test_a_port_is_never_closed_and_what_comes_meanwhile_is_recorded(
    end: str, own: bool, tmp_path: Path, stack: ExitStack
) -> None:
    host = Host(tmp_path, stack)
    if own:  # as the template unit starts it
        host.words = ("--board", "lab")
        host.configure(own="ownProcess: true\n")
    with host.started() as process:
        stored = host.systemd.until_stored(1)
        host.cable.let_go()
        host.cable.write(b"before; ")
        host.recorded(b"before; ")
        stop(process, ENDS[end])
    host.cable.write(b"meanwhile; ")
    # A flag of the open file, which no file that is opened anew would have.
    [descriptor] = stored.values()
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    with host.started() as process:
        records = host.recorded(b"meanwhile; ")
        [flags] = open_flags(process, host.cable.path)
        assert flags & os.O_APPEND
        assert flags & os.O_NONBLOCK
        host.cable.write(b"after; ")
        host.recorded(b"after; ")
        assert host.systemd.until_stored(1) == stored
        stop(process, signal.SIGTERM)
    told = [record.data for record in records if record.kind is RecordKind.NOTE]
    assert told == [
        b"the port was opened",
        b"the port stayed open while the exporter was started again; what came meanwhile follows",
    ]
    gaps = [record.data for record in records if record.kind is RecordKind.GAP]
    assert gaps == ([] if end == "stopped" else [KILLED])
    assert records[-1].data == b"meanwhile; "
    assert not host.cable.was_closed.is_set()
    assert host.systemd.until_stored(1) == stored


@pytest.mark.kills
def test_without_a_store_the_port_is_closed(tmp_path: Path, stack: ExitStack) -> None:
    """That of a unit from before: what the tests above would see."""
    host = Host(tmp_path, stack, keeps=False)
    with host.started() as process:
        host.recorded(b"the port was opened")
        host.cable.let_go()
        stop(process, signal.SIGKILL)
    assert host.cable.was_closed.wait(LIMIT)


@pytest.mark.kills
def test_more_than_the_kernel_keeps_is_marked(tmp_path: Path, stack: ExitStack) -> None:
    host = Host(tmp_path, stack)
    with host.started() as process:
        [descriptor] = host.systemd.until_stored(1).values()
        host.cable.let_go()
        stop(process, signal.SIGKILL)
    host.cable.write(b"x" * 4000)
    host.cable.write(b"y" * 4000)
    until_waiting(descriptor, 4095)
    with host.started() as process:
        records = host.recorded(b"y" * 4000)
        stop(process, signal.SIGTERM)
    gaps = [record.data for record in records if record.kind is RecordKind.GAP]
    assert gaps == [
        KILLED,
        b"bytes may be missing in what follows: more came than the kernel keeps of a port",
    ]


@pytest.mark.kills
def test_a_port_that_is_another_one_after_the_restart_is_opened_and_the_old_one_closed(
    tmp_path: Path, stack: ExitStack
) -> None:
    host = Host(tmp_path, stack)
    with host.started() as process:
        host.systemd.until_stored(1)
        host.cable.let_go()
        stop(process, signal.SIGKILL)
    other = host.plug_in()
    with host.started(claim_seconds=0.1) as process:
        assert host.cable.was_closed.wait(LIMIT)
        assert list(host.systemd.until_stored(1)) == [other.name]
        other.write(b"other; ")
        host.recorded(b"other; ")
        stop(process, signal.SIGTERM)


@pytest.mark.kills
def test_a_port_that_is_not_recorded_stays_open_as_well(tmp_path: Path, stack: ExitStack) -> None:
    """It is opened with its first use, and after a restart at once, as it was open."""
    host = Host(tmp_path, stack)
    with host.started() as process:
        host.systemd.until_stored(1)
        host.cable.let_go()
        stop(process, signal.SIGKILL)
    host.configure(more=", record: false")
    with host.started(claim_seconds=0.1) as process:
        host.cable.write(b"x" * 4095)
        assert select.select([], [host.cable.board], [], LIMIT)[1]  # it is read
        process.send_signal(signal.SIGHUP)
        host.systemd.until_heard("RELOADING=1")
        host.systemd.until_heard("READY=1")
        assert not host.cable.was_closed.is_set()
        assert list(host.systemd.until_stored(1)) == [host.cable.name]
        stop(process, signal.SIGTERM)


def test_a_port_of_a_board_that_is_gone_is_closed_at_once(tmp_path: Path, stack: ExitStack) -> None:
    host = Host(tmp_path, stack)
    with host.started() as process:
        host.systemd.until_stored(1)
        host.cable.let_go()
        host._file.write_text("export: {power: {type: power.MockPower}}\n")
        process.send_signal(signal.SIGHUP)
        host.systemd.until_heard(f"FDSTOREREMOVE=1\nFDNAME={host.cable.name}")
        assert host.cable.was_closed.wait(LIMIT)
        stop(process, signal.SIGTERM)


def test_a_port_stays_open_when_its_board_ends_before_the_exporter_does(
    tmp_path: Path, stack: ExitStack
) -> None:
    host = Host(tmp_path, stack)
    go_on, own = tmp_path / "go-on", tmp_path / "run" / "boards" / "lab.sock"
    script = f"until [ -e {go_on} ]; do sleep 0.05; done"
    (host._file.parent / "slow.yaml").write_text(
        f"export: {{power: {{type: power.MockPower}}}}\nhooks: {{afterLease: {{script: '{script}'}}}}\n"
    )
    environment = exporters.clean_environment(tmp_path)
    environment["JUMPSTARTER_RUNTIME_DIRECTORY"] = str(tmp_path / "run")
    with host.started() as process:
        host.systemd.until_stored(1)
        host.cable.let_go()
        assert own.exists()
        command = [exporters.scripts() / "jumpstarter-exporter", "drain", "--exit"]
        with subprocess.Popen(command, env=environment) as drain:
            end = time.monotonic() + LIMIT
            while own.exists():  # until its devices are closed
                assert time.monotonic() < end
                time.sleep(0.02)
            assert process.poll() is None
            go_on.touch()
            assert drain.wait(LIMIT) == 0
        assert process.wait(LIMIT) == 0
    assert not host.cable.was_closed.is_set()
    assert list(host.systemd.until_stored(1)) == [host.cable.name]
