"""Clients that wait for a lease, use one or watch the lab are notified by the controller and do not poll."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.e2e.test_metrics import metrics
from tests.interop import exporters

CLIENT = "jumpstarter.client.v1.ClientService/"


class Watched(Lab):
    """A lab that counts what it is asked."""

    metrics_port = 0

    def requests(self) -> dict[str, float]:
        """How often each method was called, by this controller's counting."""
        found = metrics(self.metrics_port)
        pattern = re.compile(r"jumpstarter_requests_total\{method=(.*)\}")
        return {match[1]: count for name, count in found.items() if (match := pattern.fullmatch(name))}

    def watches(self) -> float:
        return metrics(self.metrics_port)["jumpstarter_watches"]


@pytest.fixture
def lab() -> Iterator[Watched]:
    port = exporters.free_port()
    with Watched.opened("--metrics-listen", f"127.0.0.1:{port}") as lab:
        lab.metrics_port = port
        lab.exporter("one")
        yield lab


@pytest.fixture
def ann(lab: Watched) -> Path:
    return lab.client("ann")


@pytest.fixture
def bob(lab: Watched) -> Path:
    return lab.client("bob")


def made(lab: Lab, client: Path, *words: str) -> str:
    return lab.ok("lease", "create", "-n", "one", *words, "-o", "name", "--client", client).strip()


def test_who_waits_asks_nothing_and_gets_the_board_from_a_restarted_controller(
    lab: Watched, ann: Path, bob: Path
) -> None:
    held = made(lab, ann)
    waiting = Reader(lab.start("lease", "create", "-n", "one", "--lease-id", "bobs", "--client", bob))
    lab.until(lambda: "next in the queue" in waiting.text["err"])
    third = Reader(lab.start("lease", "create", "-n", "one", "--lease-id", "third", "--client", ann))
    lab.until(lambda: "number 2 in the queue" in third.text["err"])
    lab.until(lambda: lab.watches() == 2)
    asked = lab.requests()
    assert asked[f"{CLIENT}GetLease"] == 1, "the one is of who has got it and ends"
    lab.ok("lease", "release", "bobs", "--client", bob)
    lab.until(lambda: "next in the queue" in third.text["err"])
    assert waiting.end()[0] != 0, "it hears that somebody has released its lease"
    assert "has ended: it was released" in waiting.text["err"]
    assert lab.requests()[f"{CLIENT}GetLease"] == 1
    lab.kill_controller()
    lab.until(lambda: "the controller is unreachable" in third.text["err"])
    lab.start_controller()
    lab.until(lambda: lab.watches() == 1)
    lab.ok("lease", "release", held, "--client", ann)
    assert third.end()[:2] == (0, "third: one is yours; use it with: jumpstarter shell --lease third\n")


def test_who_has_a_board_asks_nothing_and_hears_of_its_end_from_a_restarted_controller(
    lab: Watched, ann: Path
) -> None:
    script = "echo $JMP_LEASE; exec sleep 600"
    holder = Reader(lab.start("shell", "-n", "one", "--client", ann, "--", "sh", "-c", script))
    lab.until(lambda: holder.text["out"].endswith("\n"))
    name = holder.text["out"].split()[-1]
    lab.until(lambda: lab.watches() == 1)
    assert f"{CLIENT}GetLease" not in lab.requests(), "it has dialled, which says that it knows its board"
    lab.ok("lease", "extend", name, "2h", "--client", ann)
    lab.until(lambda: "was extended" in holder.text["err"])
    lab.kill_controller()
    lab.start_controller()
    lab.until(lambda: lab.watches() == 1)
    lab.ok("lease", "release", name, "--client", ann)
    code, _, said = holder.end()
    assert (code, "the lease has ended: it was released" in said) == (8, True), said


def test_leases_are_watched_in_a_pipe_through_a_restart_of_the_controller(
    lab: Watched, ann: Path, bob: Path
) -> None:
    everybody = Reader(lab.start("lease", "list", "-A", "--watch", "--client", ann))
    own = Reader(lab.start("lease", "list", "--watch", "-o", "json", "--client", bob))
    lab.until(lambda: lab.watches() == 2)
    held = made(lab, ann)
    lab.until(lambda: f"{held} of ann is ready: one is leased, until 20" in everybody.text["out"])
    lab.ok("lease", "create", "-n", "one", "--lease-id", "bobs", "--no-wait", "--client", bob)
    lab.until(lambda: "bobs of bob is waiting: " in everybody.text["out"])
    lab.until(lambda: "next in the queue" in everybody.text["out"])
    lab.until(lambda: '"waiting"' in own.text["out"])
    lab.kill_controller()
    lab.until(lambda: "the controller is unreachable" in everybody.text["err"])
    lab.start_controller()
    lab.until(lambda: "the controller is reachable again" in everybody.text["err"])
    lab.ok("lease", "release", held, "--client", ann)
    lab.until(lambda: f"{held} of ann has ended: it was released\n" in everybody.text["out"])
    lab.until(lambda: "bobs of bob is ready: one is leased" in everybody.text["out"])
    lab.until(lambda: '"ready"' in own.text["out"])  # what changes meanwhile is told as one
    lab.ok("lease", "release", "bobs", "--client", bob)
    lab.until(lambda: "bobs of bob has ended" in everybody.text["out"])
    lab.until(lambda: '"ended"' in own.text["out"])
    states = [json.loads(line) for line in own.text["out"].splitlines()]
    assert {one["name"] for one in states} == {"bobs"}, "the others are not his"
    found = [one["state"] for one in states]
    assert [state for state, after in zip(found, [*found[1:], ""], strict=True) if state != after] == [
        "waiting",
        "ready",
        "ended",
    ]
    assert states[-1]["reason"] == "it was released"
    assert (states[0]["state"], states[0]["queue_position"]) == ("waiting", 1)
    assert {one["queue_position"] for one in states if one["state"] != "waiting"} == {None}
    for one in (everybody, own):
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(timeout=LIMIT) == 130
    assert f"{CLIENT}ListLeases" not in lab.requests()


def test_a_reader_who_sleeps_keeps_nobody_waiting_and_is_told_how_it_is_then(
    lab: Watched, ann: Path, bob: Path
) -> None:
    watch = Reader(lab.start("lease", "list", "-A", "--watch", "--client", ann))
    lab.until(lambda: lab.watches() == 1)
    watch.process.send_signal(signal.SIGSTOP)
    for number in range(3):
        name = made(lab, bob, "--lease-id", f"short-{number}")
        lab.ok("lease", "release", name, "--client", bob)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
    made(lab, bob, "--lease-id", "last")
    watch.process.send_signal(signal.SIGCONT)
    lab.until(lambda: "last of bob is ready" in watch.text["out"])
    lab.ok("lease", "release", "last", "--client", bob)
    lab.until(lambda: "last of bob has ended" in watch.text["out"])


def test_leases_on_a_terminal_are_one_table_that_is_drawn_again(lab: Watched, ann: Path) -> None:
    watch = pexpect.spawn(
        str(exporters.scripts() / "jumpstarter"),
        ["lease", "list", "--watch", "--client", str(ann)],
        env={**os.environ, **lab.environment, "TERM": "xterm"},
        encoding="utf-8",
        dimensions=(24, 160),
        timeout=LIMIT,
    )
    watch.expect("Ctrl-C ends this")
    held = made(lab, ann)
    watch.expect(f"{held[-8:]} .*ann +one +ready")
    lab.ok("lease", "create", "-n", "one", "--lease-id", "second", "--no-wait", "--client", ann)
    watch.expect("second .*waiting: .*next in the queue")
    lab.ok("lease", "release", held, "--client", ann)
    watch.expect("second .*ann +one +ready")
    watch.expect("Ctrl-C ends this")
    watch.sendintr()
    watch.expect(pexpect.EOF)
    watch.close()
    assert watch.exitstatus == 130
    assert "Traceback" not in (watch.before or "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("-a",), "remove -a"), (("-o", "yaml"), "--watch supports -o json only"), (("-l", "a in b"), "a in b")],
)
def test_what_cannot_be_watched_is_one_sentence(
    lab: Watched, ann: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, said = lab.refused("lease", "list", "--watch", *words, "--client", ann)
    assert sentence in said
    assert (code, said.count("\n")) == (2, 1), said
