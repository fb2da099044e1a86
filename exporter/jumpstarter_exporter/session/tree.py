"""The devices of a session: nodes by UUID, in the order of a report, with each `ref` resolved to its target."""

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
from jumpstarter_exporter.session.node import SessionNode

__all__ = ["Tree", "TreeEntry", "TreeError"]


@dataclass(frozen=True)
class TreeEntry:
    """One line of a report. A node appears under its own name and once more for each `ref` to it."""

    node: SessionNode
    parent: SessionNode | None
    name: str


class Tree:
    """Driver objects for all devices of a board, or for drivers that were created by hand.

    Raises:
        TreeError: drivers that were created by hand do not form a tree, for example if one is in two places.
    """

    def __init__(self, devices: BoardDevices | Driver) -> None:
        self.devices = BoardDevices.of(devices) if isinstance(devices, Driver) else devices
        self._nodes: dict[str, SessionNode] = {}
        self.root = self._grow(self.devices.make(), "", None)
        self.entries: list[TreeEntry] = []
        """Depth first, parents before their children."""
        self._list()

    def update(self) -> list[SessionNode]:
        """Update the nodes to the board's current devices. Returns the nodes that are gone.

        The caller closes them; new devices are closed. A group keeps its unchanged members; any other device that has
        changed, or one of its parts, is created again with all of its parts.
        """
        left: list[SessionNode] = []
        self._update(self.root, self.devices.spec, left)
        self._list()
        return left

    def _update(self, group: SessionNode, spec: Spec, left: list[SessionNode]) -> None:
        """Update the members of a group."""
        children: dict[str, Driver] = {}
        for name, node in list(group.children.items()):
            now = spec.children.get(name)
            if now is None or not self._goes_on(node, now):
                del group.children[name]
                for one in _all(node):  # each of them: a group is never open, and closes no others
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
        # In the order of the specification, as in a report.
        group.children = {name: group.children[name] for name in spec.children if name in group.children}
        group.driver.children = children

    def _goes_on(self, node: SessionNode, spec: Spec) -> bool:
        """Whether the driver objects still match the device, and its parts if it is not a group."""
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
            TreeEntry(places[line.path], None if line.parent is None else places[line.parent], line.name)
            for line in self.devices.lines
            if line.path in places and (line.parent is None or line.parent in places)
        ]

    @property
    def nodes(self) -> list[SessionNode]:
        """Every device once, parents first."""
        return list(self._nodes.values())

    def find(self, uuid: str) -> SessionNode | None:
        """The device with that UUID in canonical form."""
        return self._nodes.get(uuid)

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Allow devices to be opened, in this nursery."""
        for node in self.nodes:
            node.attach(nursery)

    async def keep_open(self) -> None:
        """Open devices that want it without waiting for a user, and again after a failure, until cancelled."""
        await keep_open(self.devices, lambda: [node for node in self.nodes if node.opens_at_start])

    async def close(self) -> None:
        """Set all devices as configured between sessions, and close them, children first.

        Shielded, with a time limit for each. No device can be opened afterwards.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    nursery.start_soon(node.end_session)
            # Code that was left running must not open a device now: that would keep the session from ending.
            self.attach(None)
            # Closing a parent closes its children first, but a child may be open under a parent that failed.
            for node in self.nodes:
                await node.shut()
            for node in self.nodes:
                if node.was_used and node.slot.core is not None:
                    await node.slot.core.restore()

    def _grow(self, driver: Driver, name: str, parent: SessionNode | None) -> SessionNode:
        path = f"{parent.path}.{name}" if parent is not None and parent.path else name
        node = SessionNode(driver, name, parent, self.devices.slot(path, driver))
        self._nodes[str(driver.uuid)] = node
        for child_name, child in driver.children.items():
            if not isinstance(child, Proxy):
                node.children[child_name] = self._grow(child, child_name, node)
        return node


def _is_group(spec: Spec) -> bool:
    """Whether it only contains other devices, so that its driver object may stay while those change."""
    return spec.kind is Composite and not spec.fault


def _all(node: SessionNode) -> Iterator[SessionNode]:
    yield node
    for child in node.children.values():
        yield from _all(child)


def _known(node: SessionNode) -> set[str]:
    return {one.path for one in _all(node)}
