"""Who uses a board whose controller is 0.9's: the table of docs/occupancy.md, with 0.9.0's `jmp shell` as client.

0.9's controller gives no lease to a board that says it is not available. One waits at the exporter only if it came
before the controller had heard that, which `reports_held` brings about; its user's shell then waits for 300 s.
"""

from __future__ import annotations

import getpass
import itertools
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from jumpstarter_proto.errors import ExitCode

from tests.e2e.lab import Reader
from tests.interop import exporters
from tests.interop.lab import Person
from tests.interop.upstream_lab import UpstreamLab
from tests.support.peers import Environment
from tests.support.programs import clock_rate
from tests.support.upstream_controller.scheduling import LeaseObject

ME = getpass.getuser()
LOCAL_USE = f"in local use by {ME}"
PATIENCE = 280
"""Seconds, on the exporter's clock, the longest that there is; jmp's runs as ever."""
SHORT_PATIENCE = 20
"""For a lease that is given back."""
names = itertools.count(1)


@pytest.fixture(scope="module")
def lab(upstream: Environment) -> Iterator[UpstreamLab]:
    with UpstreamLab.opened(upstream=upstream) as opened:
        yield opened


@pytest.fixture(scope="module")
def ann(lab: UpstreamLab) -> Person:
    return lab.person("ann")


class Shell:
    """0.9.0's `jmp shell`, and what it has said."""

    def __init__(self, board: Board, ann: Person, script: str, *options: str) -> None:
        lab = self._lab = board.lab
        before = set(lab.upstream_controller.leases)
        command = [lab.upstream.bin / "jmp", "--log-level", "INFO", "shell", "--client-config", ann.file]
        command += ["-l", f"board={board.name}", *options, "--", "sh", "-c", script]
        self.process = lab.start_program(*command, **ann.environment(theirs=True))
        self._reader = Reader(self.process)
        lab.until(lambda: set(lab.upstream_controller.leases) > before or self.process.poll() is not None)
        [name] = set(lab.upstream_controller.leases) - before
        self.lease = lab.upstream_controller.leases[name]

    @property
    def said(self) -> str:
        return " ".join("".join(self._reader.text.values()).split())

    def until(self, words: str) -> None:
        self._lab.until(lambda: words in self.said or self.process.poll() is not None)
        assert words in self.said, self.said

    def end(self, code: int = 0) -> str:
        found, *_ = self._reader.end()
        assert found == code, self.said
        return self.said


class Board:
    """An exporter of ours with one board, and the users of its host. Its hooks go on when their file is there."""

    def __init__(self, lab: UpstreamLab, export: str = "", **how: str) -> None:
        self.lab = lab
        self.name = f"b{next(names)}"
        self.home = lab.home / self.name
        self.home.mkdir()
        text = f"occupancy: {{patience: {how.pop('patience', PATIENCE)}}}\nhooks:\n"
        for hook in ("before", "after"):
            begin = (
                f"echo {hook} >> {self.home}/ran; while test -e {self.home}/hold-{hook}; do sleep 0.05; done"
            )
            end = f"! test -e {self.home}/fail-{hook}"
            text += f"  {hook}Lease: {{script: '{begin}; {end}', onFailure: endLease}}\n"
        with clock_rate(lab.RATE):
            self.daemon = lab.exporter(
                self.name, label=f"board={self.name}", hooks=text, export=export, wait=False, **how
            )
        self.exporter = lab.upstream_controller.exporters[self.name]
        self.file = lab.home / f"{self.name}.yaml"

    # Its exporter

    def becomes(self, status: str, message: str = "") -> None:
        exporter = self.exporter
        self.lab.until(lambda: exporter.status == status and message in exporter.message)

    def logs(self, words: str) -> None:
        self.lab.until(lambda: words in self.daemon.log.read_text())

    def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and start it again."""
        self.daemon.process.send_signal(how)
        self.daemon.process.wait(30)
        with clock_rate(self.lab.RATE):
            self.daemon = self.lab.start_exporter(self.name, wait=False, folder=self.daemon.log.parent)

    @contextmanager
    def daemon_ended(self) -> Iterator[None]:
        """It ends with the block."""
        try:
            yield
        finally:
            self.daemon.process.terminate()
            self.daemon.process.wait(30)

    def host(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`jumpstarter-exporter ...` for this one."""
        return subprocess.run(
            [exporters.scripts() / "jumpstarter-exporter", *words, "--socket", self.door],
            env=self.lab.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    # Its hooks

    def hold(self, *files: str) -> None:
        for name in files:
            (self.home / name).touch()

    def go_on(self, *files: str) -> None:
        for name in files:
            (self.home / name).unlink()

    @property
    def hooks_run(self) -> list[str]:
        file = self.home / "ran"
        return file.read_text().split() if file.exists() else []

    # Users of its host

    @property
    def door(self) -> str:
        return str(self.daemon.log.parent / "run" / "exporter.sock")

    def use(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`jumpstarter ...` at the host."""
        return self.lab.run(*words, JUMPSTARTER_HOST=self.door)

    def refuses(self, *words: str, why: str = "") -> None:
        """A user of the host does not get the board, and reads who has it: without a time, as 0.9 says none."""
        done = self.use("power", "off", *words)
        assert done.returncode == ExitCode.DENIED, done.stderr
        assert why in done.stderr
        if not words:
            assert ") until" not in done.stderr
            assert done.stderr.rstrip().endswith("wait for its end, or take part with --override")
        assert self.use("power", "read").returncode == 0, "who looks is let in"

    @contextmanager
    def used(self) -> Iterator[Reader]:
        """A user of the host has a shell on it; what that says."""
        self.hold("inside")
        script = f"touch {self.home}/used; while test -e {self.home}/inside; do sleep 0.05; done"
        process = self.lab.start("shell", "--", "sh", "-c", script, JUMPSTARTER_HOST=self.door)
        reader = Reader(process)
        self.lab.until((self.home / "used").exists)
        try:
            yield reader
        finally:
            self.go_on("inside", "used")
            reader.end()


@pytest.fixture
def board(lab: UpstreamLab) -> Iterator[Board]:
    board = Board(lab)
    with board.daemon_ended():
        board.becomes("AVAILABLE")
        yield board


@pytest.fixture
def hasty_board(lab: UpstreamLab) -> Iterator[Board]:
    """One whose exporter soon gives a lease back."""
    board = Board(lab, patience=str(SHORT_PATIENCE))
    with board.daemon_ended():
        board.becomes("AVAILABLE")
        yield board


def is_over(board: Board, lease: LeaseObject) -> None:
    """The controller has it back, and the board is free."""
    board.lab.until(lambda: lease.is_ended)
    board.becomes("AVAILABLE")


def test_a_free_board_is_leased_and_is_free_again(board: Board, ann: Person) -> None:
    shell = Shell(board, ann, "j power on")
    shell.end()
    is_over(board, shell.lease)
    assert board.hooks_run == ["before", "after"]
    statuses = [status for status, _ in board.exporter.statuses]
    assert [one for one, _ in itertools.groupby(statuses)] == [
        "AVAILABLE",
        "BEFORE_LEASE_HOOK",
        "LEASE_READY",
        "AFTER_LEASE_HOOK",
        "AVAILABLE",
    ]


def test_who_waits_for_a_board_in_local_use_gets_it_when_that_ends(board: Board, ann: Person) -> None:
    with board.used():
        board.becomes("AFTER_LEASE_HOOK", f"Not available: {LOCAL_USE}")
        shell = Shell(board, ann, "true")
        shell.until("Waiting for lease: None of the matching exporters is ready")
        assert shell.lease.conditions["Pending"].reason == "NotReady"
    shell.end()
    is_over(board, shell.lease)


def test_a_lease_that_came_too_early_waits_for_the_users_of_the_host(board: Board, ann: Person) -> None:
    with board.lab.upstream_controller.reports_held() as let_pass, board.used() as used:
        shell = Shell(board, ann, "true")
        told = f"the lease {shell.lease.name} of ann waits for this board; it begins when you leave"
        board.logs(told)
        board.lab.until(lambda: told in used.text["err"])
        let_pass()
        shell.until("-> BEFORE_LEASE_HOOK")
        board.becomes("BEFORE_LEASE_HOOK", f"Waiting for the board: {LOCAL_USE}")
        assert board.use("power", "on").returncode == 0, "they go on using it"
        assert board.hooks_run == []
    shell.end()
    is_over(board, shell.lease)


def too_early(board: Board, ann: Person, withhold: Callable[[], object]) -> Shell:
    """A lease that has come just before the board was not to be leased."""
    with board.lab.upstream_controller.reports_held():
        withhold()
        shell = Shell(board, ann, "true")
        board.lab.until(lambda: shell.lease.name in board.daemon.log.read_text())
    board.becomes("BEFORE_LEASE_HOOK", "Waiting for the board: ")
    shell.until("-> BEFORE_LEASE_HOOK")
    return shell


def test_a_lease_is_given_back_when_local_use_does_not_end(hasty_board: Board, ann: Person) -> None:
    board = hasty_board
    with board.lab.upstream_controller.reports_held() as let_pass, board.used():
        shell = Shell(board, ann, "true")
        board.lab.until(lambda: shell.lease.name in board.daemon.log.read_text())
        let_pass()
        said = shell.end(1)
        assert said.endswith(f"Error: the board is {LOCAL_USE}"), said
        board.lab.until(lambda: shell.lease.is_ended)
        board.becomes("AFTER_LEASE_HOOK", f"Not available: {LOCAL_USE}")
        assert board.use("power", "on").returncode == 0
    is_over(board, shell.lease)
    assert board.hooks_run == []


def test_a_lease_has_the_board_alone_in_each_phase(board: Board, ann: Person) -> None:
    board.hold("hold-before", "hold-after", "inside")
    shell = Shell(board, ann, f"while test -e {board.home}/inside; do sleep 0.05; done", "--exporter-logs")
    leased = f"the board is leased by ann ({shell.lease.name}, "
    board.becomes("BEFORE_LEASE_HOOK")
    board.lab.until(lambda: board.hooks_run)
    board.refuses(why=f"{leased}preparing)")
    board.refuses("--override", why=f"a hook of the lease {shell.lease.name} runs")
    assert board.use("power", "on", "--override=force").returncode == 0
    board.go_on("hold-before")
    board.becomes("LEASE_READY")
    board.refuses(why=f"{leased}leased)")
    assert board.use("power", "off", "--override").returncode == 0
    shell.until(f"{ME} on the exporter's host uses the lease with --override")
    board.go_on("inside")
    board.becomes("AFTER_LEASE_HOOK")
    board.refuses(why=f"{leased}cleaning)")
    board.refuses("--override", why=f"a hook of the lease {shell.lease.name} runs")
    board.go_on("hold-after")
    shell.end()
    is_over(board, shell.lease)


def test_a_board_that_is_drained_is_not_leased_until_it_is_resumed(board: Board, ann: Person) -> None:
    board.host("drain", board.name)
    board.becomes("AFTER_LEASE_HOOK", f"Not available: drained: by {ME}")
    assert board.use("power", "on").returncode == 0
    board.becomes("AFTER_LEASE_HOOK", LOCAL_USE)
    board.becomes("AFTER_LEASE_HOOK", "drained")
    shell = Shell(board, ann, "true")
    shell.until("Waiting for lease: None of the matching exporters is ready")
    board.host("resume", board.name)
    shell.end()
    is_over(board, shell.lease)


def test_a_lease_of_a_drained_board_waits_until_that_is_resumed(board: Board, ann: Person) -> None:
    shell = too_early(board, ann, lambda: board.host("drain", board.name))
    board.refuses(why=f"the board is leased by ann ({shell.lease.name}, waiting)")
    assert board.hooks_run == []
    assert board.use("power", "on", "--override").returncode == 0, "nothing of the lease has begun"
    board.host("resume", board.name)
    shell.end()
    is_over(board, shell.lease)


def test_a_lease_of_a_drained_board_is_given_back(hasty_board: Board, ann: Person) -> None:
    board = hasty_board
    shell = too_early(board, ann, lambda: board.host("drain", board.name))
    said = shell.end(1)
    assert said.endswith(f"Error: the board is drained: by {ME}"), said
    board.lab.until(lambda: shell.lease.is_ended)
    board.becomes("AFTER_LEASE_HOOK", "Not available: drained")
    board.host("resume", board.name)
    is_over(board, shell.lease)


def test_a_failed_hook_withholds_the_board_until_its_lease_is_released(board: Board, ann: Person) -> None:
    board.hold("hold-before", "fail-before")
    shell = Shell(board, ann, "true")
    shell.until("-> BEFORE_LEASE_HOOK")
    board.go_on("hold-before")
    said = shell.end(1)
    assert said.endswith(
        "Error: beforeLease hook failed (on_failure=endLease): Hook failed with exit code 1"
    ), said
    assert "BEFORE_LEASE_HOOK_FAILED" in [status for status, _ in board.exporter.statuses]
    is_over(board, shell.lease)
    board.go_on("fail-before")
    again = Shell(board, ann, "true")
    again.end()
    is_over(board, again.lease)


def test_a_board_without_its_hardware_is_leased_when_that_is_there(lab: UpstreamLab, ann: Person) -> None:
    link = lab.home / "tty"
    console = f"{{type: serial.PySerial, required: true, config: {{url: {link}}}}}"
    board = Board(lab, export=f"export: {{power: {{type: power.MockPower}}, console: {console}}}\n")
    with board.daemon_ended():
        board.becomes("AFTER_LEASE_HOOK", "Not available: hardware: ")
        shell = Shell(board, ann, "true")
        shell.until("Waiting for lease: None of the matching exporters is ready")
        near, far = pty.openpty()
        try:
            link.symlink_to(os.ttyname(far))
            shell.end()
            is_over(board, shell.lease)
        finally:
            os.close(near)
            os.close(far)


def test_nobody_uses_a_board_whose_exporter_was_killed_in_local_use(board: Board, ann: Person) -> None:
    with board.used():
        board.becomes("AFTER_LEASE_HOOK", LOCAL_USE)
        shell = Shell(board, ann, "true")
        board.restart()
        shell.end()
        is_over(board, shell.lease)


def test_a_lease_that_waited_waits_again_for_an_exporter_that_was_killed(board: Board, ann: Person) -> None:
    shell = too_early(board, ann, lambda: board.host("drain", board.name))
    board.restart()
    board.logs(shell.lease.name)
    board.becomes("BEFORE_LEASE_HOOK", f"Waiting for the board: drained: by {ME}")
    board.host("resume", board.name)
    shell.end()
    is_over(board, shell.lease)
    assert board.hooks_run == ["before", "after"]


def test_a_hook_runs_again_where_the_exporter_was_killed_in_it(board: Board, ann: Person) -> None:
    board.hold("hold-before")
    shell = Shell(board, ann, "true")
    shell.until("-> BEFORE_LEASE_HOOK")
    board.lab.until(lambda: board.hooks_run)
    board.restart()
    board.lab.until(lambda: board.hooks_run == ["before", "before"])
    board.go_on("hold-before")
    shell.end()
    is_over(board, shell.lease)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_lease_goes_on_without_a_hook_when_its_exporter_is_started_again(
    board: Board, ann: Person, how: signal.Signals
) -> None:
    board.hold("inside")
    shell = Shell(board, ann, f"while test -e {board.home}/inside; do sleep 0.05; done; j power on")
    board.becomes("LEASE_READY")
    board.lab.until(lambda: "LEASE_READY" in shell.said)
    board.restart(how)
    listened = board.lab.upstream_controller.listened
    board.lab.until(lambda: listened.count(shell.lease.name) == 2)
    board.becomes("LEASE_READY")
    assert ("OFFLINE" in [status for status, _ in board.exporter.statuses]) == (how == signal.SIGTERM)
    board.refuses(why=f"the board is leased by ann ({shell.lease.name}, leased)")
    board.go_on("inside")
    shell.end()
    is_over(board, shell.lease)
    assert board.hooks_run == ["before", "after"]


def test_the_last_hook_runs_again_where_the_exporter_was_killed_in_it(board: Board, ann: Person) -> None:
    board.hold("hold-after")
    shell = Shell(board, ann, "true")
    board.lab.until(lambda: board.hooks_run == ["before", "after"])
    board.restart()
    board.lab.until(lambda: board.hooks_run == ["before", "after", "after"])
    shell.until("-> AFTER_LEASE_HOOK")  # by then it is connected again, if the kill came first
    board.go_on("hold-after")
    shell.end()
    is_over(board, shell.lease)


def test_a_drained_board_is_not_leased_though_its_offline_is_forgotten(board: Board, ann: Person) -> None:
    """0.9's controller clears an Offline when the exporter is connected again, and leases what says nothing."""
    board.host("drain", board.name)
    board.becomes("AFTER_LEASE_HOOK")
    shell = Shell(board, ann, "true")
    board.restart(signal.SIGTERM)
    board.becomes("AFTER_LEASE_HOOK", "drained")
    assert not shell.lease.exporter
    board.host("resume", board.name)
    shell.end()
    is_over(board, shell.lease)


TWO = "{power: {type: power.MockPower}, spare: {type: power.MockPower}}"


def change(board: Board) -> None:
    board.file.write_text(
        board.file.read_text().replace("export:\n  power:", f"export: {TWO}\nold:\n  power:")
    )
    board.daemon.process.send_signal(signal.SIGHUP)


def test_a_change_is_taken_up_before_a_lease_that_waits(board: Board, ann: Person) -> None:
    shell = too_early(board, ann, lambda: board.host("drain", board.name))
    change(board)
    board.logs("restarted")
    board.becomes("BEFORE_LEASE_HOOK", "Waiting for the board: drained")
    board.host("resume", board.name)
    shell.end()
    assert "spare" in board.use("devices").stdout
    is_over(board, shell.lease)


def test_a_change_waits_for_the_end_of_a_lease(board: Board, ann: Person) -> None:
    board.hold("inside")
    shell = Shell(board, ann, f"while test -e {board.home}/inside; do sleep 0.05; done; j power on")
    board.lab.until(lambda: "LEASE_READY" in shell.said)
    change(board)
    board.logs(f"changes after lease {shell.lease.name} of ann")
    assert board.exporter.status == "LEASE_READY"
    board.go_on("inside")
    shell.end()
    board.logs("is served with its new configuration")
    assert "spare" in board.use("devices").stdout
    is_over(board, shell.lease)
    assert "OFFLINE" not in [status for status, _ in board.exporter.statuses]
    assert board.exporter.unregistered == 0


def test_a_board_that_gets_another_controller_leaves_the_one_that_it_had(board: Board) -> None:
    text = board.file.read_text()
    board.file.write_text(text.replace("endpoint: 127.0.0.1:", "endpoint: localhost:"))
    board.daemon.process.send_signal(signal.SIGHUP)
    board.lab.until(lambda: board.exporter.unregistered)
    assert board.exporter.status == "OFFLINE"
