"""The exporter's status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_exporter.status import TRANSITIONS, StatusMachine, StatusReport


@given(st.lists(st.tuples(st.sampled_from(ExporterStatus), st.text())))
def test_only_ways_of_the_table_are_gone_and_each_counts_one(steps: list[tuple[ExporterStatus, str]]) -> None:
    machine = StatusMachine()
    for status, message in steps:
        before = machine.report
        if status is before.status or status in TRANSITIONS[before.status]:
            machine.change(status, message)
            assert machine.report == StatusReport(status, message, before.version + 1, before.status)
        else:
            with pytest.raises(JumpstarterUsageError):
                machine.change(status, message)
            assert machine.report == before


WAYS = """
    AVAILABLE: BEFORE_LEASE_HOOK LEASE_READY OFFLINE
    BEFORE_LEASE_HOOK: LEASE_READY BEFORE_LEASE_HOOK_FAILED AFTER_LEASE_HOOK AVAILABLE OFFLINE
    LEASE_READY: AFTER_LEASE_HOOK AVAILABLE OFFLINE
    AFTER_LEASE_HOOK: AVAILABLE AFTER_LEASE_HOOK_FAILED OFFLINE
    BEFORE_LEASE_HOOK_FAILED: AVAILABLE OFFLINE
    AFTER_LEASE_HOOK_FAILED: AVAILABLE OFFLINE
    OFFLINE:
"""
"""As a lease goes: each step that users may see."""


@pytest.mark.parametrize("line", WAYS.split("\n")[1:-1])
def test_a_lease_goes_its_way_and_no_other(line: str) -> None:
    before, _, after = line.strip().partition(":")
    assert {status.name for status in TRANSITIONS[ExporterStatus[before]]} == set(after.split())


def test_whether_somebody_was_told_of_the_newest_is_known() -> None:
    machine = StatusMachine()
    told: list[int] = []
    changes: list[StatusReport] = []
    machine.on_read, machine.on_change = (lambda: told.append(1)), changes.append
    assert not machine.is_read
    assert machine.read() == machine.report
    assert (machine.is_read, told, changes) == (True, [1], [])
    machine.change(ExporterStatus.LEASE_READY, "Ready for commands")
    assert (machine.is_read, told, changes) == (False, [1], [machine.report])
    assert machine.read().message == "Ready for commands"
    assert (machine.is_read, told) == (True, [1, 1])
    machine.change(ExporterStatus.LEASE_READY, "still")
    assert not machine.is_read, "the same status with other words is another"


def test_a_fresh_one_is_available_at_version_0_and_has_no_previous() -> None:
    assert StatusMachine().report == StatusReport(ExporterStatus.AVAILABLE, "", 0, None)


def test_values_are_the_wires() -> None:
    wire = dict(common_pb2.ExporterStatus.items())
    assert {f"EXPORTER_STATUS_{status.name}": status.value for status in ExporterStatus} == wire


def test_a_lease_with_hooks_passes() -> None:
    machine = StatusMachine()
    for status in (
        ExporterStatus.BEFORE_LEASE_HOOK,
        ExporterStatus.LEASE_READY,
        ExporterStatus.AFTER_LEASE_HOOK,
        ExporterStatus.AVAILABLE,
        ExporterStatus.AVAILABLE,
    ):
        machine.change(status)
    assert machine.report.version == 5
