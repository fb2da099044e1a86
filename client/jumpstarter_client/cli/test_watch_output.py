"""What `--watch` prints for what has changed, and for time that passes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest

from jumpstarter_client.cli.lease_list_watch import WatchedLease, lease_changes
from jumpstarter_client.cli.watch_output import Watched, _Lines, _Screen
from jumpstarter_client.times import format_time


def lease(name: str, *, ends: bool = False, waits: bool = False) -> pb.Lease:
    one = pb.Lease(name=f"namespaces/lab/leases/{name}", client="namespaces/lab/clients/ann")
    one.duration.FromSeconds(3600)
    if waits:
        one.conditions.add(type="Pending", status="True", message="all are leased")
        return one
    one.exporter = "namespaces/lab/exporters/desk"
    one.effective_begin_time.FromSeconds(2_000_000_000)
    one.effective_duration.FromSeconds(60)
    one.conditions.add(type="Ready", status="False" if ends else "True", message="it was released")
    if ends:
        one.effective_end_time.FromSeconds(2_000_000_100)
    return one


def told(before: list[WatchedLease] | None, found: list[WatchedLease]) -> list[str]:
    return [sentence for sentence, _ in lease_changes(before, found)]


def test_leases_are_told_of_when_they_are_not_as_they_were() -> None:
    ready, waits = WatchedLease(lease("x")), WatchedLease(lease("y", waits=True), 2)
    said = [
        f"x of ann is ready: desk is leased, until {format_time(2_000_003_600)}",
        "y of ann is waiting: all are leased",
    ]
    assert told(None, [ready, waits]) == said
    assert told([ready, waits], [WatchedLease(lease("x")), WatchedLease(lease("y", waits=True), 2)]) == []
    assert told([ready, waits], [ready, WatchedLease(lease("y", waits=True), 1)]) == said[1:], (
        "it has moved up"
    )
    ended = WatchedLease(lease("x", ends=True))
    assert told([ready, waits], [ended, waits]) == ["x of ann has ended: it was released"]
    assert told([ended, waits], [waits]) == [], "that was said"
    (gone,) = lease_changes([ready, waits], [ready])
    assert gone[0] == "y is not ann's any more"
    assert (gone[1]["name"], gone[1]["state"], gone[1]["reason"]) == ("y", "ended", "")
    assert gone[1]["queue_position"] is None
    ((_, data),) = lease_changes(None, [waits])
    assert (data["name"], data["state"], data["queue_position"]) == ("y", "waiting", 2)


def test_a_lease_is_shown_with_the_time_that_has_passed_since_it_was_told_of() -> None:
    one = WatchedLease(lease("x"))
    old = WatchedLease(lease("x"), received_at=one.received_at - 100)
    assert one.now.effective_duration.seconds == 60
    assert 160 <= old.now.effective_duration.seconds < 200
    assert old.record.effective_duration.seconds == 60
    over = WatchedLease(lease("x", ends=True), received_at=one.received_at - 100)
    assert over.now.effective_duration.seconds == 60


def changed(before: list[str] | None, found: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    for one in found:
        if one not in (before or ()):
            yield f"{one} is new", {"name": one}


async def ask(_: object) -> list[str]:
    return []


def watched() -> Watched[str]:
    return Watched(WatchRequest(), lambda _: [], ask, changed, "\n".join)


def lines(text: str) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]


def test_a_pipe_gets_a_line_for_each_change_and_is_told_once_that_the_controller_is_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = _Lines(watched(), as_json=False)
    before = show.has_shown
    show.show(["a", "b"])
    assert (before, show.has_shown) == (False, True)
    show.tick()
    show.away("refused")
    show.away("refused")
    show.show(["b", "c"])
    show.away("refused")
    out, err = capsys.readouterr()
    assert lines(out) == ["a is new", "b is new", "c is new"]
    away = "the controller is unreachable (refused); waiting for it"
    assert lines(err) == [away, "the controller is reachable again", away]
    show = _Lines(watched(), as_json=True)
    show.show(["a"])
    assert json.loads(capsys.readouterr().out) == {"name": "a"}


def test_a_screen_is_drawn_again_where_time_has_changed_something(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "5")
    left = ["10m"]
    show = _Screen(Watched(WatchRequest(), lambda _: [], ask, changed, lambda _: left[0]))
    show.tick()
    assert (show.has_shown, capsys.readouterr().out) == (False, "")
    show.show(["a"])
    assert show.has_shown
    assert "10m" in capsys.readouterr().out
    show.tick()
    assert capsys.readouterr().out == ""
    left[0] = "9m"
    show.tick()
    out = capsys.readouterr().out
    assert "9m" in out
    assert "\x1b[2A" in out, "over the two lines from before"
    left[0] = "\n".join(f"row {number}" for number in range(9))
    show.show(["a"])
    out = capsys.readouterr().out
    assert ("row 2" in out, "row 3" in out, "Ctrl-C ends this" in out) == (True, False, True)
    show.away("refused")
    assert "the controller is unreachable (refused)" in capsys.readouterr().out
