"""The report of a board's devices, as GetReport and Register send it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from jumpstarter_proto.report_labels import CLIENT, HOOKS, INTERFACE, NAME, REASON, STATE, UNTRIED
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.config.model import Hooks
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.layout import TreeLine
from jumpstarter_exporter.devices.look import look_at
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.forwarding import ForwardingDriver
from jumpstarter_exporter.isolation import isolated
from jumpstarter_exporter.session.tree import Tree, TreeEntry

__all__ = [
    "CLIENT",
    "HOOKS",
    "INTERFACE",
    "NAME",
    "REASON",
    "STATE",
    "UNTRIED",
    "add_hooks",
    "add_looks",
    "board_reports",
    "instance_reports",
]

MAX_REPORT_SIZE = 64 * 1024
"""Bytes of one device's report; all reports go in one message."""


def instance_reports(tree: Tree) -> list[jumpstarter_pb2.DriverInstanceReport]:
    """A session's devices, depth first, parents before their children.

    A `ref` repeats its target with the same UUID.
    """
    return [_instance(entry) for entry in tree.entries]


def board_reports(devices: BoardDevices) -> list[jumpstarter_pb2.DriverInstanceReport]:
    """The same without a session: what is known of a board's devices at any time."""
    return [_known(line, devices.slots) for line in devices.lines]


def add_hooks(reports: Sequence[jumpstarter_pb2.DriverInstanceReport], hooks: Hooks) -> None:
    """Add to the root's report which hooks there are. Their scripts stay here: they may contain secrets."""
    named = (("beforeLease", hooks.before_lease), ("afterLease", hooks.after_lease))
    found = [f"{name}:{hook.timeout}:{hook.on_failure}" for name, hook in named if hook is not None]
    if found:
        reports[0].labels[HOOKS] = ",".join(found)


async def add_looks(report: jumpstarter_pb2.GetReportResponse, devices: BoardDevices) -> None:
    """Add to a report what can be seen of devices that nobody has tried."""
    looks = {str(uuid): found for uuid, found in (await look_at(devices)).items()}
    for one in report.reports:
        if one.uuid in looks:
            one.labels[STATE], one.labels[REASON] = looks[one.uuid]
            if one.labels[STATE] != State.READY and UNTRIED in one.labels:
                del one.labels[UNTRIED]


def _instance(entry: TreeEntry) -> jumpstarter_pb2.DriverInstanceReport:
    driver = entry.node.driver
    parent = None if entry.parent is None else entry.parent.driver.uuid
    try:
        with isolated("its report"):
            slot = entry.node.slot
            if type(driver).extra_labels is not Driver.extra_labels:
                slot.labels = dict(driver.extra_labels())
            own = {**slot.spec.given_labels, **driver.labels, **slot.labels}
            if isinstance(driver, ForwardingDriver):
                own |= driver.process_labels
            labels = _labels(own, slot, driver.interface)
            report = _report(driver.uuid, parent, entry.name, labels, client=driver.client)
            _add_interfaces(report, slot.spec)
            return _described(report, driver.description, driver.methods_description)
    except Exception as error:  # any driver's texts; its neighbours must be reported, too
        return _unknown(_report(driver.uuid, parent, entry.name, {}, client=type(driver).client), error)
    raise AssertionError


def _known(line: TreeLine, slots: Mapping[str, Slot]) -> jumpstarter_pb2.DriverInstanceReport:
    slot = slots[line.path]
    spec = slot.spec
    parent = None if line.parent is None else slots[line.parent].uuid
    try:
        own = {**spec.given_labels, **spec.values.get("labels", {}), **slot.labels}
        labels = _labels(own, slot, spec.interface)
        report = _report(slot.uuid, parent, line.name, labels, client=spec.client)
        _add_interfaces(report, spec)
        return _described(report, spec.description, spec.methods_description)
    except Exception as error:  # the labels and the reason come from a driver's code
        return _unknown(_report(slot.uuid, parent, line.name, {}, client=spec.client), error)


def _labels(own: Mapping[str, str], slot: Slot, interface: str) -> dict[str, str]:
    labels = dict(own)
    labels[STATE] = slot.state
    if slot.is_untried:
        labels[UNTRIED] = "true"
    if interface:
        labels[INTERFACE] = interface
    if reason := slot.reason:
        labels[REASON] = reason
    return labels


def _report(
    uuid: UUID, parent: UUID | None, name: str, labels: dict[str, str], *, client: str
) -> jumpstarter_pb2.DriverInstanceReport:
    labels[CLIENT] = client
    if parent is not None:
        labels[NAME] = name
    return jumpstarter_pb2.DriverInstanceReport(
        uuid=str(uuid), parent_uuid=None if parent is None else str(parent), labels=labels
    )


def _add_interfaces(report: jumpstarter_pb2.DriverInstanceReport, spec: Spec) -> None:
    interfaces = spec.grpc_interfaces
    report.native_services.extend(interface.service for interface in interfaces)
    if interfaces and (descriptor := interfaces[0].descriptor()):
        report.file_descriptor_proto = descriptor


def _described(
    report: jumpstarter_pb2.DriverInstanceReport, description: str | None, methods: Mapping[str, str]
) -> jumpstarter_pb2.DriverInstanceReport:
    if description:
        report.description = description
    report.methods_description.update(methods)
    if (size := report.ByteSize()) > MAX_REPORT_SIZE:
        raise ValueError(f"it has {size} bytes and at most {MAX_REPORT_SIZE} are sent; shorten its texts")
    return report


def _unknown(
    report: jumpstarter_pb2.DriverInstanceReport, error: Exception
) -> jumpstarter_pb2.DriverInstanceReport:
    report.labels.update({STATE: State.FAILED, REASON: f"its report cannot be made: {error}"})
    return report
