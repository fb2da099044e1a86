"""A lab with our controller and router: Jumpstarter 0.9.0's client and exporter, and ours, in every combination."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.peers import Environment

EXPORT = "export:\n  power: {type: jumpstarter_driver_power.driver.MockPower}\n"


@dataclass
class Lab:
    """A controller with a router, and whoever joins them."""

    home: Path
    upstream: Environment
    stack: ExitStack
    controller: Daemon = field(init=False)
    command: exporters.Command = field(init=False)

    def __post_init__(self) -> None:
        ports = [exporters.free_port() for _ in range(2)]
        self.command = [exporters.scripts() / "jumpstarter-controller", "run", "--with-router"]
        self.command += ["--data", self.home / "data", "--listen", f"127.0.0.1:{ports[0]}"]
        self.command += ["--router-listen", f"127.0.0.1:{ports[1]}"]
        self.start()

    def start(self) -> None:
        self.controller = self.stack.enter_context(exporters.running(self.command, self.home))
        assert self.controller.first_line().startswith("Listening on 127.0.0.1:")

    def admin(self, *words: str) -> str:
        command = [
            exporters.scripts() / "jumpstarter-controller",
            "admin",
            *words,
            "--data",
            self.home / "data",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, name: str) -> Path:
        file = self.home / f"{name}.yaml"
        self.admin("client", "create", name, "--save", str(file))
        return file

    def exporter(self, name: str, *, ours: bool, hooks: str = "") -> Daemon:
        file = self.home / f"{name}.yaml"
        self.admin("exporter", "create", name, "--label", "board=rpi4", "--save", str(file))
        file.write_text(file.read_text().replace("export: {}\n", EXPORT) + hooks)
        home = self.home / f"home-{name}"
        home.mkdir()
        if ours:
            command: exporters.Command = [
                exporters.scripts() / "jumpstarter-exporter",
                "run",
                "--config",
                file,
            ]
            command += ["--log-level", "info"]
        else:
            command = [self.upstream.bin / "jmp", "run", "--exporter-config", file]
        daemon = self.stack.enter_context(exporters.running(command, home))
        self.until(lambda: "AVAILABLE" in self.admin("exporter", "list"))
        return daemon

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.2)

    def run(self, *command: str | Path, theirs: bool) -> subprocess.CompletedProcess[str]:
        scripts = self.upstream.bin if theirs else exporters.scripts()
        return subprocess.run(
            [scripts / command[0], *command[1:]],
            env=exporters.clean_environment(self.home) | {"PATH": f"{scripts}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )


@pytest.fixture
def lab(upstream: Environment) -> Iterator[Lab]:
    # Short: 0.9.0 puts its sockets below, and a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        yield Lab(Path(home), upstream, stack)


@pytest.mark.parametrize("our_exporter", [True, False], ids=["our exporter", "their exporter"])
def test_a_board_by_label_for_either_client(lab: Lab, our_exporter: bool) -> None:
    daemon = lab.exporter("one", ours=our_exporter)
    ann = lab.client("ann")
    selector = ["--client-config", ann, "--selector", "board=rpi4"]
    for _ in range(2):
        done = lab.run("jmp", "shell", *selector, "--", "j", "power", "on", theirs=True)
        assert done.returncode == 0, done.stderr
    done = lab.run("jumpstarter", "power", "on", "-l", "board=rpi4", "--client", ann, theirs=False)
    assert done.returncode == 0, done.stderr
    done = lab.run(
        "jumpstarter", "shell", "-l", "board=rpi4", "--client", ann, "--", "j", "power", "off", theirs=False
    )
    assert done.returncode == 0, done.stderr
    log = daemon.log.read_text()
    assert log.lower().count("power on") >= 3
    assert "power off" in log.lower()
    leases = lab.run("jmp", "get", "leases", "--client-config", ann, "-o", "json", theirs=True)
    assert '"leases": []' in leases.stdout, "a lease was left behind"


def test_hooks_and_a_lease_by_name_with_their_client(lab: Lab) -> None:
    marks = lab.home / "marks"
    hooks = (
        f"hooks:\n  beforeLease: {{script: 'echo before $CLIENT_NAME >> {marks}'}}\n"
        f"  afterLease: {{script: 'j power off && echo after >> {marks}'}}\n"
    )
    lab.exporter("one", ours=True, hooks=hooks)
    ann = lab.client("ann")
    created = lab.run(
        "jmp",
        "create",
        "lease",
        "--client-config",
        ann,
        "-n",
        "one",
        "--duration",
        "1h",
        "-o",
        "name",
        theirs=True,
    )
    name = created.stdout.strip()
    assert name, created.stderr
    lab.until(marks.exists)
    bob = lab.client("bob")
    given = lab.run("jmp", "update", "lease", name, "--to-client", "bob", "--client-config", ann, theirs=True)
    assert given.returncode == 0, given.stderr
    refused = lab.run("jumpstarter", "power", "on", "--lease", name, "--client", ann, theirs=False)
    assert "lease" in refused.stderr
    assert "bob" in refused.stderr
    done = lab.run(
        "jmp", "shell", "--lease", name, "--client-config", bob, "--", "j", "power", "on", theirs=True
    )
    assert done.returncode == 0, done.stderr
    assert lab.run("jmp", "delete", "leases", name, "--client-config", bob, theirs=True).returncode == 0
    lab.until(lambda: "after" in marks.read_text())
    assert marks.read_text().splitlines() == ["before ann", "after"]


def test_our_client_waits_for_the_hook_and_says_why_it_failed(lab: Lab) -> None:
    marks = lab.home / "marks"
    hook = f"test -e {lab.home}/broken && exit 3; sleep 1; echo before >> {marks}"
    hooks = f"hooks:\n  beforeLease: {{script: '{hook}', onFailure: endLease}}\n"
    lab.exporter("one", ours=True, hooks=hooks)
    ann = lab.client("ann")
    shell = ["jumpstarter", "shell", "-l", "board=rpi4", "--client", ann, "--", "sh", "-c"]
    done = lab.run(*shell, f"echo command >> {marks}", theirs=False)
    assert done.returncode == 0, done.stderr
    done = lab.run("jumpstarter", "power", "on", "-l", "board=rpi4", "--client", ann, theirs=False)
    assert done.returncode == 0, done.stderr
    assert marks.read_text().splitlines() == ["before", "command", "before"]
    (lab.home / "broken").touch()
    done = lab.run("jumpstarter", "power", "on", "-l", "board=rpi4", "--client", ann, theirs=False)
    assert done.returncode != 0
    assert "beforeLease hook failed" in done.stderr, done.stderr


def test_a_killed_controller_is_a_notice_to_a_running_shell(lab: Lab) -> None:
    daemon = lab.exporter("one", ours=True)
    ann = lab.client("ann")
    go, ready = lab.home / "go", lab.home / "ready"
    script = f"j power on && touch {ready} && while ! test -e {go}; do sleep 0.1; done; j power off"
    command = [
        exporters.scripts() / "jumpstarter",
        "shell",
        "-l",
        "board=rpi4",
        "--client",
        ann,
        "--",
        "sh",
        "-c",
        script,
    ]
    environment = exporters.clean_environment(lab.home)
    environment["PATH"] = f"{exporters.scripts()}:{os.environ['PATH']}"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as shell:
        lab.until(ready.exists)
        lab.controller.process.kill()
        lab.controller.process.wait()
        lab.start()
        go.touch()
        _, said = shell.communicate(timeout=100)
    assert shell.returncode == 0, said
    assert "power off" in daemon.log.read_text()
    assert "lease" not in lab.admin("exporter", "list")


def test_two_clients_race_for_one_board(lab: Lab) -> None:
    lab.exporter("one", ours=True)
    files = [lab.client("ann"), lab.client("bob")]
    held = lab.home / "held"
    # mkdir fails if the other is inside.
    script = f"mkdir {held} && sleep 1 && rmdir {held}"
    environment = exporters.clean_environment(lab.home)
    base = [exporters.scripts() / "jumpstarter", "shell", "-l", "board=rpi4"]
    shells = [
        subprocess.Popen(
            [*base, "--client", file, "--", "sh", "-c", script],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for file in files
    ]
    said = [shell.communicate(timeout=100)[1] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], said
    assert any("Waiting for a board" in one and "queue" in one for one in said)


def test_what_is_wrong_is_one_sentence(lab: Lab) -> None:
    lab.exporter("one", ours=True)
    ann = lab.client("ann")
    for words, sentence in {
        ("-l", "board=none"): "no exporter matches board=none",
        ("-l", "board in"): "expected (",
        ("--exporter-name", "two"): "there is no exporter two",
        ("--lease", "nothing"): "not found",
        ("-l", "board=rpi4", "--duration", "soon"): "is no duration",
    }.items():
        done = lab.run("jumpstarter", "power", "on", *words, "--client", ann, theirs=False)
        assert done.returncode != 0
        assert sentence in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    lab.admin("client", "delete", "ann")
    done = lab.run("jumpstarter", "power", "on", "-l", "board=rpi4", "--client", ann, theirs=False)
    assert "it was deleted" in done.stderr
