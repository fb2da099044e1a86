"""What the journal keeps of the calls that exporters report, whatever they say."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2 as pb
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from msgspec.structs import replace

from jumpstarter_controller.audit import AuditEntry, AuditLog, AuditQuery, CallReport, Source
from jumpstarter_controller.audit.audit_file import AuditFile
from jumpstarter_controller.audit.lease_owners import MAX_OWNERS, LeaseOwners
from jumpstarter_controller.audit.rates import BURST_ENTRIES
from jumpstarter_controller.lab import Exporter, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.call_reports import MAX_AGE, MAX_CALLS, CallReports, call_entry
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.store import MemoryStore

ON = pb.DeviceCall(device="power", method="on", status="OK", seconds=0.25, age_seconds=2.0, session="s1")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed at the end of a test."""
    with ExitStack() as stack:
        yield stack


async def entries(lab: Lab, **how: str) -> list[lab_pb2.JournalEntry]:
    async with lab.admin.ReadJournal(lab_pb2.ReadJournalRequest(**how)) as call:  # type: ignore[arg-type]
        return [entry async for page in call for entry in page.entries]


async def calls(lab: Lab, **how: str) -> list[lab_pb2.JournalEntry]:
    return [entry for entry in await entries(lab, **how) if entry.is_call]


async def report(lab: Lab, one: Identity, *calls: pb.DeviceCall, first: int = 0, omitted: int = 0) -> None:
    request = pb.ReportCallsRequest(reporter="r", first=first, calls=calls, omitted=omitted)
    await lab.exporter.ReportCalls(request, metadata=one.metadata())


def changed(call: pb.DeviceCall, **fields: object) -> pb.DeviceCall:
    found = pb.DeviceCall()
    found.CopyFrom(call)
    found.MergeFrom(pb.DeviceCall(**fields))  # type: ignore[arg-type]
    return found


@pytest.fixture
async def one(lab: Lab) -> Identity:
    return await lab.made(Kind.EXPORTER, ONE)


async def test_who_switched_the_board_is_the_leases_client(lab: Lab, one: Identity) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    lease = await lab.leased(ann, one)
    await report(lab, one, changed(ON, lease=lease, received_bytes=5, sent_bytes=7))
    (call,) = await calls(lab, board="one")
    assert (call.namespace, call.board, call.received_bytes, call.sent_bytes) == ("default", "one", 5, 7)
    assert (call.client, call.lease, call.device, call.method, call.status) == (
        "ann",
        lease,
        "power",
        "on",
        "OK",
    )
    assert call.time.ToNanoseconds() / 1e9 == pytest.approx(lab.reconciler.clock() - 2.0, abs=1.0)
    assert (call.seconds, call.session, call.user) == (0.25, "s1", "")
    assert call in await entries(lab, client="ann")
    assert call in await entries(lab, lease=lease)


async def test_a_call_is_of_the_client_who_had_the_lease_at_its_time(lab: Lab, one: Identity) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    bob = await lab.made(Kind.CLIENT, Key("default", "bob"))
    lease = await lab.leased(ann, one)
    for giver, taker in ((ann, "bob"), (bob, "ann")):
        await trio.sleep(5)
        request = client_pb2.UpdateLeaseRequest(
            lease=client_pb2.Lease(
                name=f"namespaces/default/leases/{lease}", client=f"namespaces/default/clients/{taker}"
            ),
            update_mask=FieldMask(paths=["client"]),
        )
        await lab.client.UpdateLease(request, metadata=giver.metadata())
    await trio.sleep(1)
    made = [changed(ON, lease=lease, method=str(age), age_seconds=age) for age in (9.0, 3.0, 0.5)]
    await report(lab, one, *made)
    found = {call.method: call.client for call in await calls(lab)}
    assert found == {"9.0": "ann", "3.0": "bob", "0.5": "ann"}


async def test_a_lease_of_another_exporter_is_trusted_by_nobody(lab: Lab, one: Identity) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    lease = await lab.leased(ann, one)
    two = await lab.made(Kind.EXPORTER, Key("default", "two"))
    await report(lab, two, changed(ON, lease=lease), changed(ON, lease="\x1b[2Jnone"))
    found = await calls(lab)
    assert [(call.board, call.client, call.lease) for call in found] == [("two", "", "")] * 2
    assert found[0].what == "said to be of lease mine, which is not this exporter's"
    assert "\\x1b[2Jnone" in found[1].what


async def test_a_device_that_it_has_not_registered_is_marked(lab: Lab, one: Identity) -> None:
    reports = [
        jumpstarter_pb2.DriverInstanceReport(uuid="0"),
        jumpstarter_pb2.DriverInstanceReport(
            uuid="1", parent_uuid="0", labels={"jumpstarter.dev/name": "power"}
        ),
    ]
    await lab.controller.Register(jumpstarter_pb2.RegisterRequest(reports=reports), metadata=one.metadata())
    await report(lab, one, changed(ON, user="ana"), changed(ON, user="ana", device="reactor"))
    assert [call.what for call in await calls(lab)] == ["", "no device that it has registered"]


async def test_of_an_exporter_whose_devices_are_not_all_known_none_is_marked(lab: Lab, one: Identity) -> None:
    reports = [
        jumpstarter_pb2.DriverInstanceReport(uuid="0"),
        jumpstarter_pb2.DriverInstanceReport(uuid="1", parent_uuid="0"),
    ]
    await lab.controller.Register(jumpstarter_pb2.RegisterRequest(reports=reports), metadata=one.metadata())
    await report(lab, one, changed(ON, user="ana"))
    assert [call.what for call in await calls(lab)] == [""]


async def test_a_user_of_its_host_a_hook_and_somebody_else_are_told_apart(lab: Lab, one: Identity) -> None:
    await report(lab, one, changed(ON, user="ana"), changed(ON, by_hook=True), ON)
    found = await calls(lab)
    assert [call.user for call in found] == ["ana", "", ""]
    assert [call.what for call in found] == ["", "by a hook", "by a user who is unknown on its host"]


async def test_a_report_whose_answer_got_lost_counts_once(lab: Lab, one: Identity) -> None:
    for _ in range(2):
        await report(lab, one, ON, ON)
    await report(lab, one, ON, first=2, omitted=3)
    await report(lab, one, ON, first=2, omitted=3)
    await report(lab, one, ON, first=6)
    await lab.journal.flush(is_last=True)
    found = await calls(lab)
    assert [call.more for call in found if call.more] == [3]
    assert len(found) == 4 + 1


async def test_a_flood_becomes_a_number(lab: Lab, one: Identity) -> None:
    await report(lab, one, *[ON] * (MAX_CALLS + 100), omitted=7)
    async with lab.admin.ReadJournal(lab_pb2.ReadJournalRequest()) as call:
        assert len([1 async for page in call for entry in page.entries if entry.is_call]) == BURST_ENTRIES
    await lab.journal.flush(is_last=True)
    found = await calls(lab)
    assert len(found) == BURST_ENTRIES + 1
    assert found[-1].more == MAX_CALLS + 107 - BURST_ENTRIES
    assert (found[-1].board, found[-1].is_call) == ("one", True)


async def test_only_exporters_report(lab: Lab, one: Identity) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    with pytest.raises(RpcError) as refused:
        await report(lab, ann, ON)
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
    assert await calls(lab) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.booleans(), min_size=1, max_size=3)),
        max_size=20,
    )
)
@settings(deadline=None, max_examples=30)
def test_what_is_reported_again_counts_once(batches: list[tuple[int, int, list[bool]]]) -> None:
    """Calls, omitted ones, and how often that is sent: each time, whether to a controller that was restarted."""
    kept: list[str] = []
    counted = 0

    class Paper(AuditLog):
        def write(self, entry: AuditEntry, source: Source, more: int = 0) -> None:
            kept.append(entry.method)

        def count(self, entry: AuditEntry, source: Source, more: int) -> None:
            nonlocal counted
            counted += more

    reconciler = Reconciler(MemoryStore(), clock=lambda: 1000.0)
    exporter = Exporter(namespace="default", name="one", uid="1")
    reconciler.committed.set(Exporter, ONE, exporter)

    async def run(file: Path, stack: ExitStack) -> int:
        journal = Paper(file, lambda: 1000.0)
        stack.callback(journal._file.close)
        reports = CallReports(reconciler, journal)
        first = made = 0
        for number, omitted, times in batches:
            calls = [pb.DeviceCall(method=str(made + index)) for index in range(number)]
            request = pb.ReportCallsRequest(reporter="r", first=first, calls=calls, omitted=omitted)
            for is_restarted in times:
                if is_restarted:
                    await journal.flush()
                    journal = Paper(file, lambda: 1000.0)
                    stack.callback(journal._file.close)
                    reports = CallReports(reconciler, journal)
                await reports.take(exporter, request)
            made += number
            first += number + omitted
        assert kept == [str(number) for number in range(made)]
        return first - made

    with TemporaryDirectory() as folder, ExitStack() as stack:
        assert counted == trio.run(run, Path(folder) / "journal", stack)


async def test_a_report_that_a_controller_had_written_when_it_was_killed_counts_once(
    tmp_path: Path, stack: ExitStack
) -> None:
    reconciler = Reconciler(MemoryStore(), clock=lambda: 1000.0)
    exporter = Exporter(namespace="default", name="one", uid="1")
    reconciler.committed.set(Exporter, ONE, exporter)
    requests = [
        pb.ReportCallsRequest(
            reporter="r", first=2**64 - 1 if name == "far" else index, calls=[changed(ON, method=name)]
        )
        for index, name in enumerate(("written", "not written", "far"))
    ]

    def started() -> tuple[AuditLog, CallReports]:
        journal = AuditLog(tmp_path / "journal", lambda: 1000.0)
        stack.callback(journal._file.close)
        return journal, CallReports(reconciler, journal)

    async def methods(journal: AuditLog) -> list[str]:
        return [entry.method for entry in (await journal.read(AuditQuery()))[0]]

    journal, reports = started()
    await reports.take(exporter, requests[0])
    await journal.flush()
    await reports.take(exporter, requests[1])
    journal, reports = started()
    assert await methods(journal) == ["written"]
    for request in requests:
        await reports.take(exporter, request)
    assert await methods(journal) == ["written", "not written", "far"]
    journal, reports = started()
    for request in requests:
        await reports.take(exporter, request)
    assert await methods(journal) == ["written", "not written", "far"]
    await reports.take(replace(exporter, uid="2"), requests[0])
    assert len(await methods(journal)) == 4, "it is another exporter of that name"


async def test_what_was_reported_before_is_forgotten_with_its_entries_and_a_damaged_note_is_none(
    tmp_path: Path,
) -> None:
    file = AuditFile(tmp_path / "journal", 1024 * 1024)
    assert file.reports() == {}
    assert not (tmp_path / "journal").exists()
    old, young = CallReport("1", "r", 2, 10.0), CallReport("2", "r", 3, 20.0)
    file.append([], 0.0, {("default", "old"): old, ("default", "young"): young})
    assert file.reports() == {("default", "old"): old, ("default", "young"): young}
    with closing(sqlite3.connect(tmp_path / "journal")) as db:
        db.execute("INSERT INTO reports VALUES ('default', 'bad', '3', 'r', 'many', 30.0)")
        db.commit()
    file.append([], 15.0)
    assert file.reports() == {("default", "young"): young}
    file.close()


async def test_a_journal_that_cannot_be_read_keeps_no_report_waiting(
    lab: Lab, one: Identity, tmp_path: Path
) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    await report(lab, one, ON)
    (tmp_path / "journal.sqlite").rmdir()
    await report(lab, one, ON)
    assert len(await calls(lab)) == 1


@given(
    st.builds(
        pb.DeviceCall,
        device=st.text(max_size=400),
        method=st.text(max_size=400),
        lease=st.text(max_size=400),
        user=st.text(max_size=400),
        session=st.text(max_size=400),
        status=st.sampled_from(["", "OK", "ok", "\n"]),
        age_seconds=st.floats(),
        seconds=st.floats(),
        received_bytes=st.integers(0, 2**64 - 1),
    )
)
def test_whatever_is_reported_is_an_entry_within_bounds(call: pb.DeviceCall) -> None:
    entry = call_entry(call, ONE, 1e9, lambda _: None, {"power"}, owner_at=LeaseOwners().at)
    assert 1e9 - MAX_AGE <= entry.time <= 1e9
    assert math.isfinite(entry.seconds)
    assert entry.seconds >= 0
    texts = [entry.device, entry.method, entry.user, entry.session, entry.what, entry.status]
    assert all(text.isprintable() for text in texts)
    assert sum(map(len, texts)) < 10 * 1000
    assert (entry.lease, entry.client) == ("", "")


def test_of_a_lease_that_changes_hands_all_the_time_the_newest_owners_are_known() -> None:
    owners, lease = LeaseOwners(), Lease(namespace="lab", name="l", client="c0", created=0.0, duration=60.0)
    for number in range(1, 3 * MAX_OWNERS):
        before, lease = lease, replace(lease, client=f"c{number}")
        owners.note(before, lease, float(number))
    known = {owners.at(lease, time - 0.5) for time in range(1, 3 * MAX_OWNERS + 1)}
    assert known == {f"c{number}" for number in range(2 * MAX_OWNERS - 1, 3 * MAX_OWNERS)}
    owners.note(lease, None, 1e9)
    assert owners.at(lease, 0.0) == lease.client
    assert not owners._until
