"""What the exporter tells about its devices: the tree as GetReport sends it."""

from __future__ import annotations

from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.devices.state import State
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.guests import contained
from jumpstarter_exporter.tree import Entry, Tree

__all__ = ["CLIENT", "INTERFACE", "NAME", "REASON", "STATE", "instance_reports"]

CLIENT = "jumpstarter.dev/client"
NAME = "jumpstarter.dev/name"
# The three below are ours; other clients ignore them.
STATE = "jumpstarter.dev/state"
REASON = "jumpstarter.dev/reason"
INTERFACE = "jumpstarter.dev/interface"

MAX_REPORT_SIZE = 64 * 1024
"""Bytes of one device's report; all of them go in one message."""


def instance_reports(tree: Tree) -> list[jumpstarter_pb2.DriverInstanceReport]:
    """All devices, depth first, parents before their children. A `ref` repeats its target, UUID and all."""
    return [_instance(entry) for entry in tree.entries]


def _instance(entry: Entry) -> jumpstarter_pb2.DriverInstanceReport:
    try:
        with contained("its report"):
            return _full(entry)
    except Exception as error:  # any driver's texts; its neighbours must be reported too
        driver = entry.node.driver
        return _report(
            entry,
            {STATE: State.FAILED, REASON: f"its report cannot be made: {error}"},
            client=type(driver).client,
        )


def _full(entry: Entry) -> jumpstarter_pb2.DriverInstanceReport:
    driver = entry.node.driver
    labels = dict(driver.labels)
    if type(driver).extra_labels is not Driver.extra_labels:
        labels |= driver.extra_labels()
    labels[STATE] = driver.life.state
    if driver.interface:
        labels[INTERFACE] = driver.interface
    if reason := driver.life.reason:
        labels[REASON] = reason
    report = _report(entry, labels, client=driver.client)
    if driver.description:
        report.description = driver.description
    report.methods_description.update(driver.methods_description)
    if (size := report.ByteSize()) > MAX_REPORT_SIZE:
        raise ValueError(f"it has {size} bytes and at most {MAX_REPORT_SIZE} are sent; shorten its texts")
    return report


def _report(entry: Entry, labels: dict[str, str], *, client: str) -> jumpstarter_pb2.DriverInstanceReport:
    labels[CLIENT] = client
    if entry.parent is not None:
        labels[NAME] = entry.name
    return jumpstarter_pb2.DriverInstanceReport(
        uuid=str(entry.node.driver.uuid),
        parent_uuid=None if entry.parent is None else str(entry.parent.driver.uuid),
        labels=labels,
    )
