"""Notifies the devices of configured boards when their hardware is plugged in or unplugged.

The names in a configuration, such as `/dev/ttyUSB0` or a link of udev, are looked up in each tree of the host's
devices. A name that never existed is not reported as unplugged, because udev may not know it.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Iterable, Mapping

import trio

from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice
from jumpstarter_exporter.devices.udev_monitor import DeviceWatch, watch_devices
from jumpstarter_exporter.isolation import isolated

__all__ = ["DevicePresence", "follow_presence", "is_name"]

_NODES = ("ttyUSB", "ttyACM", "video", "hidraw", "gpiochip", "sg", "sd", "mmcblk")
"""Beginnings of names of nodes that the kernel creates, so that udev knows them as soon as they exist."""
_LINKS = ("serial/by-", "disk/by-", "v4l/by-", "jumpstarter/")
"""The same of links that udevd creates."""

_log = logging.getLogger(__name__)


class DevicePresence:
    """The presence of the hardware of slots.

    No I/O, except in `resolve`, which returns the target of links that udev does not know.
    """

    def __init__(self, resolve: Callable[[str], str] = os.path.realpath) -> None:
        self._resolve = resolve
        self._present: dict[str, UdevDevice] = {}
        """By every name that existed last."""
        self._links: dict[str, str] = {}
        """Targets of links that are not udev's, by name, as they were last seen."""
        self._gone: dict[str, str] = {}
        """When names that had existed disappeared."""
        self._is_first = True
        self._names: dict[Slot, tuple[Spec, tuple[str, ...]]] = {}

    def update(
        self, tree: DeviceTree, boards: Iterable[BoardDevices], *, now: datetime.datetime, told: bool
    ) -> None:
        """Update to the devices that are plugged in now. `told` is whether the next change will be reported at once."""
        before, self._present = self._present, _by_name(tree)
        is_first, self._is_first = self._is_first, False
        ways = {slot: _way_back(board) for board in boards for slot in board.slots.values()}
        wanted = {slot: self._names_of(slot) for slot in ways}
        self._names = {slot: (slot.spec, names) for slot, names in wanted.items()}
        has_links = any("/by-" in name for name in self._present)
        came = set()
        for name in {name for names in wanted.values() for name in names}:
            was, device = self._find(before, name), self._look_up(name)
            if device is not None:
                self._gone.pop(name, None)
                if was is not device and not is_first:
                    came.add(name)
            elif was is not None:
                self._gone[name] = f"unplugged at {now:%H:%M:%S}"
        for slot, names in wanted.items():
            if not names:
                continue
            # Present hardware will not be announced again: if it cannot be opened, it must be polled.
            is_there = all(self._look_up(name) is not None for name in names)
            is_known = all(self._is_known(name, has_links=has_links) for name in names)
            slot.is_followed = told and is_known and not is_there
            if gone := [name for name in names if name in self._gone]:
                slot.unplugged(f"{gone[0]} was {self._gone[gone[0]]}; {ways[slot]}")
            elif not came.isdisjoint(names) or slot.lifecycle.why_unplugged:
                slot.appeared()

    def _names_of(self, slot: Slot) -> tuple[str, ...]:
        known = self._names.get(slot)
        if known is not None and known[0] is slot.spec:
            return known[1]
        spec = slot.spec
        if spec.fault:
            return ()
        try:
            with isolated(f"{spec.kind.__name__}.host_nodes()"):
                return tuple(name for name in spec.kind.host_nodes(spec.values) if is_name(name))
        except Exception as error:  # any driver's code; its neighbours must be followed
            _log.warning("cannot find out which hardware of this host belongs to %s: %s", slot, error)
            return ()

    def _find(self, present: Mapping[str, UdevDevice], name: str) -> UdevDevice | None:
        return present.get(name) or present.get(self._links.get(name, name))

    def _look_up(self, name: str) -> UdevDevice | None:
        if (
            name not in self._present
            and name.startswith("/")
            and (target := self._resolve(name)) in self._present
        ):
            self._links[name] = target
        return self._find(self._present, name)

    def _is_known(self, name: str, *, has_links: bool) -> bool:
        """Whether it will be in the tree as soon as it exists."""
        short = name.removeprefix("/dev/")
        is_kernels = short.startswith(_NODES) or (has_links and short.startswith(_LINKS))
        return is_kernels or name in self._present or name in self._gone or name in self._links


def is_name(name: object) -> bool:
    """Whether it is a possible name on the host; drivers return what their configuration says."""
    return isinstance(name, str) and bool(name) and "\0" not in name


def _way_back(board: BoardDevices) -> str:
    """What brings a device back. The USB side of a console often shares its board's power."""
    if any(slot.spec.interface == "power" for slot in board.slots.values()):
        return "plug it in again, or switch the board on if it has its power from there"
    return "plug it in again"


def _by_name(tree: DeviceTree) -> dict[str, UdevDevice]:
    found: dict[str, UdevDevice] = {}
    for device in tree:
        for name in (*device.links, device.node):
            found[name] = device
        if device.is_usb_device:
            found[device.name] = device
    found.pop("", None)
    return found


async def follow_presence(
    inventory: Inventory,
    limiter: trio.CapacityLimiter,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Notify the slots of configured boards in the inventory, until cancelled.

    If devices cannot be read, there are no notifications. Discovered boards are notified by discovery.
    """
    try:
        async with watch_devices(limiter) as watch, trio.open_nursery() as nursery:
            _log.debug("devices of this host: %s", watch.source)
            follower = _Follower(inventory, watch)
            nursery.start_soon(follower.follow_devices)
            nursery.start_soon(follower.follow_boards)
            task_status.started()
    except UdevError as error:
        _log.info("plugged devices are polled, as the host does not announce them: %s", error)
        task_status.started()


class _Follower:
    def __init__(self, inventory: Inventory, watch: DeviceWatch) -> None:
        self._inventory = inventory
        self._watch = watch
        self._presence = DevicePresence()
        self._slots: list[Slot] = []

    async def follow_devices(self) -> None:
        with subscribed(self._watch) as changes:
            async for _ in changes:
                self._update()

    async def follow_boards(self) -> None:
        """The boards' devices may have changed."""
        with subscribed(self._inventory) as changes:
            async for _ in changes:
                if _slots(self._configured()) != self._slots:
                    self._update()

    def _configured(self) -> list[BoardDevices]:
        return [board for board in self._inventory.boards.values() if not board.is_discovered]

    def _update(self) -> None:
        boards = self._configured()
        self._slots = _slots(boards)
        self._presence.update(
            self._watch.tree,
            boards,
            now=datetime.datetime.now(),  # noqa: DTZ005 - for people at the host, in local time
            told=self._watch.hears_events and self._watch.has_nodes,
        )


def _slots(boards: Iterable[BoardDevices]) -> list[Slot]:
    return [slot for board in boards for slot in board.slots.values()]
