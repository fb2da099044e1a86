"""The devices of a session: nodes by UUID, in the order of a report, with every `ref` led to its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.devices.cores import keep_open
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.layout import TreeError
from jumpstarter_exporter.devices.spec import Spec
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
        """Have what the board consists of now. Nodes that are left are returned.

        They are to be closed; a device that is new is closed. In a group whatever has not changed stays as it is; any
        other device that has changed, or one of its parts, is made anew with all of its parts.
        """
        left: list[Node] = []
        self._update(self.root, self.devices.spec, left)
        self._list()
        return left

    def _update(self, group: Node, spec: Spec, left: list[Node]) -> None:
        """What is below a group."""
        children: dict[str, Driver] = {}
        for name, node in list(group.children.items()):
            now = spec.children.get(name)
            if now is None or not self._goes_on(node, now):
                del group.children[name]
                for one in _all(node):  # each of them: a group is never open, and closes nobody
                    left.append(one)
                    del self._nodes[str(one.driver.uuid)]
        for name, now in spec.children.items():
            if name in group.children:
                node = group.children[name]
                children[name] = node.driver
                if _is_group(now):
                    self._update(node, now, left)
                continue
            children[name] = now.make()
            children[name].parent_driver = group.driver
            if now.ref is None:
                group.children[name] = self._grow(children[name], name, group)
        # In the order of the specification, as a report lists them.
        group.children = {name: group.children[name] for name in spec.children if name in group.children}
        group.driver.children = children

    def _goes_on(self, node: Node, spec: Spec) -> bool:
        """Whether the session's driver objects are still those of the device, and, if it is no group, of its parts."""
        slots = self.devices.slots
        if slots.get(node.path) is not node.slot:
            return False
        if _is_group(spec):
            return True
        below = {path for path in slots if path == node.path or path.startswith(f"{node.path}.")}
        return _known(node) == below and all(slots.get(one.path) is one.slot for one in _all(node))

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
        await keep_open(self.devices, lambda: [node for node in self.nodes if node.opens_at_start])

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


def _is_group(spec: Spec) -> bool:
    """Whether it is only what is below it, so that its driver object may stay while that changes."""
    return spec.kind is Composite and not spec.fault


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children.values():
        yield from _all(child)


def _known(node: Node) -> set[str]:
    return {one.path for one in _all(node)}
