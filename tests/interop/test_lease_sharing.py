"""One board for several people: the queue, races, transfer, extension and expiry, in every mix of both clients."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from jumpstarter_proto.lab.v1 import lab_pb2

from tests.interop.lab import Lab, Person

MIXES = [(False, False), (False, True), (True, False), (True, True)]


def mixed(ann: bool, bob: bool) -> str:
    words = {False: "ours", True: "theirs"}
    return f"{words[ann]} first, then {words[bob]}"


@pytest.fixture(scope="module")
def people(lab: Lab) -> tuple[Person, Person]:
    lab.exporter("one", ours=True)
    return lab.person("ann"), lab.person("bob")


def finish(shell: subprocess.Popen[str], code: int = 0) -> str:
    """What a shell said until its end."""
    said, _ = shell.communicate(timeout=100)
    assert shell.returncode == code, said
    return said


def until_said(shell: subprocess.Popen[str], words: str) -> str:
    """What a shell has said when it has said these; 0.9's looks only now and then why it waits."""
    assert shell.stdout is not None
    said = ""
    for line in shell.stdout:
        said += line
        if words in re.sub(r"\s+", " ", said):
            return said
    raise AssertionError(said)


@pytest.mark.parametrize("theirs", MIXES, ids=lambda one: mixed(*one))
def test_two_race_for_one_board(lab: Lab, people: tuple[Person, Person], theirs: tuple[bool, bool]) -> None:
    """Neither is refused, and never are both inside."""
    held = lab.home / "held"
    # mkdir fails if the other is inside.
    script = f"mkdir {held} && j power on && rmdir {held}"
    first, second = people
    with (
        first.shell("-l", "board=rpi4", script=script, theirs=theirs[0]) as one,
        second.shell("-l", "board=rpi4", script=script, theirs=theirs[1]) as two,
    ):
        finish(one)
        finish(two)
    assert lab.leases() == []


@pytest.fixture
def drained(lab: Lab) -> Iterator[None]:
    """No lease begins until the block is left, whatever happens in it."""
    lab.administrate("DrainLab", lab_pb2.DrainLabRequest(reason="new kernel"))
    yield
    lab.administrate("ResumeLab", lab_pb2.ResumeLabRequest())


@pytest.mark.parametrize("theirs", [False, True], ids=["ours", "theirs"])
def test_in_a_lab_that_is_drained_one_waits_and_hears_why(
    lab: Lab, people: tuple[Person, Person], drained: None, theirs: bool
) -> None:
    with people[0].shell("-l", "board=rpi4", script="j power on", theirs=theirs) as shell:
        said = until_said(shell, "the lab is drained (new kernel)")
        [waiting] = lab.leases()
        assert not waiting.exporter, said
        assert "the lab is drained (new kernel)" in waiting.conditions[-1].message
        lab.administrate("ResumeLab", lab_pb2.ResumeLabRequest())
        finish(shell)


@pytest.mark.parametrize("theirs", MIXES, ids=lambda one: mixed(*one))
def test_the_second_waits_in_the_queue(
    lab: Lab, people: tuple[Person, Person], theirs: tuple[bool, bool]
) -> None:
    go, inside = lab.home / "go", lab.home / "inside"
    go.unlink(missing_ok=True)
    inside.unlink(missing_ok=True)
    first, second = people
    script = f"touch {inside}; while ! test -e {go}; do sleep 0.1; done"
    with first.shell("-l", "board=rpi4", script=script, theirs=theirs[0]) as one:
        lab.until(inside.exists)
        with second.shell("-l", "board=rpi4", script=f"test -e {go}", theirs=theirs[1]) as two:
            lab.until(lambda: len(lab.leases()) == 2)
            [waiting] = [lease for lease in lab.leases() if not lease.exporter]
            assert waiting.client.endswith("/bob")
            assert waiting.conditions[-1].reason == "NotAvailable"
            go.touch()
            finish(one)
            said = finish(two)
    said = re.sub(r"\s+", " ", said)
    assert ("Waiting for lease: " if theirs[1] else "Waiting for a board: ") in said
    assert "next in the queue" in said
