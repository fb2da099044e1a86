"""Sessions borrow devices: what is the same in the next one, and what is fresh."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from jumpstarter_proto.lab.v1 import devices_pb2
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter import isolation
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import User
from jumpstarter_exporter.devices.cores import managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import DeviceMissing, Driver, export
from jumpstarter_exporter.serve.embedded import open_exporter
from jumpstarter_exporter.session import services
from jumpstarter_exporter.session.report import NAME, REASON, STATE, board_reports
from jumpstarter_exporter.session.session import Session

Users = Callable[[Session], AbstractAsyncContextManager[User]]


@dataclass(kw_only=True, eq=False)
class Device(Driver):
    client: ClassVar[str] = "example.Client"
    interface: ClassVar[str] = "example"
    go_on: ClassVar[threading.Event] = threading.Event()

    values: list[str] = field(default_factory=lambda: ["default"])
    is_there: bool = True

    async def open(self) -> None:
        if not self.is_there:
            raise DeviceMissing("it is unplugged; plug it in")

    def extra_labels(self) -> dict[str, str]:
        return {"example/values": ",".join(self.values)}

    @export
    async def add(self, value: str) -> list[str]:
        self.values.append(value)
        return self.values

    @export
    def block(self) -> None:
        self.go_on.wait(60)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await trio.sleep(0.01)


def devices(**values: Any) -> BoardDevices:
    children: Mapping[str, Spec] = {"a": Spec(Device, values), "b": Spec(Device)}
    return Inventory().add("lab", Spec(Composite, children=children))


async def test_each_session_has_fresh_driver_objects_of_the_same_devices(user: Users) -> None:
    board = devices(values=["configured"])
    roots, uuids = set(), set()
    for _ in range(2):
        async with Session(board) as session, user(session) as one:
            reports = (await one.report()).reports
            roots.add(reports[0].uuid)
            uuids.add(tuple(report.uuid for report in reports[1:]))
            assert await one.call("a", "add", "mine") == ["configured", "mine"]
    assert len(roots) == 2
    assert uuids == {tuple(str(board.slots[path].uuid) for path in ("a", "b"))}


async def test_one_session_at_a_time_has_a_device_open(user: Users) -> None:
    board = devices()
    async with Session(board) as first, Session(board) as second, user(first) as one, user(second) as two:
        await one.call("a", "add", "x")
        with pytest.raises(RpcError, match="a is in use in another session of this host; wait"):
            await two.call("a", "add", "y")
        assert await two.call("b", "add", "y") == ["default", "y"]
        await first.tree.close()
        assert await two.call("a", "add", "y") == ["default", "y"]


async def test_what_a_session_found_missing_is_known_after_it(user: Users) -> None:
    board = devices(is_there=False)
    async with Session(board) as session, user(session) as one:
        with pytest.raises(RpcError, match="unplugged"):
            await one.call("a", "add", "x")
    states = [report.labels[STATE] for report in board_reports(board)]
    assert states == ["ready", "missing", "ready"]


async def test_code_that_does_not_come_back_fails_its_device_in_the_next_session_too(
    user: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.02)
    monkeypatch.setattr(Device, "go_on", threading.Event())
    board = devices()
    try:
        async with Session(board) as session, user(session) as one:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.call, "a", "block")
                await until(lambda: board.slots["a"].threads.count == 1)
                nursery.cancel_scope.cancel()
            await until(lambda: board.slots["a"].lifecycle.is_stuck)
        async with Session(board) as session, user(session) as one:
            with pytest.raises(RpcError, match=r"block\(\) has not returned since"):
                await one.call("a", "add", "x")
            assert board.slots["a"].threads.count == 1
            assert await one.call("b", "add", "x") == ["default", "x"]
            Device.go_on.set()
            await until(lambda: not board.slots["a"].lifecycle.is_stuck)
            assert await one.call("a", "add", "x") == ["default", "x"]
    finally:
        Device.go_on.set()


async def test_devices_are_reported_without_a_session_as_a_session_reports_them(user: Users) -> None:
    board = devices(values=["v"], labels={"bench": "7"})
    async with Session(board) as session, user(session) as one:
        reported = (await one.report()).reports
    known = board_reports(board)
    reported[0].uuid = known[0].uuid
    for report in reported[1:]:
        report.parent_uuid = known[0].uuid
    assert list(reported) == known


@pytest.mark.parametrize(
    "is_label", [True, False], ids=["a label that is no text", "a reason that no UTF-8 can say"]
)
async def test_a_device_whose_report_cannot_be_made_keeps_no_other_from_being_reported(
    user: Users, is_label: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = devices(values=["v"])
    if is_label:
        monkeypatch.setattr(Device, "extra_labels", lambda self: {"port": 5} if self.values == ["v"] else {})
    else:
        board.slots["a"].lifecycle.missing("no /dev/tty\udcff")
    async with Session(board) as session, user(session) as one:
        reported = (await one.report()).reports
    for reports in (reported, board_reports(board)):
        assert [report.labels[STATE] for report in reports] == ["ready", "failed", "ready"]
        assert reports[1].labels[REASON].startswith("its report cannot be made: ")


async def test_a_built_in_exporter_has_the_same_devices_each_time(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"metadata: {{name: borrowing}}\nexport: {{a: {{type: {__name__}.Device}}}}\n")
    seen = []
    for _ in range(2):
        async with open_exporter(file) as exporter:
            seen.append([node.driver.uuid for node in exporter.session.tree.nodes])
    assert seen[0][0] != seen[1][0]
    assert seen[0][1:] == seen[1][1:]


async def test_what_a_board_consists_of_changes_in_a_running_session_and_its_users_are_told(
    user: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WATCH_SECONDS", 0.0)
    board = devices()
    group = Spec(Composite, children={"inner": Spec(Device)})
    async with (
        managed_cores(board),
        Session(board) as session,
        user(session) as one,
        trio.open_nursery() as nursery,
    ):
        await one.call("b", "add", "kept")
        await one.call("a", "add", "x")
        gone = one.uuid("a")
        async with DevicesServiceStub(one.channel).WatchReport(devices_pb2.WatchReportRequest()) as reports:
            assert len((await anext(aiter(reports))).reports) == 3
            board.replace(Spec(Composite, children={"b": Spec(Device), "c": group}))
            with trio.fail_after(10):
                async for report in reports:
                    names = [device.labels.get(NAME, "") for device in report.reports]
                    if names == ["", "b", "c", "inner"]:
                        break
        with pytest.raises(RpcError, match="KeyError"):
            await one.exporter.DriverCall(jumpstarter_pb2.DriverCallRequest(uuid=gone, method="add"))
        # What has not changed is the object that it was; what is new can be used.
        assert await one.call("b", "add", "x") == ["default", "kept", "x"]
        assert await one.call("c.inner", "add", "x") == ["default", "x"]
        board.slots["b"].lifecycle.core.missing("unplugged")
        (label,) = [r.labels[STATE] for r in (await one.report()).reports if r.labels.get(NAME) == "b"]
        assert label == "missing"
        nursery.cancel_scope.cancel()
