"""When a changed tree is settled: the plugs that real hosts showed, and whatever hypothesis plugs in and out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.devices.settling import (
    ARRIVAL_SECONDS,
    FLAP_COUNT,
    FLAP_SECONDS,
    LIMIT_SECONDS,
    NODE_SECONDS,
    Settling,
)
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

USB = "/devices/pci0000:00/0000:00:14.0/usb1"
LONGEST_SECONDS = max(LIMIT_SECONDS, FLAP_SECONDS)


def usb(path: str, number: int = 2, **more: str) -> UdevDevice:
    return UdevDevice(
        path,
        {"SUBSYSTEM": "usb", "DEVTYPE": "usb_device", "DEVNAME": f"/dev/bus/usb/001/{number:03}", **more},
    )


def interface(path: str, **more: str) -> UdevDevice:
    return UdevDevice(path, {"SUBSYSTEM": "usb", "DEVTYPE": "usb_interface", **more})


def node(path: str, subsystem: str, **more: str) -> UdevDevice:
    return UdevDevice(
        path, {"SUBSYSTEM": subsystem, "DEVNAME": f"/dev/{path.rpartition('/')[2]}", "DEVPATH": path, **more}
    )


ROOT = usb(USB, 1)
DEVICE = usb(f"{USB}/1-1")
INTERFACE = interface(f"{USB}/1-1/1-1:1.0")
TTY = node(f"{USB}/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0", "tty")
GPIO = node(f"{USB}/1-1/1-1:1.0/gpiochip3", "gpio")


@dataclass
class Player:
    """Feeds events at their times, and takes what is due at its time."""

    settling: Settling = field(default_factory=Settling)
    now: float = 100.0
    shown: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    tree: DeviceTree = field(default_factory=lambda: DeviceTree(()))

    def enumerated(self, *devices: UdevDevice) -> Player:
        self.settling.begin_enumeration()
        self.settling.end_enumeration(DeviceTree(devices))
        self.take()
        self.shown.clear()
        return self

    def play(self, events: Iterable[tuple[float, str, UdevDevice]]) -> None:
        """Each with the time since the one before."""
        for pause, action, device in events:
            self.pass_time(pause)
            self.settling.event(action, device, self.now)
            self.take()

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.settling.due()) <= until:
            self.now = max(due, self.now)
            before = len(self.shown)
            self.take()
            assert self.settling.due() > due or len(self.shown) > before
        self.now = until

    def take(self) -> None:
        tree = self.settling.take(self.now)
        if tree is not None:
            self.tree = tree
            self.shown.append((self.now, frozenset(one.path for one in tree)))


def names(shown: frozenset[str]) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in shown)


CP210X = [
    (0.0, "add", DEVICE),
    (0.02, "add", INTERFACE),
    (0.02, "add", GPIO),
    (0.03, "add", TTY),
    (0.01, "bind", replace(INTERFACE, properties={**INTERFACE.properties, "DRIVER": "cp210x"})),
    (0.01, "bind", DEVICE),
]


def test_an_adapter_that_is_plugged_in_is_one_change_and_shown_with_its_last_event() -> None:
    player = Player().enumerated(ROOT)
    player.play(CP210X)
    assert [names(tree) for _, tree in player.shown] == [["1-1", "1-1:1.0", "gpiochip3", "ttyUSB0", "usb1"]]
    assert player.shown[0][0] == player.now
    player.pass_time(10)
    assert len(player.shown) == 1


def test_a_node_is_enough_where_nobody_says_that_the_device_is_bound() -> None:
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE), (0.01, "add", INTERFACE), (0.01, "add", TTY)])
    came = player.now
    player.pass_time(10)
    (at, tree) = player.shown[0]
    assert "ttyUSB0" in names(tree)
    assert 0 < at - came <= NODE_SECONDS + 1e-9


def test_ports_that_come_one_by_one_are_one_change() -> None:
    quad = [node(f"{USB}/1-1/1-1:1.{one}/ttyUSB{one}/tty/ttyUSB{one}", "tty") for one in range(4)]
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE), *[(NODE_SECONDS * 0.9, "add", one) for one in quad]])
    player.pass_time(10)
    assert len(player.shown) == 1


def test_a_device_without_nodes_is_shown_when_it_is_bound() -> None:
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE), (0.0, "add", INTERFACE), (0.01, "bind", DEVICE)])
    assert len(player.shown) == 1
    assert player.shown[0][0] == player.now


def test_a_device_that_is_never_bound_is_shown_after_a_while() -> None:
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE)])
    came = player.now
    player.pass_time(10)
    assert [at for at, _ in player.shown] == [came + ARRIVAL_SECONDS]


def test_a_node_whose_driver_was_only_being_loaded_is_shown_at_once() -> None:
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE), (0.0, "add", INTERFACE), (0.0, "bind", DEVICE), (0.4, "add", TTY)])
    assert [names(tree) for _, tree in player.shown][1:] == [["1-1", "1-1:1.0", "ttyUSB0", "usb1"]]
    assert player.shown[1][0] == player.now


def test_a_disk_is_shown_with_its_partitions_so_that_what_the_host_keeps_is_known() -> None:
    scsi = f"{USB}/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda"
    disk = node(scsi, "block", DEVTYPE="disk", ID_PART_TABLE_TYPE="gpt")
    parts = [node(f"{scsi}/sda{one}", "block", DEVTYPE="partition") for one in (1, 2)]
    player = Player().enumerated(ROOT, DEVICE, INTERFACE)
    player.play([(0.0, "add", disk), *[(0.02, "add", one) for one in parts]])
    player.pass_time(10)
    assert [names(tree)[-4:] for _, tree in player.shown] == [["sda", "sda1", "sda2", "usb1"]]


def test_an_unplugged_node_is_gone_at_once_and_the_rest_is_one_change() -> None:
    driven = replace(INTERFACE, properties={**INTERFACE.properties, "DRIVER": "ftdi_sio"})
    player = Player().enumerated(ROOT, DEVICE, driven, TTY)
    player.play([(0.0, "remove", TTY)])
    assert [names(tree) for _, tree in player.shown] == [["1-1", "1-1:1.0", "usb1"]]
    player.play(
        [
            (0.01, "unbind", INTERFACE),
            (0.01, "remove", INTERFACE),
            (0.01, "unbind", DEVICE),
            (0.01, "remove", DEVICE),
        ]
    )
    assert [names(tree) for _, tree in player.shown[1:]] == [["usb1"]]


def test_a_node_that_comes_back_to_a_device_that_stayed_is_shown_at_once() -> None:
    """libftdi takes an adapter from its driver, and gives it back."""
    player = Player().enumerated(ROOT, DEVICE, INTERFACE, TTY)
    player.play([(0.0, "remove", TTY), (10.0, "add", TTY)])
    assert player.shown[-1][0] == player.now
    assert "ttyUSB0" in names(player.shown[-1][1])


def test_more_and_more_nodes_of_one_device_do_not_hold_back_the_first() -> None:
    many = [node(f"{USB}/1-1/1-1:1.{one}/ttyUSB{one}/tty/ttyUSB{one}", "tty") for one in range(40)]
    player = Player().enumerated(ROOT)
    came = player.now
    player.play([(0.0, "add", DEVICE), *[(NODE_SECONDS * 0.9, "add", one) for one in many]])
    assert player.shown[0][0] <= came + LIMIT_SECONDS


def test_what_flaps_is_gone_at_once_and_only_comes_back_late() -> None:
    player = Player().enumerated(ROOT)
    for _ in range(FLAP_COUNT):
        player.play([(0.01, "add", DEVICE), (0.0, "bind", DEVICE), (0.01, "remove", DEVICE)])
    assert names(player.shown[-1][1]) == ["usb1"]
    player.play([(0.01, "add", DEVICE), (0.0, "bind", DEVICE)])
    player.pass_time(FLAP_SECONDS)
    assert names(player.shown[-1][1]) == ["1-1", "usb1"]
    went = player.now
    player.play([(0.01, "remove", DEVICE)])
    assert (names(player.shown[-1][1]), player.shown[-1][0] - went < 0.1) == (["usb1"], True)


def test_a_hub_is_shown_with_what_hangs_on_it_and_gone_with_it() -> None:
    child = usb(f"{USB}/1-1/1-1.1", 9)
    player = Player().enumerated(ROOT)
    player.play([(0.0, "add", DEVICE), (0.0, "add", child), (0.0, "bind", child)])
    assert names(player.shown[-1][1]) == ["1-1", "1-1.1", "usb1"]
    for _ in range(FLAP_COUNT):
        player.play([(0.01, "remove", child), (0.01, "add", child), (0.0, "bind", child)])
    player.pass_time(FLAP_SECONDS)
    player.play([(0.01, "remove", DEVICE)])
    assert names(player.shown[-1][1]) == ["usb1"]
    player.pass_time(10)
    player.settling.take(player.now)
    assert not player.settling._units  # nothing is kept of what is gone


def test_what_is_below_a_device_is_gone_with_it() -> None:
    player = Player().enumerated(ROOT, DEVICE, INTERFACE, TTY)
    player.play([(0.0, "remove", ROOT)])
    assert [names(tree) for _, tree in player.shown] == [[]]


def test_bind_and_change_do_not_say_that_a_device_is_there() -> None:
    player = Player().enumerated(ROOT)
    player.play([(0.0, action, DEVICE) for action in ("bind", "change", "unbind", "online", "offline")])
    player.pass_time(10)
    assert player.shown == []


def test_a_change_of_properties_is_shown_and_one_of_nothing_is_not() -> None:
    player = Player().enumerated(ROOT, DEVICE)
    player.play([(0.0, "change", DEVICE)])
    assert player.shown == []
    player.play([(0.0, "change", replace(DEVICE, properties={**DEVICE.properties, "ID_MODEL": "x"}))])
    assert len(player.shown) == 1


def test_an_interface_that_is_renamed_is_known_by_its_new_name_only() -> None:
    before = node("/devices/virtual/net/eth0", "net")
    after = node("/devices/virtual/net/enx1", "net")
    player = Player().enumerated(before)
    moved = replace(after, properties={**after.properties, "DEVPATH_OLD": before.path})
    player.play([(0.0, "move", moved)])
    player.pass_time(10)
    assert list(player.tree) == [after]


def test_a_device_that_moves_takes_what_is_below_it_along() -> None:
    disk = node("/devices/a/block/sda", "block")
    below = node("/devices/a/block/sda/sda1", "block")
    moved = replace(node("/devices/b/block/sda", "block"), properties={"DEVPATH_OLD": disk.path})
    player = Player().enumerated(disk, below)
    player.play([(0.0, "move", moved)])
    player.pass_time(10)
    assert [one.path for one in player.tree] == ["/devices/b/block/sda", "/devices/b/block/sda/sda1"]
    (found,) = player.tree.find("/dev/sda1")
    assert found.properties["DEVPATH"] == found.path


def test_a_flapping_device_is_shown_seldom_and_holds_back_nobody() -> None:
    player = Player().enumerated(ROOT)
    other = usb(f"{USB}/1-2", 3)
    for _ in range(100):
        player.play([(0.05, "add", DEVICE), (0.0, "bind", DEVICE), (0.05, "remove", DEVICE)])
    assert len(player.shown) < 10 + 100 * 0.1 / FLAP_SECONDS + 2
    player.play([(0.05, "add", DEVICE), (0.01, "add", other), (0.0, "bind", other)])
    assert player.shown[-1][0] == player.now
    assert "1-2" in names(player.shown[-1][1])


def test_nothing_is_shown_before_the_first_enumeration_which_is_shown_even_if_it_finds_nothing() -> None:
    player = Player()
    player.settling.begin_enumeration()
    player.play([(0.0, "add", DEVICE)])
    player.pass_time(10)
    assert player.shown == []
    player.settling.end_enumeration(DeviceTree(()))
    player.take()
    assert player.shown


def test_after_a_loss_each_device_may_be_another_one_and_else_is_the_same() -> None:
    player = Player().enumerated(ROOT, DEVICE)
    again = UdevDevice(DEVICE.path, dict(DEVICE.properties))
    player.enumerated(ROOT, again)
    assert player.shown == []
    other = usb(f"{USB}/1-2", 3)
    player.play([(0.0, "add", other), (0.0, "bind", other)])
    assert player.tree.get(DEVICE.path) is DEVICE
    player.settling.begin_enumeration()
    player.settling.end_enumeration(DeviceTree([ROOT, again, other]), lost=True)
    before = len(player.shown)
    player.take()
    assert len(player.shown) == before + 1
    assert player.tree.get(DEVICE.path) is again


# Whatever is plugged in and out: three ports of a hub, and a device that is none of USB's, in any order.

PARTS: dict[str, list[UdevDevice]] = {
    "hub": [usb(f"{USB}/1-1", 2), interface(f"{USB}/1-1/1-1:1.0")],
    **{
        f"port{port}": [
            usb(f"{USB}/1-1/1-1.{port}", 2 + port),
            interface(f"{USB}/1-1/1-1.{port}/1-1.{port}:1.0"),
            node(f"{USB}/1-1/1-1.{port}/1-1.{port}:1.0/ttyUSB{port}/tty/ttyUSB{port}", "tty"),
        ]
        for port in (1, 2, 3)
    },
    "net": [node("/devices/virtual/net/eth0", "net")],
}
States = dict[str, UdevDevice]
Event = tuple[str, UdevDevice]


@dataclass
class Host:
    """A kernel with udevd: devices come and go as wholes, their events in the order that udevd keeps."""

    present: States = field(default_factory=dict)
    changes: int = 0

    def toggle(self, name: str) -> list[Event]:
        parts = PARTS[name]
        if parts[0].path in self.present:
            gone = [one for one in self.present.values() if one.path.startswith(parts[0].path)]
            gone.sort(key=lambda one: one.path, reverse=True)
            return [("remove", one) for one in gone]
        if name.startswith("port") and PARTS["hub"][0].path not in self.present:
            return self.toggle("hub")
        return [("add", one) for one in parts] + [("bind", one) for one in reversed(parts[:2])]

    def change(self, name: str) -> list[Event]:
        self.changes += 1
        return [
            ("change", replace(one, properties={**one.properties, "CHANGES": str(self.changes)}))
            for one in PARTS[name][-1:]
            if one.path in self.present
        ]

    def happen(self, event: Event) -> None:
        action, device = event
        if action == "remove":
            del self.present[device.path]
        else:
            self.present[device.path] = device


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[float, Event, States]]:
    """Events with the time since the one before, and what there is after each."""
    host = Host()
    history: list[tuple[float, Event, States]] = []
    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(sorted(PARTS)))
        events = host.toggle(name) if draw(st.booleans()) else host.change(name)
        for event in events:
            pause = draw(st.sampled_from([0.0, 0.001, 0.02, NODE_SECONDS, 0.2, ARRIVAL_SECONDS, 1.5]))
            host.happen(event)
            history.append((pause, event, dict(host.present)))
    return history


@given(histories())
def test_what_is_shown_in_the_end_is_what_there_is_and_nothing_shown_is_old(
    history: list[tuple[float, Event, States]],
) -> None:
    player = Player().enumerated()
    states: list[tuple[float, States]] = [(0.0, {})]
    for pause, (action, device), present in history:
        player.play([(pause, action, device)])
        states.append((player.now, present))
    player.pass_time(LONGEST_SECONDS)
    assert player.settling.due() == float("inf")
    assert {one.path: one for one in player.tree} == history[-1][2] if history else True
    for at, shown in player.shown:
        recent = [present for when, present in states if at - LONGEST_SECONDS - 1e-6 <= when <= at]
        recent.append([present for when, present in states if when <= at - LONGEST_SECONDS][-1])
        for path in {path for _, present in states for path in present}:
            assert any((path in shown) == (path in present) for present in recent), path


@given(histories())
def test_no_device_is_shown_without_the_usb_devices_above_it(
    history: list[tuple[float, Event, States]],
) -> None:
    player = Player().enumerated()
    player.play([(pause, *event) for pause, event, _ in history])
    player.pass_time(LONGEST_SECONDS)
    above = {one.path for parts in PARTS.values() for one in parts}
    for _, shown in player.shown:
        for path in shown:
            assert {one for one in above if path.startswith(f"{one}/")} <= shown


@given(histories(), st.data())
def test_events_of_different_devices_may_come_in_any_order(
    history: list[tuple[float, Event, States]], data: st.DataObject
) -> None:
    """Of different plugs without a hub above them: udevd handles them side by side."""
    player, other = Player().enumerated(), Player().enumerated()
    lanes: dict[str, list[Event]] = defaultdict(list)
    for _, (action, device), _ in history:
        if device.path.startswith(f"{USB}/1-1"):
            path = device.path.replace("/1-1/1-1.", "/1-")  # no hub
            lanes[path.removeprefix(USB).split("/")[1]].append((action, replace(device, path=path)))
        else:
            lanes[device.path].append((action, device))
    ordered = [event for lane in lanes.values() for event in lane]
    player.play([(0.001, *event) for event in ordered])
    mixed = []
    while any(lanes.values()):
        lane = data.draw(st.sampled_from(sorted(key for key, lane in lanes.items() if lane)))
        mixed.append(lanes[lane].pop(0))
    other.play([(0.001, *event) for event in mixed])
    for one in (player, other):
        one.pass_time(LONGEST_SECONDS)
    assert list(player.tree) == list(other.tree)


@given(histories(), st.data())
def test_an_enumeration_that_overlaps_events_loses_none_and_brings_none_back(
    history: list[tuple[float, Event, States]], data: st.DataObject
) -> None:
    """It sees each device at a time of its own, between its begin and its end."""
    begin = data.draw(st.integers(0, len(history)))
    end = data.draw(st.integers(begin, len(history)))
    after = [{}, *[present for _, _, present in history]]
    player = Player().enumerated()
    seen = {}
    for path in {path for present in after for path in present}:
        device = after[data.draw(st.integers(begin, end))].get(path)
        if device is not None:
            seen[path] = device
    # What came before it is lost to some extent: only that makes one enumerate again.
    lost = data.draw(st.sets(st.integers(0, max(begin - 1, 0))))
    for index, (pause, (action, device), _) in enumerate(history):
        if index == begin:
            player.settling.begin_enumeration()
        if index == end:
            player.settling.begin_enumeration()
            player.settling.end_enumeration(DeviceTree(seen.values()))
        if index >= begin or index not in lost:
            player.play([(pause, action, device)])
    if end == len(history):
        player.settling.begin_enumeration()
        player.settling.end_enumeration(DeviceTree(seen.values()))
    player.pass_time(LONGEST_SECONDS)
    assert {one.path: one for one in player.tree} == after[-1]
