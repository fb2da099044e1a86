"""A watch as it is told, without a server: nothing is lost or told twice, whatever breaks in between."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_controller.lab import Client, Key
from jumpstarter_controller.store.contract import StoreEvent
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.informer import (
    MAX_LINE_BYTES,
    MAX_PAUSE_SECONDS,
    Informer,
    InformerState,
)


def event(word: str, item: Object) -> StoreEvent:
    assert word in {"ADDED", "MODIFIED", "DELETED"}
    return StoreEvent(
        (Client, Key("lab", item["metadata"]["name"])), int(item["metadata"]["resourceVersion"]), None
    )


def line(word: str, version: int, **more: Any) -> bytes:
    item = {"metadata": {"name": "one", "resourceVersion": str(version)}} | more
    return json.dumps({"type": word, "object": item}).encode() + b"\n"


def error(code: int, message: str = "") -> bytes:
    return json.dumps({"type": "ERROR", "object": {"code": code, "message": message}}).encode() + b"\n"


def told(informer: Informer, *pieces: bytes) -> list[int]:
    return [one.revision for piece in pieces for one in informer.feed(piece)]


@given(st.lists(st.sampled_from(["event", "bookmark"]), max_size=30), st.randoms(use_true_random=False))
def test_whatever_is_cut_and_wherever_a_watch_breaks_each_event_is_told_once(
    words: list[str], chance: random.Random
) -> None:
    """The server tells what is later than the version that it is asked for."""
    lines = [
        (version, line("MODIFIED" if word == "event" else "BOOKMARK", version))
        for version, word in enumerate(words, 11)
    ]
    informer, found = Informer(10, event), []
    while True:
        since = int(informer.query()["resourceVersion"])
        data = b"".join(one for version, one in lines if version > since)
        breaks = chance.randrange(len(data) + 1) if data and chance.random() < 0.7 else None
        data = data[:breaks]
        while data:
            size = chance.randint(1, 80)
            found += told(informer, data[:size])
            data = data[size:]
        if breaks is None:
            break
        informer.failed("cut")
    assert found == [version for version, word in enumerate(words, 11) if word == "event"]
    assert informer.version == 10 + len(words)


def test_a_version_that_the_server_has_forgotten_makes_it_list_anew() -> None:
    informer = Informer(10, event)
    assert told(informer, line("ADDED", 11) + error(410) + line("ADDED", 12)) == [11]
    assert informer.state is InformerState.BEHIND
    other = Informer(10, event)
    other.refused(410, "gone")
    assert other.state is InformerState.BEHIND


@pytest.mark.parametrize("code", [429, 500, 504])
def test_a_server_that_is_busy_is_asked_again_and_spoken_of_when_it_stays_so(code: int) -> None:
    informer = Informer(10, event)
    assert told(informer, error(code, "storage is reinitializing")) == []
    assert informer.trouble == ""
    assert informer.ended() > 0
    assert informer.refused(code, "still") > 0
    assert informer.trouble == "still"
    assert informer.state is InformerState.WATCHING
    informer.opened()
    assert informer.trouble == ""


def test_pauses_grow_to_their_bound_and_begin_anew_when_there_was_something() -> None:
    informer = Informer(10, event)
    pauses = [informer.failed("no") for _ in range(20)]
    assert pauses[0] < 0.2
    assert MAX_PAUSE_SECONDS * 0.7 < pauses[-1] <= MAX_PAUSE_SECONDS * 1.2
    informer.query()
    told(informer, line("BOOKMARK", 11))
    assert informer.ended() == 0
    assert informer.failed("no") < 0.2


def test_a_server_says_when_to_come_again_within_bounds() -> None:
    informer = Informer(10, event)
    assert 0.7 < informer.refused(429, "busy", 1.0) < 1.3
    assert informer.refused(429, "busy", 3600.0) <= MAX_PAUSE_SECONDS * 1.2


def test_a_watch_that_ends_without_a_word_is_not_asked_for_in_a_loop() -> None:
    informer = Informer(10, event)
    informer.query()
    assert informer.ended() > 0


@pytest.mark.parametrize(
    "data",
    [
        b"<html>\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {}}\n',
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_what_is_not_a_watch_is_rejected(data: bytes) -> None:
    with pytest.raises(ValueError):
        told(Informer(10, event), data)
