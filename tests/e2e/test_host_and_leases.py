"""Users at the host of a board that a controller leases, and the lease's user: one has the board at a time."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jumpstarter_proto.errors import ExitCode

from tests.e2e.lab import Lab
from tests.interop import exporters

HOOKS = """
hooks:
  beforeLease: {script: "echo the hook prepares"}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.opened() as lab:
        yield lab


def door(lab: Lab, name: str = "one") -> str:
    """The socket of its host."""
    return str(lab.exporters[name].log.parent / "run" / "exporter.sock")


def leased(lab: Lab, *words: str) -> str:
    """The exporter of a new lease."""
    client = lab.home / "ann.yaml"
    if not client.exists():
        lab.client("ann")
    made = json.loads(lab.ok("lease", "create", "--client", client, "-o", "json", *words))
    return str(made["exporter"])


def test_a_board_in_local_use_is_not_leased_while_there_is_another(lab: Lab) -> None:
    lab.exporter("one")
    lab.exporter("two")
    lab.ok("power", "on", JUMPSTARTER_HOST=door(lab))
    lab.until(lambda: lab.status("one") == "AFTER_LEASE_HOOK")
    assert leased(lab, "-l", "board=rpi4") == "two"
    # The next one waits until nobody uses the other.
    assert leased(lab, "-l", "board=rpi4") == "one"


def test_nobody_at_the_host_switches_a_board_that_somebody_has_leased(lab: Lab) -> None:
    lab.exporter("one")
    assert leased(lab, "-l", "board=rpi4") == "one"
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    code, why = lab.refused("power", "off", JUMPSTARTER_HOST=door(lab))
    assert code == ExitCode.DENIED
    assert "the board is leased by ann (" in why
    assert ", leased) until " in why
    assert why.rstrip().endswith("wait for its end, or take part with --override")
    file = lab.home / "one.yaml"
    assert lab.refused("power", "off", "--config", file)[0] == ExitCode.DENIED
    assert "power" in lab.ok("devices", JUMPSTARTER_HOST=door(lab))
    lab.ok("power", "off", "--override", JUMPSTARTER_HOST=door(lab))
    words = ("power", "on", "--client", lab.home / "ann.yaml", "--lease", lease(lab), "--exporter-logs")
    assert "on the exporter's host uses the lease with --override" in lab.run(*words).stderr


def test_who_has_leased_a_board_reads_who_takes_part(lab: Lab) -> None:
    lab.exporter("one")
    lab.client("ann")
    script = f"touch {lab.home}/inside; until test -e {lab.home}/done; do sleep 0.05; done"
    words = ("-l", "board=rpi4", "--client", lab.home / "ann.yaml")
    shell = lab.start("shell", *words, "--", "sh", "-c", script)
    lab.until((lab.home / "inside").exists)
    lab.ok("power", "on", "--override", JUMPSTARTER_HOST=door(lab))
    (lab.home / "done").touch()
    _, said = shell.communicate(timeout=60)
    assert said.count(" on the exporter's host uses the lease with --override") == 1, said
    assert "INFO" not in said, "the rest is for --exporter-logs"


def lease(lab: Lab) -> str:
    return lab.ok("lease", "list", "--client", lab.home / "ann.yaml", "-o", "name").split()[0]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_lease_goes_on_after_a_restart_without_its_hook(lab: Lab, how: signal.Signals) -> None:
    daemon = lab.exporter("one", hooks=HOOKS)
    assert leased(lab, "-l", "board=rpi4") == "one"
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    daemon.process.send_signal(how)
    daemon.process.wait(20)
    restarted = lab.start_exporter("one", wait=False, folder=daemon.log.parent)
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    lab.ok("power", "on", "--client", lab.home / "ann.yaml", "--lease", lease(lab))
    assert "the hook prepares" not in restarted.log.read_text()
    lab.ok("lease", "release", lease(lab), "--client", lab.home / "ann.yaml")
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_two_exporters_of_one_host_have_a_socket_each(lab: Lab) -> None:
    first = lab.exporter("one")
    lab.exporter("two", folder=first.log.parent)
    own = str(first.log.parent / "run" / "boards" / "two.sock")
    lab.ok("power", "on", JUMPSTARTER_HOST=own)
    lab.until(lambda: lab.status("two") == "AFTER_LEASE_HOOK")
    assert lab.status("one") == "AVAILABLE"


def test_a_board_is_leased_where_nobody_at_its_host_can_be_served(lab: Lab) -> None:
    """As where 0.9 runs in a container without a place for sockets."""
    lab.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", lab.home / "one.yaml")
    file = lab.home / "one.yaml"
    file.write_text(file.read_text().replace("export: {}\n", lab.export))
    program = lab.home / "start"
    program.write_text('#!/bin/sh\nJUMPSTARTER_RUNTIME_DIRECTORY=/dev/null/x exec "$@"\n')
    program.chmod(0o700)
    command = subprocess.run(
        ["which", "jumpstarter-exporter"], capture_output=True, text=True, check=False, env=lab.environment
    )
    lab.start_exporter("one", program, command.stdout.strip(), "run", "--config")
    assert "which is for leases only" in lab.exporters["one"].log.read_text()
    assert leased(lab, "-l", "board=rpi4") == "one"


def exporter_command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """`jumpstarter-exporter ...` at the host of the exporter "one"."""
    return subprocess.run(
        [exporters.scripts() / "jumpstarter-exporter", *words],
        env=lab.environment | {"JUMPSTARTER_RUNTIME_DIRECTORY": str(Path(door(lab)).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_board_that_is_drained_is_not_leased_also_after_a_restart(lab: Lab) -> None:
    daemon = lab.exporter("one")
    drained = exporter_command(lab, "drain", "one")
    assert drained.returncode == 0, drained.stderr
    assert drained.stdout == f"one: drained: by {getpass.getuser()}\n"
    lab.until(lambda: lab.status("one") == "AFTER_LEASE_HOOK")
    shown = lab.ok("devices", JUMPSTARTER_HOST=door(lab)).splitlines()[0]
    assert shown == f"one  drained: by {getpass.getuser()}"
    daemon.process.kill()
    daemon.process.wait()
    lab.start_exporter("one", wait=False, folder=daemon.log.parent)
    lab.until(lambda: lab.status("one") == "AFTER_LEASE_HOOK")
    lab.exporter("two")
    assert leased(lab, "-l", "board=rpi4") == "two"
    assert exporter_command(lab, "resume", "--all").stdout == "one: can be leased\n"
    assert lab.ok("devices", JUMPSTARTER_HOST=door(lab)).splitlines()[0] == "one"
    assert leased(lab, "-l", "board=rpi4") == "one"


def test_an_exporter_that_is_drained_to_its_end_ends_after_its_lease(lab: Lab) -> None:
    daemon = lab.exporter("one")
    assert leased(lab, "-l", "board=rpi4") == "one"
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    said = exporter_command(lab, "drain", "--exit").stdout
    assert said.startswith("one: leased by ann (")
    assert "ending after the current leases (one: leased by ann (" in daemon.log.read_text()
    assert said.endswith("\nthe exporter ends when no lease is served any more\n")
    assert daemon.process.poll() is None
    lab.ok("lease", "release", lease(lab), "--client", lab.home / "ann.yaml")
    assert daemon.process.wait(30) == 0
    lab.start_exporter("one", folder=daemon.log.parent)


def test_what_cannot_be_drained_says_why(lab: Lab) -> None:
    lab.exporter("one")
    missing = exporter_command(lab, "drain", "rock")
    assert missing.returncode == ExitCode.NOT_FOUND
    assert "this host has no board rock; it has one" in missing.stderr
    assert exporter_command(lab, "drain", "one", "rock").stderr == missing.stderr
    assert exporter_command(lab, "resume", "--all", "one").returncode == ExitCode.USAGE
    nowhere = exporter_command(lab, "drain", "--socket", "/no/such.sock")
    assert nowhere.returncode == ExitCode.UNAVAILABLE
    assert "is the exporter running?" in nowhere.stderr


def test_a_shell_at_the_host_holds_the_board_between_its_commands(lab: Lab) -> None:
    lab.exporter("one")
    script = "touch held; while ! test -e go; do sleep 0.05; done"
    shell = lab.start("shell", "--", "sh", "-c", script, JUMPSTARTER_HOST=door(lab))
    lab.until((lab.home / "held").exists)
    lab.until(lambda: lab.status("one") == "AFTER_LEASE_HOOK")
    lab.client("ann")
    wanted = lab.start("lease", "create", "-l", "board=rpi4", "--client", lab.home / "ann.yaml")
    assert wanted.stderr is not None
    assert "in local use by" in wanted.stderr.readline()
    lab.until(lambda: "of ann wants this board" in lab.exporters["one"].log.read_text())
    (lab.home / "go").touch()
    assert shell.wait(60) == 0
    assert wanted.wait(60) == 0
    code, why = lab.refused("shell", "--", "true", JUMPSTARTER_HOST=door(lab))
    assert code == ExitCode.DENIED
    assert "the board is leased by ann" in why
    lab.ok("shell", "--override", "--", "true", JUMPSTARTER_HOST=door(lab))
