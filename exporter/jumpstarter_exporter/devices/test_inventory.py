"""The inventory: which devices there are, which stay the same through changes, and who hears of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID, uuid4

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.layout import TreeError
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import DeviceBusy, Driver


@dataclass(kw_only=True, eq=False)
class Relay(Driver):
    client: ClassVar[str] = "example.Client"

    pins: list[int] = field(default_factory=list)


def board(**children: Spec) -> Spec:
    return Spec(Composite, children=children)


def relay(*pins: int) -> Spec:
    return Spec(Relay, {"pins": list(pins)})


NAMES = st.sampled_from(["one", "two"])
BOARDS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.builds(relay, st.integers(1, 2))
    | st.builds(lambda pin: Spec(Composite, children={"inner": relay(pin)}), st.integers(1, 2)),
    max_size=3,
).map(lambda children: board(**children))


class InventoryMachine(RuleBasedStateMachine):
    """Whatever is added, replaced and removed: a device is the same as long as it is at its path."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory()
        self.heard: list[int] = []
        self.inventory.watch(self.heard.append)
        self.uuids: dict[tuple[str, str], UUID] = {}
        self.removed: list[Slot] = []

    @rule(name=NAMES, spec=BOARDS)
    def add(self, name: str, spec: Spec) -> None:
        if name in self.inventory.boards:
            with pytest.raises(JumpstarterUsageError):
                self.inventory.add(name, spec)
        else:
            self.inventory.add(name, spec)
            self.remember(name)

    @rule(name=NAMES, spec=BOARDS)
    def replace(self, name: str, spec: Spec) -> None:
        if name not in self.inventory.boards:
            with pytest.raises(KeyError):
                self.inventory.replace(name, spec)
            return
        before = self.inventory.boards[name].slots
        self.inventory.replace(name, spec)
        after = self.inventory.boards[name].slots
        for path, slot in before.items():
            if path in after and after[path] is not slot:
                assert not after[path].spec.same_as(slot.spec)
                assert after[path].uuid == slot.uuid
            if path not in after:
                self.uuids.pop((name, path))
                self.removed.append(slot)
        self.remember(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.inventory.boards:
            self.removed.extend(self.inventory.boards[name].slots.values())
            self.inventory.remove(name)
            self.uuids = {key: uuid for key, uuid in self.uuids.items() if key[0] != name}

    @rule(name=NAMES, path=st.sampled_from(["a", "b.inner"]), there=st.booleans())
    def hardware(self, name: str, path: str, there: bool) -> None:
        slots = self.inventory.boards[name].slots if name in self.inventory.boards else {}
        if path in slots:
            core, before, revision = slots[path].lifecycle.core, slots[path].state, self.inventory.revision
            core.found() if there else core.missing("unplugged")
            assert slots[path].state is (State.READY if there else State.MISSING)
            assert (self.inventory.revision > revision) == (slots[path].state is not before)

    @rule()
    def what_was_removed_says_something(self) -> None:
        revision = self.inventory.revision
        for slot in self.removed:
            slot.lifecycle.failed("burnt")
        assert self.inventory.revision == revision

    def remember(self, name: str) -> None:
        for path, slot in self.inventory.boards[name].slots.items():
            assert self.uuids.setdefault((name, path), slot.uuid) == slot.uuid

    @invariant()
    def each_revision_is_heard_of_once_in_order(self) -> None:
        assert self.heard == list(range(1, self.inventory.revision + 1))

    @invariant()
    def every_uuid_is_of_one_device(self) -> None:
        slots = [slot for one in self.inventory.boards.values() for slot in one.slots.values()]
        assert len({slot.uuid for slot in slots}) == len(slots)

    @invariant()
    def parents_are_there_before_their_children(self) -> None:
        for one in self.inventory.boards.values():
            for path, slot in one.slots.items():
                assert slot.parent is (one.slots[path.rpartition(".")[0]] if path else None)


TestInventory = InventoryMachine.TestCase
TestInventory.settings = settings(max_examples=40, stateful_step_count=25)


def test_what_makes_no_tree_changes_nothing() -> None:
    inventory = Inventory()
    inventory.add("one", board(a=relay(1)))
    revision, slots = inventory.revision, inventory.boards["one"].slots
    with pytest.raises(TreeError, match="names nothing"):
        inventory.replace("one", board(a=Spec(Proxy, {"ref": "nobody"})))
    assert (inventory.revision, inventory.boards["one"].slots) == (revision, slots)


def test_devices_get_the_uuids_that_they_had_and_configured_ones() -> None:
    known, configured = uuid4(), uuid4()
    spec = board(a=relay(1), b=Spec(Relay, {"uuid": configured}))
    devices = Inventory().add("one", spec, {"a": known, "b": uuid4()})
    assert (devices.slots["a"].uuid, devices.slots["b"].uuid) == (known, configured)


async def test_a_subscriber_sees_the_newest_revision_however_slow_it_is() -> None:
    inventory = Inventory()
    devices = inventory.add("one", board(a=relay(1)))
    with subscribed(inventory) as changes, trio.fail_after(5):
        assert await anext(changes) == 1

        def fail() -> None:
            for number in range(50):
                devices.slots["a"].lifecycle.failed(str(number))

        thread = threading.Thread(target=fail)
        thread.start()
        while await anext(changes) < 51:  # waits, and never for longer than the next change
            pass
        thread.join()
        with trio.move_on_after(0.01) as nothing_more:
            await anext(changes)
        assert nothing_more.cancelled_caught
        inventory.remove("one")
        assert await anext(changes) == 52


def test_nobody_is_told_of_a_change_while_others_cannot_look() -> None:
    """Who is told may wait for a thread that looks, as a device does that changes in one."""
    inventory = Inventory()
    answered: list[bool] = []

    def look(_: int) -> None:
        thread = threading.Thread(target=lambda: inventory.boards, daemon=True)
        thread.start()
        thread.join(5)
        answered.append(not thread.is_alive())

    inventory.watch(look)
    inventory.add("one", board(a=relay(1)))
    inventory.replace("one", board(a=relay(2)))
    inventory.remove("one")
    assert answered == [True] * 3


def test_a_device_that_somebody_has_is_given_back_by_nobody_else() -> None:
    """A session gives back what it could not open, and may do so twice: others may have it by then."""
    slot = Inventory().add("lab", board(a=relay(1))).slots["a"]
    one, other = "one session", "another"
    slot.claim(one)
    slot.claim(one)
    slot.give_back(one)
    slot.claim(other)
    slot.give_back(one)
    with pytest.raises(DeviceBusy, match="in use in another session"):
        slot.claim(one)
    slot.give_back(other)
    slot.claim(one)
