"""Devices stay who they are: when they move, come back, are renumbered, or get a neighbour that looks alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.identity import DeviceIdentity, IdentitySource, identify, shared_serials
from jumpstarter_exporter.devices.udev_device import DeviceTree
from tests.support.udev_hosts import HOSTS
from tools.mocked_host.udev import DISK, HUB, Host

FT232R, CP2102, CH340 = "0403:6001", "10c4:ea60", "1a86:7523"


def plugged(*adapters: tuple[int, str, str]) -> Host:
    """Adapters at ports: the port, the ids and the serial number of each."""
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    hub = host.plug(root, 1, "1a40:0101", interfaces=HUB)
    for port, ids, serial in adapters:
        host.tty(host.plug(hub, port, ids, serial))
    return host


def ttys(host: Host, shared: frozenset[str] = frozenset()) -> dict[str, DeviceIdentity]:
    """By the port."""
    tree = host.tree
    found = identify(tree, shipped(), shared)
    consoles = [(tree.usb_address(device), device) for device in tree if device.subsystem == "tty"]
    return {address.port: found[device.path] for address, device in consoles if address is not None}


def test_a_serial_number_of_its_own_counts_wherever_it_is_plugged_in() -> None:
    (before,) = ttys(plugged((2, FT232R, "A50285BJ"))).values()
    after = ttys(plugged((1, CH340, ""), (4, FT232R, "A50285BJ")))["1-1.4"]
    assert before.source is IdentitySource.SERIAL
    assert before.key == after.key
    assert before.why == "no other device of this host has the serial number A50285BJ"


@pytest.mark.parametrize(
    ("adapters", "why"),
    [
        ([(2, CH340, "")], "it has no serial number, so its port identifies it"),
        ([(2, CP2102, "0001")], "many CP2102 have the serial number 0001, so its port identifies it"),
        (
            [(2, FT232R, "X7"), (3, FT232R, "X7")],
            "1-1.3 has the serial number X7, too, so its port identifies it",
        ),
    ],
)
def test_else_the_port_counts_and_says_why(adapters: list[tuple[int, str, str]], why: str) -> None:
    found = ttys(plugged(*adapters))["1-1.2"]
    assert (found.source, found.value, found.why) == (IdentitySource.PORT, "1-1.2", why)


def test_a_slot_of_a_card_reader_stays_who_it_is_whatever_is_on_the_card_in_another_one() -> None:
    def second(*partitions: str) -> DeviceIdentity:
        host = Host()
        (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
        reader = host.plug(root, 1, "0bda:0306", "2012", "Card reader", DISK)
        host.disk(reader, *partitions)
        slot, *_ = host.disk(reader)
        found = identify(host.tree, shipped())
        assert len({one.key for one in found.values()}) == len(host.devices)
        return found[slot]

    assert second().key == second("vfat").key == second("vfat", "ext4").key


def test_a_serial_number_that_two_devices_had_is_not_used_when_one_is_left() -> None:
    shared = shared_serials(plugged((2, FT232R, "X7"), (3, FT232R, "X7")).tree)
    alone = plugged((2, FT232R, "X7"))
    assert ttys(alone)["1-1.2"].source is IdentitySource.SERIAL
    found = ttys(alone, shared)["1-1.2"]
    assert (found.source, found.why) == (
        IdentitySource.PORT,
        "two devices had the serial number X7 at one time, so its port identifies it",
    )


def test_one_serial_number_of_two_models_is_two() -> None:
    found = ttys(plugged((2, FT232R, "X7"), (3, "0403:6015", "X7")))
    assert {one.source for one in found.values()} == {IdentitySource.SERIAL}
    assert len({one.key for one in found.values()}) == 2


def test_another_number_of_the_bus_changes_nothing() -> None:
    keys = []
    for bus in (1, 3):
        host = Host()
        two, three = host.controller("/devices/platform/axi/xhci-hcd.0", bus, 2, 3)
        host.tty(host.plug(two, 1, CH340))
        host.tty(host.plug(three, 1, CH340))
        keys.append([one.key for one in ttys(host).values()])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2, "the same port of the other speed is another socket's"


@pytest.mark.parametrize("name", HOSTS)
def test_no_two_devices_of_a_host_are_the_same(name: str) -> None:
    host = HOSTS[name]()
    keys = [one.key for one in identify(host.tree, shipped()).values()]
    assert len(set(keys)) == len(keys) == len(host.devices)


ADAPTERS = st.dictionaries(
    st.integers(1, 7),
    st.tuples(
        st.sampled_from([FT232R, CP2102, CH340, "0403:6011"]), st.sampled_from(["", "0001", "A", "B", "C"])
    ),
)


def of(adapters: dict[int, tuple[str, str]]) -> Host:
    return plugged(*((port, ids, serial) for port, (ids, serial) in adapters.items()))


@given(ADAPTERS)
def test_in_any_hub_no_two_adapters_are_the_same(adapters: dict[int, tuple[str, str]]) -> None:
    found = ttys(of(adapters))
    assert len({one.key for one in found.values()}) == len(adapters)


@given(ADAPTERS, st.integers(1, 7))
def test_who_remembers_shared_serial_numbers_sees_nobody_change_when_one_is_unplugged(
    adapters: dict[int, tuple[str, str]], port: int
) -> None:
    before = of(adapters)
    shared = shared_serials(before.tree)
    after = of({at: adapter for at, adapter in adapters.items() if at != port})
    expected = {at: one.key for at, one in ttys(before, shared).items() if at != f"1-1.{port}"}
    assert {at: one.key for at, one in ttys(after, shared).items()} == expected


@given(ADAPTERS, st.randoms(use_true_random=False))
def test_the_order_in_which_devices_are_known_does_not_matter(
    adapters: dict[int, tuple[str, str]], random: object
) -> None:
    host = of(adapters)
    shuffled = list(host.devices)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert identify(DeviceTree(shuffled), shipped()) == identify(host.tree, shipped())


@given(ADAPTERS)
def test_renumbered_nodes_change_nothing(adapters: dict[int, tuple[str, str]]) -> None:
    host = of(adapters)
    renumbered = Host([replace(one, path=one.path.replace("ttyUSB", "ttyUSB1")) for one in host.devices])
    assert {one.key for one in ttys(host).values()} == {one.key for one in ttys(renumbered).values()}
