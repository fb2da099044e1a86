"""Which router carries whose streams."""

from __future__ import annotations

import pytest
from jumpstarter_proto.remote import EndpointError
from jumpstarter_proto.rpc import RpcError

from jumpstarter_controller.services.routers import Router, Routers


def chosen(routers: Routers, labels: dict[str, str]) -> set[str]:
    return {routers.choose(labels, 60, {})[0] for _ in range(10)}


def lab(*texts: str) -> Routers:
    return Routers([Router.parse(text) for text in texts], lambda *_: "token")


def test_equals_take_turns() -> None:
    assert chosen(lab("one:1", "two:1"), {}) == {"one:1", "two:1"}


def test_all_labels_of_the_exporter_are_better_than_some_and_those_than_none() -> None:
    board = {"site": "munich", "board": "rpi4"}
    texts = ["plain:1", "site:1,site=munich", "both:1,site=munich,board=rpi4"]
    assert chosen(lab(*texts), board) == {"both:1"}
    assert chosen(lab(*texts[:2]), board) == {"site:1"}
    assert chosen(lab(*texts), {"board": "x86"}) == {"plain:1"}
    # As Jumpstarter's controller has it: a router may have more labels than the exporter.
    assert chosen(lab("more:1,site=munich,rack=3", "plain:1"), {"site": "munich"}) == {"more:1"}


def test_a_router_for_others_is_taken_where_there_is_no_other() -> None:
    assert chosen(lab("berlin:1,site=berlin"), {"site": "munich"}) == {"berlin:1"}


def test_one_that_is_away_is_not_chosen_unless_all_are() -> None:
    routers = lab("one:1,site=munich", "two:1")
    assert routers.lost("one:1")
    assert not routers.lost("one:1")
    assert chosen(routers, {"site": "munich"}) == {"two:1"}
    assert routers.lost("two:1")
    assert chosen(routers, {"site": "munich"}) == {"one:1"}
    assert routers.found("one:1")
    assert not routers.found("one:1")
    assert routers.lost("one:1")
    assert routers.found("one:1"), "it is news each time"
    assert chosen(routers, {}) == {"one:1"}


def test_a_token_is_asked_for_the_time_that_is_left() -> None:
    routers = Routers([Router("one:1")], lambda seconds, about: f"{seconds} {about}")
    assert routers.choose({}, 7.5, {}) == ("one:1", "7.5 {}")


def test_without_routers_the_caller_hears_what_to_do() -> None:
    with pytest.raises(RpcError, match="--with-router"):
        lab().choose({}, 60, {})


@pytest.mark.parametrize("text", ["", "host:port", "host:1,site", "host:1,site=a b", "host:1,=x"])
def test_what_is_not_a_router_is_a_sentence(text: str) -> None:
    with pytest.raises(EndpointError):
        Router.parse(text)
