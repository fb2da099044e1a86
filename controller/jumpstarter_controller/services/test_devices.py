"""What is kept of an exporter's reports, and how clients get it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.lab.v1 import exporter_pb2, exporters_pb2, lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Exporter, ExporterDevices, Key, ReportedHook
from jumpstarter_controller.services import device_reports, lab_service
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.services.device_reports import devices_of, hooks_of
from jumpstarter_controller.store import Change, SqliteStore
from jumpstarter_controller.store.contract import Written
from jumpstarter_controller.store.whole import fill, lab_of


def report(uuid: str, parent: str = "", name: str = "", **labels: str) -> pb.DriverInstanceReport:
    found = pb.DriverInstanceReport(uuid=uuid, labels={f"jumpstarter.dev/{k}": v for k, v in labels.items()})
    if parent:
        found.parent_uuid = parent
        found.labels["jumpstarter.dev/name"] = name
    return found


BOARD = [
    report("r", client="example.Composite"),
    report("b", "r", "rpi4", interface="composite", state="ready"),
    report("p", "b", "power", interface="power", client="example.Power", state="missing", reason="no relay"),
    report("r2", "r", "alias", interface="composite", state="ready"),
    report("p", "r2", "power", interface="power", client="example.Power", state="missing", reason="no relay"),
]


def test_devices_have_the_paths_of_their_places() -> None:
    found, omitted = devices_of(BOARD)
    assert [one.path for one in found] == ["rpi4", "rpi4.power", "alias", "alias.power"]
    power = found[1]
    assert (power.interface, power.client) == ("power", "example.Power")
    assert (power.state, power.reason) == ("missing", "no relay")
    assert [one.uuid for one in found] == ["b", "p", "r2", "p"]
    assert omitted == 0


def test_a_uuid_that_is_none_is_not_kept() -> None:
    (device,), _ = devices_of([report("r"), report("p" * 65, "r", "power")])
    assert (device.path, device.uuid) == ("power", "")


def test_devices_of_an_exporter_that_reports_no_states_have_none() -> None:
    (device,), _ = devices_of(
        [report("r"), report("p", "r", "power", client="jumpstarter_driver_power.Client")]
    )
    assert (device.state, device.reason, device.interface) == ("", "", "")
    assert device.client == "jumpstarter_driver_power.Client"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ()),
        ("afterLease:30:exit", (ReportedHook("afterLease", 30, "exit"),)),
        ("x,beforeLease:1:warn,y:1:warn", (ReportedHook("beforeLease", 1, "warn"),)),
        ("beforeLease:1:warn,beforeLease:2:exit", (ReportedHook("beforeLease", 2, "exit"),)),
        *(
            (odd, ())
            for odd in ("beforeLease", "beforeLease:0:warn", "beforeLease:1:x", "beforeLease:9999999999:warn")
        ),
        *(
            (odd, ())
            for odd in ("beforeLease:1:warn\n", "beforeLease:\u0661:warn", "," * 300 + "beforeLease:1:warn")
        ),
    ],
)
def test_of_hooks_only_what_makes_sense_is_kept(said: str, kept: tuple[ReportedHook, ...]) -> None:
    assert hooks_of([report("r", hooks=said), report("p", "r", "power", hooks="afterLease:1:warn")]) == kept


def test_the_most_that_is_kept_of_an_exporters_devices_is_no_more_than_a_record_may_have(
    tmp_path: Path,
) -> None:
    text = "\x01" * device_reports.MAX_TEXT_LENGTH
    reports = [
        report("r"),
        *(report(f"d{number}", "r", "\x01" * 61, reason=text[:1]) for number in range(4094)),
    ]
    reports[1:1] = [report("x", "r", "x", reason=text)]
    found, _ = devices_of(reports)
    assert (
        sum(len(one.path) + len(one.reason) + len(one.uuid) for one in found)
        > device_reports.MAX_TOTAL_LENGTH - 10_000
    )
    record = ExporterDevices(namespace="lab", name="x" * 63, devices=found)
    with closing(SqliteStore(tmp_path / "lab.sqlite")) as store:
        fill(store, record)
        assert lab_of(store).get(ExporterDevices, record.key) == record


uuids = st.sampled_from(["", "a", "b", "c"])
reports = st.builds(
    lambda uuid, parent, labels, text: pb.DriverInstanceReport(
        uuid=uuid, parent_uuid=parent, labels=labels, description=text
    ),
    uuids,
    uuids,
    st.dictionaries(
        st.sampled_from([f"jumpstarter.dev/{k}" for k in ("name", "state", "reason", "interface", "client")]),
        st.text(max_size=5) | st.integers(200, 3000).map(lambda n: "x" * n),
    ),
    st.integers(0, 3000).map(lambda n: "d" * n),
)


@given(st.lists(reports, max_size=40))
def test_whatever_is_reported_what_is_kept_is_bounded_and_the_rest_is_counted(
    found: list[pb.DriverInstanceReport],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_reports, "MAX_TOTAL_LENGTH", 20_000)
        patch.setattr(device_reports, "MAX_DEPTH", 3)
        devices, omitted = devices_of(found)
    assert len(devices) + omitted == sum(bool(one.parent_uuid) for one in found)
    texts = [(d.path, d.interface, d.client, d.state, d.reason, d.description) for d in devices]
    assert sum(len(text) for row in texts for text in row) <= 20_000
    assert all(len(d.path) <= 3 * 256 for d in devices)
    assert all(len(d.reason) <= 1024 and len(d.description) <= 1024 and len(d.state) <= 255 for d in devices)


async def register(lab: Lab, one: Identity, reports: list[pb.DriverInstanceReport]) -> None:
    await lab.controller.Register(pb.RegisterRequest(reports=reports), metadata=one.metadata())


async def test_a_client_gets_the_devices_of_its_exporters_and_of_no_other_namespace(lab: Lab) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    one = await lab.made(Kind.EXPORTER, ONE)
    await lab.made(Kind.EXPORTER, Key("elsewhere", "two"))
    await register(lab, one, BOARD)
    request = exporters_pb2.GetExporterDetailsRequest(name="one")
    details = await lab.details.GetExporterDetails(request, metadata=ann.metadata())
    assert [(d.path, d.state) for d in details.devices][:2] == [("rpi4", "ready"), ("rpi4.power", "missing")]
    page = await lab.details.ListExporterDetails(
        exporters_pb2.ListExporterDetailsRequest(), metadata=ann.metadata()
    )
    assert list(page.exporters) == [details]
    for name, identity, code in (
        ("two", ann, StatusCode.NOT_FOUND),
        ("one", one, StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(RpcError) as refused:
            await lab.details.GetExporterDetails(
                exporters_pb2.GetExporterDetailsRequest(name=name), metadata=identity.metadata()
            )
        assert refused.value.code is code, refused.value


async def test_all_that_is_known_of_an_exporter_is_told(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await lab.made(Kind.EXPORTER, ONE)
    power = report(
        "p", "r", "power", interface="power", client="example.Power", state="missing", reason="none"
    )
    power.description = "the relay"
    await register(lab, one, [report("r"), power, report("x", "r")])
    reasons = [exporter_pb2.Reason(code="local-use", sentence="in local use by ana")]
    busy = exporter_pb2.ReportStatusRequest(status="EXPORTER_STATUS_AFTER_LEASE_HOOK", reasons=reasons)
    await lab.exporter.ReportStatus(busy, metadata=one.metadata())
    request = exporters_pb2.GetExporterDetailsRequest(name="one")
    details = await lab.details.GetExporterDetails(request, metadata=ann.metadata())
    wanted = exporters_pb2.ExporterDetails(name="one", omitted_devices=1)
    wanted.reasons.add(code="local-use", sentence="in local use by ana")
    wanted.devices.add(
        path="power",
        interface="power",
        client="example.Power",
        state="missing",
        reason="none",
        description="the relay",
    )
    assert details == wanted


async def test_pages_are_cut_where_a_message_would_be_too_large(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_service, "PAGE_SIZE", 200)
    ann = await lab.made(Kind.CLIENT, ANN)
    for number in range(7):
        await register(lab, await lab.made(Kind.EXPORTER, Key("default", f"e{number}")), BOARD)
    request, names, pages = exporters_pb2.ListExporterDetailsRequest(), [], 0
    while True:
        page = await lab.details.ListExporterDetails(request, metadata=ann.metadata())
        names += [one.name for one in page.exporters]
        pages += 1
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [f"e{number}" for number in range(7)]
    assert pages == 4


async def test_devices_are_written_when_they_changed_and_go_with_their_exporter(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    commit = lab.reconciler._store_sync._store.commit

    def noted(changes: Sequence[Change]) -> Sequence[Written]:
        written.extend(kind.__name__ for kind, _ in dict.fromkeys(one.ref for one in changes))
        return commit(changes)

    monkeypatch.setattr(lab.reconciler._store_sync._store, "commit", noted)
    one = await lab.made(Kind.EXPORTER, ONE)
    written.clear()
    await register(lab, one, BOARD)
    assert sorted(written) == ["Exporter", "ExporterDevices"]
    written.clear()
    await register(lab, one, BOARD)
    await lab.report(one, "AVAILABLE")
    assert written == ["Exporter"], "a status says nothing of devices"
    await register(lab, one, BOARD[:3])
    assert written == ["Exporter", "Exporter", "ExporterDevices"]
    view = lab.reconciler.committed
    assert view.get(ExporterDevices, ONE) is not None
    await lab.admin.Delete(lab_pb2.ObjectRequest(kind="Exporter", namespace="default", name="one"))
    assert view.get(Exporter, ONE) is None
    assert view.get(ExporterDevices, ONE) is None
