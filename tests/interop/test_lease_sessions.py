"""A shell on a leased board: what is in it, how it ends, and what a lease's new end or owner means for it."""

from __future__ import annotations

import re
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from tests.interop.lab import Lab, Person

ATTEMPTS = ("3", "6", "12", "24")
"""Seconds of a lease whose end is waited for: the first that is enough for what comes before it, on this machine."""
CLIENTS = pytest.mark.parametrize("theirs", [False, True], ids=["our client", "their client"])


@pytest.fixture(scope="module")
def ann(lab: Lab) -> Person:
    lab.exporter("one", ours=True)
    return lab.person("ann")


@pytest.fixture(scope="module")
def bob(lab: Lab) -> Person:
    return lab.person("bob")


def create(who: Person, *words: str) -> str:
    return who.jmp("create", "lease", *words, "--duration", "1h", "-o", "name").stdout.strip()


def finish(shell: subprocess.Popen[str]) -> str:
    said, _ = shell.communicate(timeout=100)
    return re.sub(r"\s+", " ", said)


def is_past(moment: float) -> bool:
    return time.time() > moment


def waits(go: Path) -> str:
    """Shell words that wait for a file."""
    return f"while ! test -e {go}; do sleep 0.1; done"


@CLIENTS
def test_streams_and_exit_code_are_the_commands_own(ann: Person, theirs: bool) -> None:
    run = ann.jmp if theirs else ann.ours
    done = run(
        "shell",
        "-l",
        "board=rpi4",
        inside=("sh", "-c", "cat; echo $JMP_EXPORTER; exit 7"),
        check=False,
        stdin="hello\n",
    )
    assert done.returncode == 7
    lines = done.stdout.splitlines()
    assert lines[lines.index("hello") + 1] == "one"


def test_what_their_shell_knows_of_its_lease(ann: Person) -> None:
    done = ann.jmp("shell", "-l", "board=rpi4", inside=("sh", "-c", "echo $JMP_LEASE $JMP_EXPORTER_LABELS"))
    assert re.search(r"^[0-9a-f-]{36} board=rpi4$", done.stdout, re.MULTILINE)


@CLIENTS
def test_a_lease_that_exists_is_used_and_left_alone(lab: Lab, ann: Person, theirs: bool) -> None:
    run = ann.jmp if theirs else ann.ours
    name = create(ann, "-l", "board in (rpi4),board!=x")
    run("shell", "--lease", name, inside=("j", "power", "on"))
    # The canonical text, as 0.9.0 compares it letter for letter before it takes a lease for the wrong one.
    selector = lab.lease(name).selector
    assert selector == "board in (rpi4),board notin (x)"
    if theirs:
        ann.jmp("shell", "--lease", name, "-l", selector, inside=("j", "power", "off"))
        ann.jmp("shell", inside=("true",))  # the only one that there is
    assert [one.name.rpartition("/")[2] for one in lab.leases()] == [name]
    ann.jmp("delete", "leases", name)


@CLIENTS
def test_expiry_hangs_up_and_the_next_one_gets_the_board(
    lab: Lab, ann: Person, bob: Person, theirs: bool
) -> None:
    ready, hung = lab.home / f"ready-{theirs}", lab.home / f"hung-{theirs}"
    script = f"trap 'touch {hung}; exit 9' HUP; touch {ready}; {waits(lab.home / 'never')}"
    for seconds in ATTEMPTS:
        ready.unlink(missing_ok=True)
        with ann.shell("-l", "board=rpi4", "--duration", seconds, script=script, theirs=theirs) as shell:
            lab.until(lambda: ready.exists() or shell.poll() is not None)
            if not ready.exists():
                continue
            bob.ours("power", "on", "-l", "board=rpi4")
            said = finish(shell)
        break
    else:
        pytest.fail("no lease was long enough")
    assert hung.exists(), said
    [*_, ended] = (one for one in lab.everything() if one.client.endswith("/ann"))
    assert ended.conditions[-1].reason == "Expired"


@CLIENTS
def test_a_lease_that_is_extended_goes_on(lab: Lab, ann: Person, theirs: bool) -> None:
    ready, go = lab.home / f"begun-{theirs}", lab.home / f"go-{theirs}"
    script = f"touch {ready}; {waits(go)}; j power on"
    for seconds in ATTEMPTS:
        ready.unlink(missing_ok=True)
        with ann.shell("-l", "board=rpi4", "--duration", seconds, script=script, theirs=theirs) as shell:
            lab.until(lambda: ready.exists() or shell.poll() is not None)
            leases = lab.leases()
            name = leases[0].name.rpartition("/")[2] if leases else ""
            if not name or ann.jmp("update", "lease", name, "--duration", "1h", check=False).returncode:
                continue
            end = leases[0].effective_begin_time.seconds + leases[0].duration.seconds
            lab.until(partial(is_past, end + 1))
            assert shell.poll() is None
            go.touch()
            said = finish(shell)
        break
    else:
        pytest.fail("no lease was long enough")
    assert shell.returncode == 0, said
    lab.until(lambda: not lab.leases())


@CLIENTS
def test_a_lease_that_was_given_away_is_lost_to_its_old_owner(
    lab: Lab, ann: Person, bob: Person, theirs: bool
) -> None:
    ready, go = lab.home / f"mine-{theirs}", lab.home / f"given-{theirs}"
    name = create(ann, "-n", "one")
    script = f"touch {ready}; {waits(go)}; j power on"
    with ann.shell("--lease", name, script=script, theirs=theirs) as shell:
        lab.until(lambda: ready.exists() or shell.poll() is not None)
        given = ann.jmp("update", "lease", name, "--to-client", "bob", "-o", "yaml").stdout
        assert "client: bob" in given
        go.touch()
        if theirs:
            # It says so at its next dial; that its `j` then goes on asking for most of a minute is its own affair.
            assert shell.stdout is not None
            assert any("has been transferred to" in line for line in shell.stdout)
        else:
            said = finish(shell)
            assert shell.returncode != 0
            assert "bob" in said
    refused = ann.ours("power", "on", "--lease", name, check=False)
    assert "bob" in refused.stderr
    bob.jmp("shell", "--lease", name, inside=("j", "power", "on"))
    bob.ours("power", "off", "--lease", name)
    bob.jmp("delete", "leases", name)
