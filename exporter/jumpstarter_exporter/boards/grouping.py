"""Which discovered device belongs to which board. No I/O.

Without rules, all devices are one board named like the host. With rules from `boards.yaml`, a board has the devices
and USB ports that its rule names, and everything below a named hub can be a board of its own. A device without a rule
belongs to no board.

`Assignment` applies a new grouping: a new device joins its board at once; a device that changes boards moves when
nobody uses either of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from jumpstarter_proto.report_labels import OWN_PREFIX

from jumpstarter_exporter.devices.known import KnownDevice

__all__ = [
    "MAX_NAME_LENGTH",
    "Assignment",
    "BoardRule",
    "DiscoveredBoard",
    "GroupingRules",
    "Unassigned",
    "board_name",
    "group_devices",
    "host_name",
]

MAX_NAME_LENGTH = 30
"""Of a host, and of a board in `boards.yaml`; both form an exporter's name, which has at most 63 characters."""


class BoardRule(msgspec.Struct, frozen=True):
    """What belongs to one board."""

    name: str
    """As written in the file."""
    ports: tuple[str, ...] = ()
    """USB ports such as `1-1.4`, or `1-1.4.*` for all ports of a hub."""
    devices: tuple[str, ...] = ()
    """Names of devices or of groups, in the tree of discovered devices."""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)


class GroupingRules(msgspec.Struct, frozen=True):
    """The content of `boards.yaml`."""

    boards: tuple[BoardRule, ...] = ()
    hubs: tuple[str, ...] = ()
    """Ports of hubs: everything below one of them that is on no board's port is a board."""


class DiscoveredBoard(msgspec.Struct, frozen=True):
    """A board of discovered devices, as it is registered."""

    name: str
    """The board's and its exporter's name: `HOST`, or `HOST-BOARD`."""
    labels: Mapping[str, str]
    devices: tuple[KnownDevice, ...]
    """Ordered by name; missing devices are included."""


class Unassigned(msgspec.Struct, frozen=True):
    """A device that belongs to no board."""

    device: KnownDevice
    reason: str
    claims: tuple[str, ...] = ()
    """The boards that `boards.yaml` assigns it to, if there are several."""


def host_name(name: str) -> str:
    """A host's name as part of other names: its first label in lower case, so `Lab-Pi.example.org` becomes `lab-pi`."""
    first = re.sub(r"[^a-z0-9-]+", "-", name.partition(".")[0].lower()).strip("-")
    return first[:MAX_NAME_LENGTH].rstrip("-") or "host"


def board_name(host: str, board: str) -> str:
    """The name of a host's board; it begins with the host's name, once."""
    return board if board == host or board.startswith(f"{host}-") else f"{host}-{board}"


def group_devices(
    host: str, rules: GroupingRules | None, devices: Iterable[KnownDevice], *, only: str = ""
) -> tuple[dict[str, DiscoveredBoard], list[Unassigned]]:
    """The boards by name, and the devices that belong to none.

    `host` is a result of `host_name`. Without rules there is one board, named `only` or else like the host, even
    without devices; with rules, boards without devices are left out. A device's name has precedence over its port, and
    the port over a hub.
    """
    members: dict[str, list[KnownDevice]] = defaultdict(list)
    unassigned: list[Unassigned] = []
    own_labels: dict[str, Mapping[str, str]] = {}
    if rules is None:
        members[only or host] = []
    else:
        own_labels = {board_name(host, rule.name): rule.labels for rule in rules.boards}
    for device in sorted(devices, key=lambda one: one.path):
        if rules is None:
            members[only or host].append(device)
            continue
        boards = _boards_of(host, rules, device)
        if len(boards) == 1:
            members[boards[0]].append(device)
        elif boards:
            reason = f"boards.yaml gives it to {' and to '.join(boards)}; take it from one of them"
            unassigned.append(Unassigned(device, reason, tuple(boards)))
        else:
            where = f"it or its port {device.port}" if device.port else "it"
            unassigned.append(Unassigned(device, f"no board in boards.yaml names {where}"))
    boards_found = {
        name: DiscoveredBoard(name, {**own_labels.get(name, {}), **_labels(host, name, found)}, tuple(found))
        for name, found in members.items()
    }
    return boards_found, unassigned


def _boards_of(host: str, rules: GroupingRules, device: KnownDevice) -> Sequence[str]:
    """The boards with the best match; several are an error in the rules."""
    named = {
        board_name(host, rule.name)
        for rule in rules.boards
        if device.path in rule.devices or (device.group and device.group in rule.devices)
    }
    if named:
        return sorted(named)
    by_port = {
        board_name(host, rule.name)
        for rule in rules.boards
        if device.port and any(fnmatchcase(device.port, port) for port in rule.ports)
    }
    if by_port:
        return sorted(by_port)
    # The hub nearest to the host: further hubs below it are parts of that board.
    for hub in _hubs_above(device.port):
        if any(fnmatchcase(hub, wanted) for wanted in rules.hubs):
            return [board_name(host, re.sub(r"[^a-z0-9]+", "-", hub.lower()))]
    return []


def _hubs_above(port: str) -> Iterable[str]:
    """Ports of the hubs above a port, the one nearest to the host first: 1-1, 1-1.4 for 1-1.4.2."""
    parts = port.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _labels(host: str, name: str, devices: Iterable[KnownDevice]) -> dict[str, str]:
    """Of the exporter: what people choose boards by."""
    board = name.removeprefix(f"{host}-")
    labels = {
        f"{OWN_PREFIX}host": host,
        f"{OWN_PREFIX}board": board,
        "host": host,
        "board": board,
    }
    for device in devices:
        for what, value in (
            ("interface", device.interface),
            ("vendor", device.vendor),
            ("model", device.model),
        ):
            if word := re.sub(r"[^a-z0-9_.]+", "-", value.lower()).strip("-_.")[:50].rstrip("-_."):
                labels[f"{OWN_PREFIX}{what}-{word}"] = "true"
    return labels


class Assignment:
    """Which board has which device while a new grouping is applied."""

    def __init__(self) -> None:
        self._boards: dict[str, str] = {}
        """By the device's key."""
        self.waiting: frozenset[str] = frozenset()
        """Boards that get or lose a device as soon as nobody uses them."""

    @property
    def boards(self) -> set[str]:
        """The boards that have devices."""
        return set(self._boards.values())

    def update(self, wanted: Mapping[str, str], in_use: Collection[str]) -> Mapping[str, str]:
        """The board of each device from now on, by the device's key. `wanted` is the new grouping.

        Boards that exchange devices change together, when none of them is `in_use`.
        """
        for key, board in wanted.items():
            self._boards.setdefault(key, board)
        moves = {
            key: (board, wanted.get(key)) for key, board in self._boards.items() if wanted.get(key) != board
        }
        waiting: set[str] = set()
        for touched in _connected(moves.values()):
            if touched & set(in_use):
                waiting |= touched
        for key, (board, target) in moves.items():
            if board in waiting:
                continue
            if target is None:
                del self._boards[key]
            else:
                self._boards[key] = target
        self.waiting = frozenset(waiting)
        return dict(self._boards)


def _connected(moves: Iterable[tuple[str, str | None]]) -> list[set[str]]:
    """Groups of boards that exchange devices, directly or through others."""
    found: list[set[str]] = []
    for board, target in moves:
        touched = {board} if target is None else {board, target}
        for other in [one for one in found if one & touched]:
            found.remove(other)
            touched |= other
        found.append(touched)
    return found
