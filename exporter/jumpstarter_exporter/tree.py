"""The devices of a session: nodes by UUID, in the order of a report, with every `ref` led to its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from jumpstarter_exporter.composite import Proxy
from jumpstarter_exporter.devices.cores import keep_open
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.layout import TreeError
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.node import Node

__all__ = ["Entry", "Tree", "TreeError"]


@dataclass(frozen=True)
class Entry:
    """One line of a report. A node appears once under its own name and once more for each `ref` to it."""

    node: Node
    parent: Node | None
    name: str


class Tree:
    """Driver objects for all devices of a board; those of `devices`, if they are drivers that were made by hand.

    Raises:
        TreeError: drivers made by hand cannot make a tree, such as one driver in two places.
    """

    def __init__(self, devices: BoardDevices | Driver) -> None:
        self.devices = BoardDevices.of(devices) if isinstance(devices, Driver) else devices
        self._nodes: dict[str, Node] = {}
        self.root = self._grow(self.devices.make(), "", None)
        self.entries: list[Entry] = []
        """Depth first, parents before their children."""
        self._list()

    def update(self) -> list[Node]:
        """Have what the board consists of now, where that has changed below the root. Nodes that are left are returned.

        They are to be closed; a device that is new is closed.
        """
        slots = self.devices.slots
        left = []
        for name, node in list(self.root.children.items()):
            if any(slots.get(one.path) is not one.slot for one in _all(node)) or _known(node) != {
                path for path in slots if path == node.path or path.startswith(f"{node.path}.")
            }:
                left.append(self.root.children.pop(name))
                for one in _all(node):
                    del self._nodes[str(one.driver.uuid)]
        children: dict[str, Driver] = {}
        for name, spec in self.devices.spec.children.items():
            if name in self.root.children:
                children[name] = self.root.driver.children[name]
                continue
            children[name] = spec.make()
            if spec.ref is None:
                self.root.children[name] = self._grow(children[name], name, self.root)
        self.root.driver.children = children
        self._list()
        return left

    def _list(self) -> None:
        places = {node.path: node for node in self.nodes}
        self.entries = [
            Entry(places[line.path], None if line.parent is None else places[line.parent], line.name)
            for line in self.devices.lines
            if line.path in places and (line.parent is None or line.parent in places)
        ]

    @property
    def nodes(self) -> list[Node]:
        """Every device once, parents first."""
        return list(self._nodes.values())

    def find(self, uuid: str) -> Node | None:
        """The device with that UUID, in canonical form."""
        return self._nodes.get(uuid)

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Let devices be opened; they live in this nursery."""
        for node in self.nodes:
            node.attach(nursery)

    async def keep_open(self) -> None:
        """Open the devices that want it without waiting for a user, and again after a failure; until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                if node.opens_at_start:
                    nursery.start_soon(keep_open, node)

    async def close(self) -> None:
        """Leave all devices as they are configured for between sessions, and close them, children first.

        Shielded, and bounded for each. Nothing can be opened from then on.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    nursery.start_soon(node.end_session)
            # Code that has been left may run still: what it opened now would keep the session from ending.
            self.attach(None)
            # Closing a parent closes its children first, but a child may be open under a parent that failed.
            for node in self.nodes:
                await node.shut()
            for node in self.nodes:
                if node.was_used and node.slot.core is not None:
                    await node.slot.core.restore()

    def _grow(self, driver: Driver, name: str, parent: Node | None) -> Node:
        path = f"{parent.path}.{name}" if parent is not None and parent.path else name
        node = Node(driver, name, parent, self.devices.slot(path, driver))
        self._nodes[str(driver.uuid)] = node
        for child_name, child in driver.children.items():
            if not isinstance(child, Proxy):
                node.children[child_name] = self._grow(child, child_name, node)
        return node


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children.values():
        yield from _all(child)


def _known(node: Node) -> set[str]:
    return {one.path for one in _all(node)}
