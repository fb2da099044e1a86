"""Which discovered device belongs to which board. No I/O.

Without rules all of them are one board that is named as its host. With rules, from `boards.yaml`, a board has the
devices and the USB ports that its rule names, and what hangs on a hub of its own can be a board of its own. What no
rule is for belongs to no board.

`Assignment` goes from one grouping to the next: a device that is new joins its board at once; one that belongs to
another board than before changes when nobody uses either of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

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
"""Of a host, and of a board in `boards.yaml`; both together are the name of an exporter, which has at most 63."""


@dataclass(frozen=True)
class BoardRule:
    """What belongs to one board."""

    name: str
    """As it is written."""
    ports: tuple[str, ...] = ()
    """USB ports such as `1-1.4`, or `1-1.4.*` for all of a hub."""
    devices: tuple[str, ...] = ()
    """Names of devices, or of groups of them, in the tree of what was discovered."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupingRules:
    """What `boards.yaml` says."""

    boards: tuple[BoardRule, ...] = ()
    hubs: tuple[str, ...] = ()
    """Ports of hubs; what hangs on one of them, and on no board's port, is a board."""


@dataclass(frozen=True)
class DiscoveredBoard:
    """A board of discovered devices; what a controller is to know of it."""

    name: str
    """Of the board and of its exporter: `HOST`, or `HOST-BOARD`."""
    labels: Mapping[str, str]
    devices: tuple[KnownDevice, ...]
    """In the order of their names, also those that are not there now."""


@dataclass(frozen=True)
class Unassigned:
    """A device that belongs to no board."""

    device: KnownDevice
    reason: str
    claims: tuple[str, ...] = ()
    """The boards that `boards.yaml` gives it to, if there are several."""


def host_name(name: str) -> str:
    """A host's name as a part of names: its first label, in lower case. `Lab-Pi.example.org` is `lab-pi`."""
    first = re.sub(r"[^a-z0-9-]+", "-", name.partition(".")[0].lower()).strip("-")
    return first[:MAX_NAME_LENGTH].rstrip("-") or "host"


def board_name(host: str, board: str) -> str:
    """The name of a host's board, which begins with that of the host, once."""
    return board if board == host or board.startswith(f"{host}-") else f"{host}-{board}"


def group_devices(
    host: str, rules: GroupingRules | None, devices: Iterable[KnownDevice], *, only: str = ""
) -> tuple[dict[str, DiscoveredBoard], list[Unassigned]]:
    """The boards by name, and what belongs to none; each device is once in there.

    `host` is as `host_name` gives it. Without rules its board, which is named `only` if not as the host, is there even
    if it has no device; with rules, those are there that have one. A device that is named counts before a port, and a
    port before a hub.
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
    """Those with the best claim; several are a mistake of whoever wrote the rules."""
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
    # The hub that is nearest to the host: others below it are parts of what hangs there.
    for hub in _hubs_above(device.port):
        if any(fnmatchcase(hub, wanted) for wanted in rules.hubs):
            return [board_name(host, re.sub(r"[^a-z0-9]+", "-", hub.lower()))]
    return []


def _hubs_above(port: str) -> Iterable[str]:
    """Ports of the hubs through which a port is reached, the one nearest to the host first: 1-1, 1-1.4 for 1-1.4.2."""
    parts = port.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _labels(host: str, name: str, devices: Iterable[KnownDevice]) -> dict[str, str]:
    """Of the exporter: what people choose boards by."""
    board = name.removeprefix(f"{host}-")
    labels = {
        "jumpstarter.dev/host": host,
        "jumpstarter.dev/board": board,
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
                labels[f"jumpstarter.dev/{what}-{word}"] = "true"
    return labels


class Assignment:
    """Which board has which device now, on the way to the newest grouping."""

    def __init__(self) -> None:
        self._boards: dict[str, str] = {}
        """By the device's key."""
        self.waiting: frozenset[str] = frozenset()
        """Boards that are to get or to lose a device when nobody uses them."""

    @property
    def boards(self) -> set[str]:
        """Those that have devices."""
        return set(self._boards.values())

    def update(self, wanted: Mapping[str, str], in_use: Collection[str]) -> Mapping[str, str]:
        """The board of each device from now on, by the device's key. `wanted` is where each is to be.

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
    """Sets of boards that exchange devices with each other, directly or through others."""
    found: list[set[str]] = []
    for board, target in moves:
        touched = {board} if target is None else {board, target}
        for other in [one for one in found if one & touched]:
            found.remove(other)
            touched |= other
        found.append(touched)
    return found
