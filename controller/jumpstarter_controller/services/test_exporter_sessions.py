"""Two processes with one exporter's identity, and reports that arrive late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.lab import Key
from jumpstarter_controller.services.exporter_sessions import (
    INSTANCE,
    RETURN_SECONDS,
    SEQUENCE,
    ExporterSessions,
)

ONE = Key("lab", "one")


@dataclass
class Header:
    """As much of a call as counts here."""

    instance: str | None
    sequence: str | None = None
    peer: str = "ipv4:192.0.2.1:1"

    def header(self, name: str) -> str | None:
        return {INSTANCE: self.instance, SEQUENCE: self.sequence}[name]


def call(
    instance: str | None, sequence: str | None = None, peer: str = "ipv4:192.0.2.1:1"
) -> ServerCall[Any, Any]:
    return cast("ServerCall[Any, Any]", Header(instance, sequence, peer))


async def test_the_process_that_is_served_stays_so_and_hears_of_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    instances = ExporterSessions()
    disputed = instances.opened(ONE, call("a"))
    instances.admit(ONE, call("a"))
    instances.admit(Key("lab", "two"), call("b"))
    with pytest.raises(RpcError, match="served by another process already, at ipv4") as caught:
        instances.admit(ONE, call("b"))
    assert caught.value.code is StatusCode.ALREADY_EXISTS
    assert disputed.is_set()
    assert "uses the identity of one" in instances.dispute(ONE).details
    instances.closed(ONE, call("a"))
    with pytest.raises(RpcError):
        instances.admit(ONE, call("b"))
    await trio.sleep(RETURN_SECONDS / 2)
    assert not instances.opened(ONE, call("a")).is_set(), "it is back, and has been told"
    await trio.sleep(RETURN_SECONDS)
    with pytest.raises(RpcError):
        instances.admit(ONE, call("b"))


async def test_each_of_two_hears_where_the_other_is() -> None:
    instances = ExporterSessions()
    instances.opened(ONE, call("a", peer="before"))
    instances.opened(ONE, call("a", peer="here"))
    with pytest.raises(RpcError, match="served by another process already, at here; stop"):
        instances.admit(ONE, call("b", peer="there"))
    assert instances.dispute(ONE).details.startswith("another process, at there, uses the identity of")
    assert instances.is_news(ONE, call("a", "9" * 19)), "no number of ours is so long"


async def test_a_process_that_has_gone_makes_room_at_once() -> None:
    instances = ExporterSessions()
    instances.opened(ONE, call("a"))
    instances.opened(ONE, call("a"))
    instances.closed(ONE, call("a"))
    with pytest.raises(RpcError):
        instances.admit(ONE, call("b"))
    instances.closed(ONE, call("a"))
    instances.admit(ONE, call("b"))
    instances.opened(ONE, call("b"))
    with pytest.raises(RpcError):
        instances.admit(ONE, call("a"))


async def test_exporters_that_do_not_say_which_process_they_are_are_let_in() -> None:
    instances = ExporterSessions()
    instances.opened(ONE, call("a"))
    instances.admit(ONE, call(None))
    assert instances.is_news(ONE, call(None, "7"))
    assert instances.is_news(ONE, call("a", "no number"))


@given(st.permutations(range(7, 15)))
def test_an_old_status_changes_nothing_after_a_newer_one(order: list[int]) -> None:
    instances = ExporterSessions()
    taken = [number for number in order if instances.is_news(ONE, call("a", str(number)))]
    assert taken == sorted(taken)
    assert taken[-1] == 14
    assert instances.is_news(ONE, call("b", "1")), "another process counts anew"
