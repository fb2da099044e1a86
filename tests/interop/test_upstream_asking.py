"""0.9's controller has no Watch: our client polls it, and users hardly notice a difference."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.lab import LIMIT, Reader
from tests.interop.lab import Person
from tests.interop.upstream_lab import UpstreamLab
from tests.support.peers import Environment
from tests.support.programs import clock_rate


@pytest.fixture(scope="module")
def lab(upstream: Environment) -> Iterator[UpstreamLab]:
    with UpstreamLab.opened(upstream=upstream) as opened:
        with clock_rate(opened.RATE):
            opened.exporter("one", label="board=one", wait=False)
        opened.until(lambda: opened.upstream_controller.exporters["one"].status == "AVAILABLE")
        yield opened


@contextmanager
def watching(lab: UpstreamLab, person: Person, *words: str) -> Iterator[Reader]:
    """A command that is interrupted in the end."""
    watch = Reader(lab.start(*words, "--client", person.file))
    try:
        yield watch
    except AssertionError:
        raise AssertionError(watch.text) from None
    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(timeout=LIMIT) == 130, watch.text


def test_a_wait_and_two_watches(lab: UpstreamLab) -> None:
    ann, bob = lab.person("ann"), lab.person("bob")
    with (
        watching(lab, ann, "exporters", "--watch") as boards,
        watching(lab, ann, "lease", "list", "-A", "--watch") as leases,
    ):
        lab.until(lambda: "one is free" in boards.text["out"])
        held = bob.ours("lease", "create", "-l", "board=one", "-o", "name").stdout.strip()
        waiting = Reader(lab.start("lease", "create", "-l", "board=one", "--client", ann.file))
        lab.until(lambda: "Waiting for a board: " in waiting.text["err"])
        lab.until(lambda: f"one is leased: {bob.name}" in boards.text["out"])
        lab.until(lambda: f"{held} of {bob.name} is ready" in leases.text["out"])
        bob.ours("lease", "release", held)
        code, said, _ = waiting.end()
        assert (code, ": one is yours; use it with: " in said) == (0, True), said
        lab.until(lambda: f"one is leased: {ann.name}" in boards.text["out"])
        lab.until(lambda: f"{held} is not {bob.name}'s any more" in leases.text["out"])
        ann.ours("lease", "release", said.partition(":")[0])
    for one in (boards, leases):
        assert "is away" not in one.text["err"], one.text
