"""One device: opened when used, closed when done, and never its neighbours' problem."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import Serve
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices import opening
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing, Driver, export
from jumpstarter_exporter.session.node import SessionNode
from jumpstarter_exporter.session.tree import Tree


@dataclass(kw_only=True, eq=False)
class Device(Driver):
    client: ClassVar[str] = "example.Client"

    name: str = ""
    events: list[str] = field(default_factory=list)
    error: Exception | None = None
    close_error: Exception | None = None
    opening: trio.Event | None = None
    closing: trio.Event | None = None

    async def open(self) -> None:
        self.events.append(f"open {self.name}")
        if self.opening is not None:
            await self.opening.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.events.append(f"close {self.name}")
        if self.closing is not None:
            await self.closing.wait()
        if self.close_error is not None:
            raise self.close_error


@asynccontextmanager
async def living(root: Driver) -> AsyncIterator[Tree]:
    tree = Tree(root)
    async with trio.open_nursery() as nursery:
        tree.attach(nursery)
        yield tree
        await tree.close()


def family() -> tuple[Device, Device, Device, list[str]]:
    events: list[str] = []
    one, two = Device(name="one", events=events), Device(name="two", events=events)
    return Device(name="root", events=events, children={"one": one, "two": two}), one, two, events


def node(tree: Tree, path: str) -> SessionNode:
    return next(node for node in tree.nodes if node.path == path)


async def test_parents_open_first_and_close_last_and_unused_devices_stay_closed() -> None:
    root, _, _, events = family()
    async with living(root) as tree:
        assert events == []
        await node(tree, "one").open()
        await node(tree, "one").open()
        assert events == ["open root", "open one"]
        assert node(tree, "one").is_open
        assert not node(tree, "two").is_open
    assert events == ["open root", "open one", "close one", "close root"]
    assert node(tree, "one").lifecycle.reason == "not in use"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeviceMissing("unplugged; plug it in"), State.MISSING),
        (DeviceFailed("burnt; replace it"), State.FAILED),
        (OSError("no such port"), State.FAILED),
        (ZeroDivisionError("a bug"), State.FAILED),
        (ExceptionGroup("tasks", [DeviceMissing("unplugged; plug it in")]), State.MISSING),
    ],
)
async def test_a_device_that_does_not_open_has_a_reason_and_tries_again(
    error: Exception, state: State
) -> None:
    root, one, _, events = family()
    one.error = error
    plain = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    async with living(root) as tree:
        broken = node(tree, "one")
        for _ in range(2):
            with pytest.raises(type(plain), match=str(plain)):
                await broken.open()
            assert (broken.lifecycle.state, broken.lifecycle.reason) == (state, str(plain))
        await node(tree, "two").open()
        assert node(tree, "two").lifecycle.state is State.READY
        one.error = None
        await broken.open()
        assert (broken.lifecycle.state, broken.lifecycle.reason) == (State.READY, "")
    # Every open, also one that failed, has its close.
    assert [event for event in events if event.endswith("one")] == ["open one", "close one"] * 3


async def test_a_background_task_that_fails_closes_the_device_and_the_next_use_opens_it_again() -> None:
    root, one, _, events = family()

    async def crash() -> None:
        raise OSError("the cable came out")

    async with living(root) as tree:
        broken = node(tree, "one")
        await broken.open()
        await node(tree, "two").open()
        one.nursery.start_soon(crash)
        await trio.testing.wait_all_tasks_blocked()
        assert (broken.lifecycle.state, broken.lifecycle.reason) == (State.FAILED, "the cable came out")
        assert not broken.is_open
        assert node(tree, "two").is_open
        await broken.open()
        assert broken.lifecycle.state is State.READY
    assert events.count("open one") == events.count("close one") == 2


async def test_a_parent_that_fails_closes_its_children_before_itself() -> None:
    root, _, _, events = family()

    async def crash() -> None:
        raise OSError("the hub is gone")

    async with living(root) as tree:
        await node(tree, "one").open()
        root.nursery.start_soon(crash)
        await trio.testing.wait_all_tasks_blocked()
        assert events[-2:] == ["close one", "close root"]
        await node(tree, "one").open()
        assert events[-2:] == ["open root", "open one"]


async def test_a_device_that_says_it_failed_is_closed_and_opened_by_its_next_use() -> None:
    root, one, _, events = family()
    async with living(root) as tree:
        await node(tree, "one").open()
        one.failed("it does not answer")
        assert not node(tree, "one").is_open
        await node(tree, "one").open()
        assert events[-2:] == ["close one", "open one"]


async def test_a_device_that_says_it_is_missing_stays_open() -> None:
    root, one, _, _ = family()
    async with living(root) as tree:
        await node(tree, "one").open()
        one.missing("unplugged")
        assert node(tree, "one").is_open
        one.ready()
        assert node(tree, "one").lifecycle.state is State.READY


async def test_two_first_users_share_one_open() -> None:
    root, one, _, events = family()
    one.opening = trio.Event()
    async with living(root) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node(tree, "one").open)
            nursery.start_soon(node(tree, "one").open)
            await trio.testing.wait_all_tasks_blocked()
            assert node(tree, "one").lifecycle.state is State.STARTING
            one.opening.set()
        assert events.count("open one") == 1


async def test_a_cancelled_open_closes_again_and_a_second_user_opens_anew() -> None:
    root, one, _, events = family()
    one.opening = trio.Event()
    impatient = trio.CancelScope()

    async def give_up(device: SessionNode) -> None:
        with impatient:
            await device.open()

    async with living(root) as tree, trio.open_nursery() as nursery:
        device = node(tree, "one")
        nursery.start_soon(give_up, device)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(device.open)
        impatient.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert events == ["open root", "open one", "close one", "open one"]
        one.opening.set()
        await trio.testing.wait_all_tasks_blocked()
        assert device.lifecycle.state is State.READY


async def test_an_open_without_end_fails(autojump_clock: trio.testing.MockClock) -> None:
    root, one, _, events = family()
    one.opening = trio.Event()
    async with living(root) as tree:
        with pytest.raises(DeviceFailed, match="one did not open within 60 s"):
            await node(tree, "one").open()
        assert events[-1] == "close one"


async def test_a_close_without_end_is_left_and_the_others_close(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    root, one, _, events = family()
    one.closing = trio.Event()
    async with living(root) as tree:
        await node(tree, "one").open()
        await node(tree, "two").open()
        started = trio.current_time()
    assert trio.current_time() - started == opening.CLOSE_SECONDS
    assert set(events[-3:]) == {"close one", "close two", "close root"}
    assert "one did not close within" in caplog.text


async def test_a_close_that_fails_keeps_no_other_from_closing(caplog: pytest.LogCaptureFixture) -> None:
    root, one, _, events = family()
    one.close_error = OSError("still busy")
    async with living(root) as tree:
        await node(tree, "one").open()
        await node(tree, "two").open()
    assert {"close one", "close two", "close root"} <= set(events)
    assert "closing one failed: still busy" in caplog.text


async def test_devices_close_when_their_session_is_cancelled() -> None:
    root, one, _, events = family()

    @asynccontextmanager
    async def cancelled() -> AsyncIterator[Tree]:
        tree = Tree(root)
        async with trio.open_nursery() as nursery:
            tree.attach(nursery)
            yield tree
            nursery.cancel_scope.cancel()

    async with cancelled() as tree:
        await node(tree, "one").open()
    assert events[-2:] == ["close one", "close root"]
    with pytest.raises(JumpstarterUsageError):
        _ = one.nursery


async def test_what_somebody_opens_while_its_session_ends_does_not_keep_it_from_ending() -> None:
    root, _, _, events = family()
    root.closing = may_close = trio.Event()

    async def open_late(late: SessionNode) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert events[-1] == "close root"
        nursery.start_soon(let_it_close)
        with pytest.raises(JumpstarterUsageError, match="inside of its session"):
            await late.open()

    async def let_it_close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        may_close.set()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, living(root) as tree:
            await node(tree, "one").open()
            nursery.start_soon(open_late, node(tree, "two"))
    assert "open two" not in events


async def test_a_driver_may_open_its_child_once_it_is_open() -> None:
    root, one, _, events = family()
    async with living(root) as tree:
        await tree.root.open()
        await one.ensure_open()
        assert events == ["open root", "open one"]


async def test_a_driver_alone_cannot_be_opened() -> None:
    with pytest.raises(JumpstarterUsageError, match="inside of a session"):
        await Device().ensure_open()
    with pytest.raises(JumpstarterUsageError, match="inside of its session"):
        await Tree(Device()).root.open()


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)])
async def test_a_driver_that_does_not_let_go_of_its_nursery_keeps_nobody_from_closing(
    serve: Serve, error: BaseException
) -> None:
    @dataclass(kw_only=True, eq=False)
    class Clinging(Driver):
        client: ClassVar[str] = "example.Client"

        def attach(self, nursery: trio.Nursery | None) -> None:
            super().attach(nursery)
            if nursery is None:
                raise error

        @export
        async def on(self) -> str:
            return "on"

    with trio.fail_after(30):
        async with serve(Composite(children={"one": Clinging(), "two": Clinging()})) as user:
            assert await user.call("one", "on") == "on"
            (node,) = [node for node in user.session.tree.nodes if node.path == "one"]
            await node.shut()
            assert await user.call("two", "on") == "on"
            assert await user.call("one", "on") == "on"
