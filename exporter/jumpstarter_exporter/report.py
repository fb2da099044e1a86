"""What the exporter tells about its devices: the tree as GetReport sends it."""

from __future__ import annotations

from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.tree import Entry, Tree

__all__ = ["CLIENT", "INTERFACE", "NAME", "REASON", "STATE", "instance_reports"]

CLIENT = "jumpstarter.dev/client"
NAME = "jumpstarter.dev/name"
# The three below are ours; other clients ignore them.
STATE = "jumpstarter.dev/state"
REASON = "jumpstarter.dev/reason"
INTERFACE = "jumpstarter.dev/interface"


def instance_reports(tree: Tree) -> list[jumpstarter_pb2.DriverInstanceReport]:
    """All devices, depth first, parents before their children. A `ref` repeats its target, UUID and all."""
    return [_instance(entry) for entry in tree.entries]


def _instance(entry: Entry) -> jumpstarter_pb2.DriverInstanceReport:
    driver = entry.node.driver
    labels = driver.labels | driver.extra_labels() | {CLIENT: driver.client, STATE: driver.life.state}
    if entry.parent is not None:
        labels[NAME] = entry.name
    if driver.interface:
        labels[INTERFACE] = driver.interface
    if reason := driver.life.reason:
        labels[REASON] = reason
    return jumpstarter_pb2.DriverInstanceReport(
        uuid=str(driver.uuid),
        parent_uuid=None if entry.parent is None else str(entry.parent.driver.uuid),
        labels=labels,
        description=driver.description or None,
        methods_description=driver.methods_description,
    )
