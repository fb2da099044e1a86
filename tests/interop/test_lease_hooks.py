"""Hooks around a lease, as Jumpstarter 0.9.0's client sees them: with our exporter, and with its own for comparison."""

from __future__ import annotations

import re

import pytest

from tests.interop.exporters import Daemon
from tests.interop.lab import Done, Lab, Person

WHOSE = pytest.mark.parametrize("ours", [True, False], ids=["our exporter", "their exporter"])


@pytest.fixture(scope="module")
def ann(lab: Lab) -> Person:
    return lab.person("ann")


def board(lab: Lab, name: str, ours: bool, **hooks: str) -> tuple[str, Daemon]:
    """An exporter with hooks, `script|onFailure` each, and its label."""
    name = f"{name}-{'ours' if ours else 'theirs'}"
    text = "hooks:\n"
    for key, hook in hooks.items():
        script, _, how = hook.partition("|")
        text += f"  {key}Lease: {{script: '{script}', onFailure: {how or 'warn'}, timeout: 60}}\n"
    return name, lab.exporter(name, ours=ours, label=f"board={name}", hooks=text)


def shell(who: Person, label: str, *inside: str, check: bool = True) -> Done:
    return who.jmp(
        "--log-level", "INFO", "shell", "-l", f"board={label}", inside=inside or ("true",), check=check
    )


def flat(done: Done) -> str:
    """All that it said; it wraps its lines as it likes."""
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def statuses(done: Done) -> list[str]:
    """What a client saw of its session, in order. It polls, so it may miss what was short."""
    return re.findall(r"Status changed: \S+ -> (?:ExporterStatus\.)?(\w+)", flat(done))


def in_order(seen: list[str], expected: list[str]) -> bool:
    """Whether what was seen is a part of what happened, in its order."""
    rest = iter(expected)
    return all(one in rest for one in seen)


@WHOSE
def test_hooks_that_go_well(lab: Lab, ann: Person, ours: bool) -> None:
    marks = lab.home / f"marks-{ours}"
    label, daemon = board(
        lab,
        "good",
        ours,
        before=f"echo prepared for $CLIENT_NAME; echo before >> {marks}",
        after=f"j power off && echo after >> {marks}",
    )
    done = shell(ann, label, "sh", "-c", f"j power on && echo inside >> {marks}")
    assert marks.read_text().splitlines() == ["before", "inside", "after"]
    assert "prepared for ann" in flat(done), "its output reaches the client"
    seen = statuses(done)
    assert in_order(seen, ["BEFORE_LEASE_HOOK", "LEASE_READY", "AFTER_LEASE_HOOK", "AVAILABLE"]), seen
    assert "LEASE_READY" in seen
    log = daemon.log.read_text().lower()
    assert "power off" in log
    lab.until(lambda: lab.status(label) == "AVAILABLE")
    assert lab.leases() == []


@WHOSE
def test_a_warning(lab: Lab, ann: Person, ours: bool) -> None:
    label, _ = board(lab, "warns", ours, before="exit 3|warn", after="exit 4|warn")
    said = flat(shell(ann, label, "j", "power", "on"))
    assert "Warning: beforeLease hook warning: Hook failed with exit code 3" in said
    assert "Warning: afterLease hook warning: Hook failed with exit code 4" in said
    lab.until(lambda: lab.status(label) == "AVAILABLE")


@WHOSE
def test_a_board_that_its_hook_refuses(lab: Lab, ann: Person, ours: bool) -> None:
    """The client says why, the lease ends, afterLease is skipped, and the next one may try."""
    marks = lab.home / f"refused-{ours}"
    label, _ = board(lab, "refuses", ours, before=f"test -e {marks}|endLease", after=f"echo after >> {marks}")
    done = shell(ann, label, check=False)
    assert done.returncode != 0
    assert "beforeLease hook failed (on_failure=endLease)" in flat(done)
    lab.until(lambda: lab.status(label) == "AVAILABLE" and not lab.leases())
    assert not marks.exists()
    if ours:  # 0.9.0's exporter gives a lease back a second later, and it may be the next one by then
        marks.touch()
        shell(ann, label, "j", "power", "on")
        lab.until(lambda: marks.read_text() == "after\n")


# With an exporter of 0.9.0 whose hook has `exit`, its own client waits for minutes: the reason is gone, with the status
# OFFLINE after it, before anybody has asked. Ours keeps it for as long as the lease is, ten seconds at most.


def test_an_exporter_that_gives_up_before_a_lease(lab: Lab, ann: Person) -> None:
    marks = lab.home / "gave-up"
    label, daemon = board(lab, "gives-up", True, before="exit 3|exit", after=f"touch {marks}")
    done = shell(ann, label, check=False)
    assert done.returncode == 1
    assert "beforeLease hook failed (on_failure=exit, shutting down)" in flat(done)
    assert daemon.process.wait(60) == 1
    assert lab.status(label) == "OFFLINE"
    assert not marks.exists()
    lab.until(lambda: not lab.leases())


def test_an_exporter_that_gives_up_after_a_lease(lab: Lab, ann: Person) -> None:
    label, daemon = board(lab, "gives-up-after", True, after="exit 3|exit")
    done = shell(ann, label, check=False)
    assert done.returncode == 1
    assert "afterLease hook failed (on_failure=exit, shutting down)" in flat(done)
    assert daemon.process.wait(60) == 1
    lab.until(lambda: lab.status(label) == "OFFLINE" and not lab.leases())


@WHOSE
def test_an_after_hook_that_fails(lab: Lab, ann: Person, ours: bool) -> None:
    """0.9.0's exporter stays AFTER_LEASE_HOOK_FAILED for ever when its client gives the lease back; ours comes back."""
    label, _ = board(lab, "fails-after", ours, after="exit 3|endLease")
    done = shell(ann, label, check=False)
    assert done.returncode == 1
    assert "afterLease hook failed (on_failure=endLease)" in flat(done)
    lab.until(lambda: not lab.leases())
    if ours:
        lab.until(lambda: lab.status(label) == "AVAILABLE")


def test_a_hook_sees_who_has_the_lease_and_its_end(lab: Lab, ann: Person) -> None:
    """Without a shell: the hook runs as soon as there is a lease, and when it is deleted."""
    marks = lab.home / "who"
    label, _ = board(
        lab, "who", True, before=f"echo $CLIENT_NAME $LEASE_NAME >> {marks}", after=f"echo after >> {marks}"
    )
    name = ann.jmp("create", "lease", "-n", label, "--duration", "1h", "-o", "name").stdout.strip()
    lab.until(marks.exists)
    ann.jmp("delete", "leases", name)
    lab.until(lambda: "after" in marks.read_text())
    assert marks.read_text().splitlines() == [f"ann {name}", "after"]


def test_our_client_waits_for_the_hook_and_says_why_it_failed(lab: Lab, ann: Person) -> None:
    marks, broken = lab.home / "ours-marks", lab.home / "broken"
    before = f"test -e {broken} && exit 3; sleep 1; echo before >> {marks}|endLease"
    label, _ = board(lab, "our-client", True, before=before)
    ann.ours("shell", "-l", f"board={label}", inside=("sh", "-c", f"echo command >> {marks}"))
    ann.ours("power", "on", "-l", f"board={label}")
    assert marks.read_text().splitlines() == ["before", "command", "before"]
    broken.touch()
    done = ann.ours("power", "on", "-l", f"board={label}", check=False)
    assert done.returncode != 0
    assert "beforeLease hook failed" in done.stderr, done.stderr


def test_our_client_with_their_exporters_hooks(lab: Lab, ann: Person) -> None:
    marks = lab.home / "their-marks"
    label, _ = board(lab, "mixed", False, before=f"echo before >> {marks}", after=f"echo after >> {marks}")
    ann.ours("power", "on", "-l", f"board={label}")
    lab.until(lambda: marks.read_text().splitlines() == ["before", "after"])
    lab.until(lambda: lab.status(label) == "AVAILABLE")


@WHOSE
def test_our_client_shows_what_hooks_print_and_warns_of_one_that_fails(
    lab: Lab, ann: Person, ours: bool
) -> None:
    label, _ = board(lab, "shown", ours, before="echo it is warm", after="echo it is cold; exit 3")
    done = ann.ours("power", "on", "-l", f"board={label}")
    lines = done.stderr.splitlines()
    assert lines[:2] == ["beforeLease: it is warm", "afterLease: it is cold"]
    assert lines[-1] == "warning: afterLease hook: Hook failed with exit code 3"
    assert not [one for one in lab.leases() if one.selector == f"board={label}"]
    lab.until(lambda: lab.status(label) == "AVAILABLE")
