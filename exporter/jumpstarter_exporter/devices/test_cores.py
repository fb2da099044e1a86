"""Cores: opened before their drivers, closed with the exporter, set back between sessions."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import RpcError

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import User
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.opening import CLOSE_SECONDS, HANDOVER_SECONDS
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing, Driver, export
from jumpstarter_exporter.session.session import Session

Users = Callable[[Session], AbstractAsyncContextManager[User]]
events: list[str] = []


class DeviceCore(Core["Device"]):
    """Says what happens to it."""

    errors: ClassVar[dict[str, Exception]] = {}
    """What it raises where, as often as it is there."""

    def say(self, what: str) -> None:
        events.append(f"{what} {self.path}")
        self.logger.info("core: %s", what)
        if what in self.errors:
            raise self.errors[what]

    @property
    def opens_at_start(self) -> bool:
        return self.config.early

    async def open(self) -> None:
        self.say("open")

    async def close(self) -> None:
        self.say("close")

    async def restore(self) -> None:
        self.say("restore")
        if self.config.hangs:
            await trio.sleep_forever()

    async def break_down(self) -> None:
        raise OSError("the cable came out")


@dataclass(kw_only=True, eq=False)
class Device(Driver):
    client: ClassVar[str] = "example.Client"
    core_of: ClassVar[type[DeviceCore]] = DeviceCore

    early: bool = False
    hangs: bool = False

    async def open(self) -> None:
        events.append(f"driver opens {self.tree_path}")

    async def close(self) -> None:
        events.append(f"driver closes {self.tree_path}")

    async def end_session(self) -> None:
        events.append(f"driver ends {self.tree_path}")

    @export
    async def use(self) -> None:
        self.logger.info("driver: use")


class PortCore(Core["PortDevice"]):
    """A port that one opener at a time can have, and that takes a second to be released."""

    holder: ClassVar[str] = ""

    @property
    def opens_at_start(self) -> bool:
        return True

    async def open(self) -> None:
        await trio.sleep(0.01)
        if PortCore.holder:
            raise DeviceBusy(f"the port is open in {PortCore.holder}; end that first")
        PortCore.holder = self.path

    async def close(self) -> None:
        if PortCore.holder == self.path:
            await trio.sleep(self.config.close_seconds)
            PortCore.holder = ""


@dataclass(kw_only=True, eq=False)
class PortDevice(Driver):
    client: ClassVar[str] = "example.Client"
    core_of: ClassVar[type[PortCore]] = PortCore

    close_seconds: float = 1.0


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    events.clear()
    monkeypatch.setattr(DeviceCore, "errors", {})
    monkeypatch.setattr(PortCore, "holder", "")


def board(**values: Any) -> BoardDevices:
    inner = Spec(Composite, children={"device": Spec(Device, values)})
    return Inventory().add("lab", Spec(Composite, children={"a": Spec(Device, children={"group": inner})}))


INNER = "a.group.device"


@asynccontextmanager
async def session(devices: BoardDevices, user: Users) -> AsyncIterator[User]:
    async with Session(devices) as made, user(made) as one:
        yield one


async def test_a_core_is_opened_once_for_all_sessions_and_set_back_after_those_that_used_it(
    user: Users,
) -> None:
    devices = board()
    async with managed_cores(devices):
        async with session(devices, user):
            pass
        assert events == []
        for _ in range(2):
            events.clear()
            async with session(devices, user) as one:
                await one.call(INNER, "use")
            assert [event for event in events if "driver" in event and INNER in event] == [
                f"driver opens {INNER}",
                f"driver ends {INNER}",
                f"driver closes {INNER}",
            ]
            assert events[-2:] == ["restore a", f"restore {INNER}"]
        assert "open a" not in events
        events.clear()
    # Those that depend on it first.
    assert events == [f"close {INNER}", "close a"]


async def test_a_core_is_open_before_its_driver_and_after_those_above(user: Users) -> None:
    devices = board()
    async with managed_cores(devices), session(devices, user) as one:
        await one.call(INNER, "use")
        opened = [event for event in events if event.startswith("open") or "opens" in event]
        assert opened.index("open a") < opened.index(f"open {INNER}") < opened.index(f"driver opens {INNER}")


async def test_cores_know_those_above_and_below(user: Users) -> None:
    devices = board()
    upper, lower = devices.slots["a"].core, devices.slots[INNER].core
    assert upper is not None
    assert lower is not None
    assert lower.core.above is upper.core
    assert upper.core.above is None
    assert upper.core.below == {}  # right below is a group, which has none
    assert (lower.core.path, lower.core.uuid) == (INNER, devices.slots[INNER].uuid)


async def test_a_core_that_breaks_down_fails_its_device_and_the_next_use_opens_both(user: Users) -> None:
    devices = board()
    slot = devices.slots[INNER]
    async with managed_cores(devices), session(devices, user) as one:
        await one.call(INNER, "use")
        assert slot.core is not None
        core = slot.core.core
        assert isinstance(core, DeviceCore)
        core.nursery.start_soon(core.break_down)
        await trio.testing.wait_all_tasks_blocked()
        assert (slot.state, slot.reason) == (State.FAILED, "the cable came out")
        events.clear()
        await one.call(INNER, "use")
        assert events == [f"driver closes {INNER}", f"open {INNER}", f"driver opens {INNER}"]
        assert slot.state is State.READY


async def test_a_core_without_hardware_is_missing_for_its_users(user: Users) -> None:
    devices = board()
    DeviceCore.errors["open"] = DeviceMissing("unplugged; plug it in")
    async with managed_cores(devices), session(devices, user) as one:
        with pytest.raises(RpcError, match="unplugged; plug it in"):
            await one.call(INNER, "use")
        states = [devices.slots["a"].state]
        DeviceCore.errors.clear()
        await one.call(INNER, "use")
        assert [*states, devices.slots["a"].state] == [State.MISSING, State.READY]


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_core_that_is_not_set_back_is_opened_anew_for_the_next_session(
    user: Users, autojump_clock: trio.testing.MockClock, hangs: bool
) -> None:
    devices = board(hangs=hangs)
    async with managed_cores(devices):
        if not hangs:
            DeviceCore.errors["restore"] = OSError("it does not answer")
        before = trio.current_time()
        async with session(devices, user) as one:
            await one.call(INNER, "use")
        assert trio.current_time() - before <= CLOSE_SECONDS * 2
        slot = devices.slots[INNER]
        assert slot.state is State.FAILED
        assert "it was not reset to its configuration" in slot.reason
        if hangs:
            return
        DeviceCore.errors.clear()
        events.clear()
        async with session(devices, user) as one:
            await one.call(INNER, "use")
        assert f"open {INNER}" in events


async def test_what_a_core_logs_is_in_no_sessions_log(user: Users, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    devices = board()
    async with managed_cores(devices), Session(devices) as made, user(made) as one:
        await one.call(INNER, "use")
        with made.log.reader(from_start=True) as entries:
            assert (await anext(entries)).message == "driver: use"
    assert "core: open" in caplog.text


async def test_a_core_that_wants_it_is_opened_without_a_user_and_looked_for_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    devices = board(early=True)
    DeviceCore.errors["open"] = DeviceMissing("pulled out")
    async with managed_cores(devices), trio.open_nursery() as nursery:
        nursery.start_soon(keeping_open, devices)
        await trio.sleep(5)
        assert devices.slots["a"].state is State.MISSING
        DeviceCore.errors.clear()
        await trio.sleep(30)
        assert devices.slots[INNER].core.is_open  # type: ignore[union-attr]
        assert devices.slots[INNER].state is State.READY
        nursery.cancel_scope.cancel()


async def test_a_device_that_is_replaced_closes_its_core_and_its_neighbours_keep_theirs(user: Users) -> None:
    devices = Inventory().add("lab", Spec(Composite, children={"a": Spec(Device), "b": Spec(Device)}))
    async with managed_cores(devices):
        async with session(devices, user) as one:
            await one.call("a", "use")
            await one.call("b", "use")
        events.clear()
        changed = {"a": Spec(Device, {"hangs": True}), "b": Spec(Device)}
        devices.replace(Spec(Composite, children=changed))
        await trio.testing.wait_all_tasks_blocked()
        assert events == ["close a"]
        async with session(devices, user) as one:
            await one.call("b", "use")
        assert events[1] == "driver opens b"


async def test_a_driver_made_by_hand_has_its_core_for_its_session(user: Users) -> None:
    async with Session(Device()) as made, user(made) as one:
        await one.call("", "use")
    assert events == ["open ", "driver opens ", "driver ends ", "driver closes ", "restore ", "close "]


async def test_what_is_unplugged_is_not_tried_and_is_opened_when_it_is_plugged_in(
    user: Users, autojump_clock: trio.testing.MockClock
) -> None:
    devices = board(early=True)
    slot = devices.slots[INNER]
    slot.unplugged("unplugged at 14:03:22")
    async with managed_cores(devices), trio.open_nursery() as nursery:
        nursery.start_soon(keeping_open, devices)
        async with session(devices, user) as one:
            with pytest.raises(RpcError, match=f"{INNER} is not there: unplugged at 14:03:22"):
                await one.call(INNER, "use")
        await trio.sleep(3600)
        assert f"open {INNER}" not in events
        assert (slot.state, slot.reason) == (State.MISSING, "unplugged at 14:03:22")
        slot.plugged()
        await trio.testing.wait_all_tasks_blocked()
        assert f"open {INNER}" in events
        assert slot.state is State.READY
        nursery.cancel_scope.cancel()


async def test_a_fault_is_over_with_the_hardware_that_had_it() -> None:
    devices = board()
    slot = devices.slots[INNER]
    slot.lifecycle.core.failed("burnt")
    slot.unplugged("unplugged")
    slot.plugged()
    assert slot.state is State.READY


async def test_a_core_of_a_device_that_comes_later_is_kept_open_and_of_one_that_leaves_is_not() -> None:
    devices = Inventory().add("lab", Spec(Composite))
    async with managed_cores(devices), trio.open_nursery() as nursery:
        nursery.start_soon(keeping_open, devices)
        await trio.testing.wait_all_tasks_blocked()
        devices.replace(Spec(Composite, children={"a": Spec(Device, {"early": True})}))
        await trio.testing.wait_all_tasks_blocked()
        assert events == ["open a"]
        devices.replace(Spec(Composite))
        await trio.testing.wait_all_tasks_blocked()
        assert events == ["open a", "close a"]
        nursery.cancel_scope.cancel()


async def test_a_device_that_joins_a_group_disturbs_nobody_in_it(user: Users) -> None:
    def grouped(**devices: Spec) -> Spec:
        return Spec(Composite, children={"group": Spec(Composite, children=devices)})

    devices = Inventory().add("lab", grouped(a=Spec(Device)))
    async with managed_cores(devices), session(devices, user) as one:
        await one.call("group.a", "use")
        events.clear()
        devices.replace(grouped(a=Spec(Device), b=Spec(Device)))
        await trio.testing.wait_all_tasks_blocked()
        await one.call("group.a", "use")
        await one.call("group.b", "use")
        assert events == ["open group.b", "driver opens group.b"]
        devices.replace(grouped(b=Spec(Device)))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(events[2:]) == ["close group.a", "driver closes group.a"]
        devices.replace(Spec(Composite))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(events[4:]) == ["close group.b", "driver closes group.b"]


def with_port(name: str, **values: Any) -> Spec:
    return Spec(Composite, children={name: Spec(PortDevice, values)})


@asynccontextmanager
async def kept_open(*boards: BoardDevices) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for one in boards:
            await stack.enter_async_context(managed_cores(one))
        async with trio.open_nursery() as nursery:
            for one in boards:
                nursery.start_soon(keeping_open, one)
            await trio.sleep(0.1)
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first", ["the board that gets it", "the board that loses it", "one board"])
async def test_hardware_that_goes_to_another_device_is_opened_when_the_one_before_has_closed_it(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    inventory = Inventory()
    before = inventory.add("before", with_port("old"))
    after = before if first == "one board" else inventory.add("after", Spec(Composite))
    async with kept_open(*{before, after}):
        assert PortCore.holder == "old"
        if first == "the board that loses it":
            before.replace(Spec(Composite))
        after.replace(with_port("new"))
        if first == "the board that gets it":
            before.replace(Spec(Composite))
        await trio.sleep(0.5)
        assert after.slots["new"].state is State.STARTING
        await trio.sleep(0.6)
        assert (after.slots["new"].state, PortCore.holder) == (State.READY, "new")
    assert not caplog.records


async def test_hardware_that_nobody_releases_is_busy_at_once_and_one_that_is_released_too_late_after_a_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inventory = Inventory()
    before, after = inventory.add("before", with_port("old")), inventory.add("after", Spec(Composite))
    async with kept_open(before, after):
        after.replace(with_port("new"))
        await trio.sleep(0.1)
        assert after.slots["new"].state is State.FAILED
        assert after.slots["new"].reason == "the port is open in old; end that first"
        with inventory.closings.under_way():
            after.replace(with_port("other"))
            await trio.sleep(HANDOVER_SECONDS - 1)
            states = [after.slots["other"].state]
            await trio.sleep(2)
            assert [*states, after.slots["other"].state] == [State.STARTING, State.FAILED]


async def test_a_device_that_waits_for_its_hardware_and_is_taken_away_is_not_opened_any_more(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    inventory = Inventory()
    before, after = inventory.add("before", with_port("old")), inventory.add("after", Spec(Composite))
    async with kept_open(before, after), trio.open_nursery() as nursery:

        async def use() -> None:
            core = after.slots["new"].core
            assert core is not None
            with pytest.raises(DeviceFailed, match="new is not a device of this board any more"):
                await core.open()

        after.replace(with_port("new"))
        before.replace(Spec(Composite))
        for _ in range(3):  # one waits for the hardware, the others for that one
            nursery.start_soon(use)
        await trio.sleep(0.5)
        slot = after.slots["new"]
        assert slot.state is State.STARTING
        after.replace(Spec(Composite))
        await trio.sleep(5)
        assert (slot.state, PortCore.holder) == (State.READY, "")
    assert not caplog.records


class HangingCore(Core["Hanging"]):
    """Does not come back from `close`."""

    async def close(self) -> None:
        await trio.sleep_forever()


@dataclass(kw_only=True, eq=False)
class Hanging(Driver):
    client: ClassVar[str] = "example.Client"
    core_of: ClassVar[type[HangingCore]] = HangingCore


async def test_devices_that_do_not_close_are_named_and_hold_up_the_end_once_and_not_each_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inventory = Inventory()
    parts = {f"port{number}": Spec(Hanging) for number in range(5)}
    devices = inventory.add("lab", Spec(Composite, children=parts))
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            await trio.sleep(CLOSE_SECONDS / 2)
            assert inventory.closings.names == sorted(parts)

        async with managed_cores(devices):
            for slot in devices.slots.values():
                if slot.core is not None:
                    await slot.core.open()
            began = trio.current_time()
            nursery.start_soon(look)
    assert trio.current_time() - began <= CLOSE_SECONDS + 1
    assert inventory.closings.names == []
