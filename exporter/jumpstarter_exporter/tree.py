"""The devices of a session: nodes by UUID, in the order of a report, with every `ref` led to its target."""

from __future__ import annotations

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
        places = {node.path: node for node in self.nodes}
        self.entries: list[Entry] = [
            Entry(places[line.path], None if line.parent is None else places[line.parent], line.name)
            for line in self.devices.lines
            if line.path in places and (line.parent is None or line.parent in places)
        ]
        """Depth first, parents before their children."""

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

        Shielded, and bounded for each.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    nursery.start_soon(node.end_session)
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
