from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jumpstarter_proto.process.descriptor_table import DescriptorTable, device_of, name_of

DEVICE = os.makedev(188, 0)


@given(st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
def test_a_name_is_that_of_one_device(major: int, minor: int) -> None:
    device = os.makedev(major, minor)
    assert device_of(name_of(device)) == device
    assert ":" not in name_of(device)


@given(st.from_regex(r"port-[0-9]+-[0-9]+|.*"))
def test_another_name_is_of_no_device(name: str) -> None:
    device = device_of(name)
    assert device is None or name_of(device) == name


@pytest.mark.parametrize(
    "name", ["", "stored", "port-188-00", "port-188-0\n", "port--1-0", "port-188-12345678", "port-٣-0"]
)
def test_a_name_that_is_almost_one_is_none(name: str) -> None:
    assert device_of(name) is None


def test_what_is_not_the_device_that_its_name_says_is_not_taken() -> None:
    table = DescriptorTable()
    assert not table.offer("port-188-1", 7, DEVICE)
    assert not table.offer("stored", 7, DEVICE)
    assert table.take_unclaimed() == {}


class Process(RuleBasedStateMachine):
    """A process opens, closes, takes up and loses ports of few devices; a model of what is kept goes with it."""

    @initialize()
    def start(self) -> None:
        self.table = DescriptorTable()
        self.next = 10
        self.unclaimed: dict[int, int] = {}
        self.claimed: dict[int, int] = {}

    def fresh(self) -> int:
        self.next += 1
        return self.next

    @rule(device=st.integers(0, 2))
    def offer(self, device: int) -> None:
        descriptor = self.fresh()
        is_new = device not in self.unclaimed and device not in self.claimed
        assert self.table.offer(name_of(device), descriptor, device) is is_new
        if is_new:
            self.unclaimed[device] = descriptor

    @rule(device=st.integers(0, 2))
    def claim(self, device: int) -> None:
        found = self.unclaimed.pop(device, None)
        assert self.table.claim(device) == found
        if found is not None:
            self.claimed[device] = found

    @rule(device=st.integers(0, 2))
    def add(self, device: int) -> None:
        descriptor = self.fresh()
        assert self.table.add(descriptor, device) == (name_of(device), self.unclaimed.pop(device, None))
        self.claimed[device] = descriptor

    @rule(device=st.integers(0, 2))
    def remove(self, device: int) -> None:
        unclaimed = self.unclaimed.get(device)
        if unclaimed is not None:  # nobody has taken it, so nobody gives it back
            assert self.table.remove(unclaimed) is None
        if device in self.claimed:
            descriptor = self.claimed.pop(device)
            assert self.table.remove(descriptor) == name_of(device)
            assert self.table.remove(descriptor) is None

    @rule()
    def take_unclaimed(self) -> None:
        expected = {name_of(device): descriptor for device, descriptor in self.unclaimed.items()}
        assert self.table.take_unclaimed() == expected
        self.unclaimed.clear()

    @invariant()
    def knows_what_nobody_uses(self) -> None:
        for device in range(3):
            assert self.table.is_unclaimed(device) == (device in self.unclaimed)
            assert (name_of(device) in self.table) == (device in self.unclaimed or device in self.claimed)


test_the_table_holds_what_is_kept = Process.TestCase
