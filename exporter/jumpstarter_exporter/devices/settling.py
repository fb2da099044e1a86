"""Decides when a changed tree of devices is complete: udev events and enumerations in, trees out. No I/O.

One plug makes about ten events within a fifth of a second, in which a USB device, its interfaces and their nodes come
one by one. What is plugged in at one USB port changes as one thing, by these rules:

- A USB device that came is settled when udev says that it is bound: the kernel says so after its interfaces have their
drivers. Nodes whose driver is only being loaded come later, and count by themselves. - A node that came is enough. If
more of its USB device, or partitions of its disk, are to come, those that come within `NODE_SECONDS` of each other are
one change. - A node that went counts at once; the rest of its USB device until that is gone is one change. - `change`,
`bind` and `unbind` say something of a device, never whether it is there. - Nothing waits for longer than
`LIMIT_SECONDS`, or, before it is shown as there again, `FLAP_SECONDS` if it comes and goes all the time; no USB device
waits for another, except that a hub is shown before what hangs on it.
"""

from __future__ import annotations

import enum
import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = [
    "ARRIVAL_SECONDS",
    "FLAP_COUNT",
    "FLAP_SECONDS",
    "FLAP_WINDOW_SECONDS",
    "LIMIT_SECONDS",
    "NODE_SECONDS",
    "Settling",
]

NODE_SECONDS = 0.05
"""Nodes of one USB device that appear within this time of each other are one change."""
ARRIVAL_SECONDS = 0.3
"""A USB device without nodes that udev does not report as bound is complete this long after its last event."""
LIMIT_SECONDS = 0.5
"""No event waits longer for more events of its device."""
FLAP_COUNT = 8
"""A device that changed `FLAP_COUNT` times within `FLAP_WINDOW_SECONDS` is shown only every `FLAP_SECONDS`."""
FLAP_WINDOW_SECONDS = 4.0
FLAP_SECONDS = 1.0

_USB_DEVICE = re.compile(r".*/(usb\d+|\d+-[\d.]+)(?=/|$)")
_DISK = re.compile(r".*/block/[^/]+")


class _Phase(enum.Enum):
    """The phase of a USB device, or of a device that is not on USB."""

    STEADY = "steady"
    ARRIVING = "arriving"
    """It was plugged in, and more of it will come."""
    LEAVING = "leaving"
    """Parts of it are gone, and the rest will follow."""


@dataclass
class _Unit:
    """A unit of change, and its changes that are not shown yet."""

    phase: _Phase = _Phase.STEADY
    dirty: set[str] = field(default_factory=set)
    """Paths of devices with such changes."""
    first: float = math.inf
    """When the first of them arrived."""
    last: float = -math.inf
    """When the last of all its events arrived, shown or not."""
    urgent: bool = False
    has_node: bool = False
    shown: deque[float] = field(default_factory=lambda: deque(maxlen=FLAP_COUNT))
    """When it was last shown, as far as it matters for flapping."""

    def touch(self, path: str, now: float) -> None:
        if now - self.last > LIMIT_SECONDS:
            self.phase = _Phase.STEADY
        self.dirty.add(path)
        self.first = min(self.first, now)
        self.last = now

    def due(self) -> float:
        """When its changes must be shown; infinite if it has none."""
        if not self.dirty:
            return math.inf
        if self.urgent or self.phase is _Phase.STEADY:
            due = self.first
        else:
            quiet = NODE_SECONDS if self.has_node or self.phase is _Phase.LEAVING else ARRIVAL_SECONDS
            due = self.last + quiet
        due = min(due, self.first + LIMIT_SECONDS)
        if self.urgent:
            return due
        if len(self.shown) == FLAP_COUNT and self.shown[-1] - self.shown[0] < FLAP_WINDOW_SECONDS:
            due = max(due, self.shown[-1] + FLAP_SECONDS)
        return due

    def show(self, now: float) -> None:
        """Its changes are shown. Urgency ends: the rest is not shown piece by piece."""
        if not self.urgent:
            self.phase = _Phase.STEADY
        self.clear()
        self.shown.append(now)

    def clear(self) -> None:
        self.dirty = set()
        self.first = math.inf
        self.urgent = self.has_node = False

    def is_forgettable(self, now: float) -> bool:
        return not self.dirty and (not self.shown or now - self.shown[-1] > FLAP_WINDOW_SECONDS)


class Settling:
    """The devices as they are shown, and what was heard since.

    Who compares two trees finds the same object for a device that is still plugged in, and says the same of itself; one
    that was unplugged and plugged in again has a new one. Nothing is shown before the first enumeration.

    Around each enumeration: `begin_enumeration` once it is certain that every event that comes from now on will be
    heard, and `end_enumeration` with what was found; events that come in between count on top of that. Times are those
    of any clock that only goes forward.
    """

    def __init__(self) -> None:
        self._current: dict[str, UdevDevice] = {}
        self._shown: dict[str, UdevDevice] = {}
        self._units: dict[str, _Unit] = {}
        self._held: list[tuple[str, UdevDevice, float]] | None = []
        """Events that wait for an enumeration; None if there is none."""
        self._new = self._started = False

    def begin_enumeration(self) -> None:
        """Events of an earlier enumeration that did not end stay in the queue."""
        if self._held is None:
            self._held = []

    def end_enumeration(self, tree: DeviceTree, *, lost: bool = False) -> None:
        """The enumeration is complete: these devices existed at some time since it began. They are shown at once.

        Where events were `lost`, each may be another one than before, as after `remove` and `add`.
        """
        held, self._held = self._held or [], None
        found = {device.path: device for device in tree}
        self._new = self._new or not self._started or lost or found != self._shown
        if not lost:
            found = {path: self._same(device) for path, device in found.items()}
        self._started = True
        self._current, self._shown = found, dict(found)
        for unit in self._units.values():
            unit.clear()
        for action, device, when in held:
            self._apply(action, device, when)

    def event(self, action: str, device: UdevDevice, now: float) -> None:
        """Add an event. `device` is its state after the event; of a removed one only the path matters."""
        if self._held is not None:
            self._held.append((action, device, now))
        else:
            self._apply(action, device, now)

    def due(self) -> float:
        """When `take` may return a tree; infinite if only an event can change that."""
        if self._held is not None:
            return math.inf
        if self._new:
            return -math.inf
        return min((unit.due() for unit in self._units.values()), default=math.inf)

    def take(self, now: float) -> DeviceTree | None:
        """The devices that are complete now; None if nothing has changed."""
        if self._held is not None:
            return None
        changed, self._new = self._new, False
        for key in self._due_with_relatives(now):
            unit = self._units[key]
            for path in unit.dirty:
                device = self._current.get(path)
                changed = changed or self._shown.get(path) is not device
                if device is None:
                    self._shown.pop(path, None)
                else:
                    self._shown[path] = device
            unit.show(now)
        for key in [key for key, unit in self._units.items() if unit.is_forgettable(now)]:
            del self._units[key]
        return DeviceTree(self._shown.values()) if changed else None

    def _due_with_relatives(self, now: float) -> set[str]:
        """No device is shown without those above it, and none above it is removed without it."""
        due = {key for key, unit in self._units.items() if unit.due() <= now}
        gone = tuple(f"{key}/" for key in due if key not in self._current)
        if gone:
            due |= {key for key, unit in self._units.items() if unit.dirty and key.startswith(gone)}
        for key in tuple(due):
            due |= {above for above in _above(key) if above in self._units and self._units[above].dirty}
        return due

    def _apply(self, action: str, device: UdevDevice, now: float) -> None:
        path = device.path
        if action == "remove":
            self._remove(path, now)
        elif action == "move":
            self._move(device, now)
        elif action == "add":
            self._add(device, now)
        elif path in self._current:
            self._current[path] = self._same(device)
            unit = self._touch(path, now)
            if action == "bind" and device.is_usb_device and unit.phase is _Phase.ARRIVING:
                unit.phase = _Phase.STEADY

    def _same(self, device: UdevDevice) -> UdevDevice:
        """The existing record if nothing in it has changed."""
        known = self._current.get(device.path)
        return known if known == device and known is not None else device

    def _add(self, device: UdevDevice, now: float) -> None:
        known = device.path in self._current
        self._current[device.path] = self._same(device)
        unit = self._touch(device.path, now)
        if known:
            return
        if device.is_usb_device or (device.type == "disk" and "ID_PART_TABLE_TYPE" in device.properties):
            unit.phase = _Phase.ARRIVING
        unit.has_node = unit.has_node or _has_node(device)

    def _remove(self, path: str, now: float) -> None:
        """Without its parent a device does not exist."""
        below = f"{path}/"
        for gone in [one for one in self._current if one == path or one.startswith(below)]:
            device = self._current.pop(gone)
            key = _unit_key(gone)
            unit = self._touch(gone, now)
            unit.urgent = unit.urgent or gone == key or gone != path or _has_node(device)
            unit.phase = _Phase.STEADY if gone == key else _Phase.LEAVING

    def _move(self, device: UdevDevice, now: float) -> None:
        old = device.properties.get("DEVPATH_OLD", "")
        moved = [one for one in self._current if old and (one == old or one.startswith(f"{old}/"))]
        for before in moved:
            record = self._current.pop(before)
            self._touch(before, now)
            after = device.path + before.removeprefix(old)
            properties = record.properties
            if "DEVPATH" in properties:
                properties = {**properties, "DEVPATH": after}
            self._current[after] = replace(record, path=after, properties=properties)
            self._touch(after, now)
        properties = {key: value for key, value in device.properties.items() if key != "DEVPATH_OLD"}
        self._current[device.path] = replace(device, properties=properties)
        self._touch(device.path, now)

    def _touch(self, path: str, now: float) -> _Unit:
        unit = self._units.setdefault(_unit_key(path), _Unit())
        unit.touch(path, now)
        return unit


def _has_node(device: UdevDevice) -> bool:
    """A node that a driver opens; those of USB devices appear with the devices."""
    return bool(device.node) and not device.is_usb_device


def _unit_key(path: str) -> str:
    """The path of its USB device; else of its disk; else its own."""
    found = _USB_DEVICE.match(path) or _DISK.match(path)
    return found.group() if found else path


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
