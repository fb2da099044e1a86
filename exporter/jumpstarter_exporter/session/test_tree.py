"""The order of devices, and where refs lead."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.driver import DeviceMissing, Driver
from jumpstarter_exporter.session.tree import Tree, TreeError


def leaf() -> Driver:
    return Composite()


def listed(root: Driver) -> list[tuple[str, str, str | None]]:
    return [
        (entry.name, entry.node.path, None if entry.parent is None else entry.parent.path)
        for entry in Tree(root).entries
    ]


def test_depth_first_parents_before_children() -> None:
    root = Composite(children={"b": Composite(children={"x": leaf(), "y": leaf()}), "a": leaf()})
    assert listed(root) == [
        ("", "", None),
        ("b", "b", ""),
        ("x", "b.x", "b"),
        ("y", "b.y", "b"),
        ("a", "a", ""),
    ]


def test_a_ref_repeats_its_targets_subtree_under_its_own_name() -> None:
    root = Composite(
        children={
            "first": Proxy(ref="board"),
            "board": Composite(children={"power": leaf()}),
            "deep": Composite(children={"again": Proxy(ref="first.power")}),
        }
    )
    root.children["first"] = Proxy(ref="board")
    root.children["deep"].children["again"] = Proxy(ref="board.power")
    assert listed(root) == [
        ("", "", None),
        ("first", "board", ""),
        ("power", "board.power", "board"),
        ("board", "board", ""),
        ("power", "board.power", "board"),
        ("deep", "deep", ""),
        ("again", "board.power", "deep"),
    ]
    assert len(Tree(root).nodes) == 4


def test_a_ref_may_lead_to_a_ref() -> None:
    root = Composite(children={"a": Proxy(ref="b"), "b": Proxy(ref="c"), "c": leaf()})
    assert [path for _, path, _ in listed(root)] == ["", "c", "c", "c"]


@pytest.mark.parametrize(
    ("children", "path", "complaint"),
    [
        ({"a": Proxy(ref="nobody")}, "a", "'nobody' names nothing; there are a"),
        ({"a": Proxy(ref="b.c"), "b": Composite()}, "a", "that device has no children"),
        ({"a": Proxy(ref="a")}, "a", "leads back to itself"),
        ({"a": Proxy(ref="b"), "b": Proxy(ref="a")}, "a", "leads back to itself"),
        ({"a": Composite(children={"b": Proxy(ref="a")})}, "a.b", "contains it"),
    ],
)
def test_a_ref_to_nowhere_is_an_error(children: dict[str, Driver], path: str, complaint: str) -> None:
    with pytest.raises(TreeError, match=complaint) as caught:
        Tree(Composite(children=children))
    assert caught.value.path == path


def test_two_devices_with_one_uuid_are_an_error() -> None:
    uuid = uuid4()
    with pytest.raises(TreeError, match="a has the uuid"):
        Tree(Composite(children={"a": Composite(uuid=uuid), "b": Composite(uuid=uuid)}))


def test_a_device_is_found_by_its_uuid() -> None:
    child = leaf()
    tree = Tree(Composite(children={"a": child}))
    found = tree.find(str(child.uuid))
    assert found is not None
    assert found.driver is child
    assert tree.find(str(uuid4())) is None


class Recorded(Composite):
    """A device that is to be open without a user, and is not there at first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tried: list[float] = []

    @property
    def opens_at_start(self) -> bool:
        return True

    async def open(self) -> None:
        self.tried.append(trio.current_time())
        if len(self.tried) < 4:
            raise DeviceMissing("pulled out")


async def test_a_device_that_cannot_be_opened_at_start_is_missing_and_tried_again(
    autojump_clock: MockClock,
) -> None:
    device, neighbour = Recorded(), leaf()
    tree = Tree(Composite(children={"a": device, "b": neighbour}))
    node, other = tree.find(str(device.uuid)), tree.find(str(neighbour.uuid))
    assert node is not None
    assert other is not None
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        tree.attach(nursery)
        nursery.start_soon(tree.keep_open)
        await trio.sleep(1)
        assert (node.lifecycle.state, node.lifecycle.reason) == (State.MISSING, "pulled out")
        assert not other.is_open
        await trio.sleep(60)
        assert node.is_open
        assert [one.lifecycle.state for one in tree.nodes if one is node] == [State.READY]
        await tree.close()
        nursery.cancel_scope.cancel()
    assert [round(time - begin) for time in device.tried[:4]] == [0, 2, 6, 14]
