"""What a list of devices says of those that nobody has tried."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from google.protobuf import empty_pb2

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.devices import look as module
from jumpstarter_exporter.devices.look import LOOK
from jumpstarter_exporter.driver import DeviceBusy, DeviceMissing, Driver, export


@dataclass(kw_only=True, eq=False)
class Port(Driver):
    client: ClassVar[str] = "example.client.ExampleClient"
    interface: ClassVar[str] = "example"
    node: str

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        return [str(values["node"])]

    async def open(self) -> None:
        if not Path(self.node).exists():
            raise DeviceMissing("it is not there")

    @export
    def use(self) -> None:
        pass


@dataclass(kw_only=True, eq=False)
class Slow(Port):
    """Looking at it blocks, as sysfs may."""

    free: threading.Event

    def look_at_hardware(self) -> str:
        self.free.wait(30)
        return "it came late"


async def seen(user: User, *, looks: bool = True) -> dict[str, tuple[str, str]]:
    report = await user.exporter.GetReport(empty_pb2.Empty(), metadata=[(LOOK, "1")] if looks else [])
    return {
        one.labels["jumpstarter.dev/name"]: (
            one.labels["jumpstarter.dev/state"],
            one.labels["jumpstarter.dev/reason"],
        )
        for one in report.reports
        if one.parent_uuid
    }


async def test_a_look_finds_whether_the_hardware_is_there_and_changes_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    board = Composite(
        children={
            "there": Port(node=str(there)),
            "gone": Port(node=str(gone)),
            "usb": Port(node="9-9.9"),
            "unnamed": Port(node=""),
        }
    )
    async with serve(board) as user:
        found = await seen(user)
        assert found == {
            "there": ("ready", f"not tried yet; there is {there}"),
            "gone": ("missing", f"there is no {gone}; check the cable"),
            "usb": ("missing", "there is no USB device 9-9.9; check its cable"),
            "unnamed": ("ready", "not tried yet"),
        }
        untouched = dict.fromkeys(found, ("ready", "not tried yet"))
        assert await seen(user, looks=False) == untouched, "only who asks is told, and no state has changed"
        gone.touch()
        assert (await seen(user))["gone"] == ("ready", f"not tried yet; there is {gone}")
        await user.call("there", "use")
        assert (await seen(user))["there"] == ("ready", "")


@dataclass(kw_only=True, eq=False)
class Raising(Port):
    error: Exception

    def look_at_hardware(self) -> str:
        raise self.error


async def test_what_a_driver_raises_is_said_of_its_device_alone(serve: Serve, tmp_path: Path) -> None:
    board = Composite(
        children={
            "busy": Raising(node="", error=DeviceBusy("it is open in cu")),
            "broken": Raising(node="", error=RuntimeError("oh no")),
            "named": Port(node="a\0b"),
            "unnamed": Port(node=""),
        }
    )
    async with serve(board) as user:
        found = await seen(user)
    assert found["busy"] == found["named"] == found["unnamed"] == ("ready", "not tried yet")
    assert found["broken"][0] == "failed"
    assert "oh no" in found["broken"][1]


async def test_what_may_not_be_opened_is_said(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    node.touch()
    monkeypatch.setattr("os.access", lambda path, mode: path != str(node))  # root may open everything
    async with serve(Composite(children={"port": Port(node=str(node))})) as user:
        state, reason = (await seen(user))["port"]
    assert (state, reason.partition(";")[0]) == ("failed", f"the exporter may not open {node}")


async def test_a_look_that_blocks_hides_no_device(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 1.0)
    free = threading.Event()
    (tmp_path / "fine").touch()
    ports = [Port(node=str(tmp_path / "gone")), Slow(node="", free=free), Port(node=str(tmp_path / "fine"))]
    board = Composite(children=dict(zip(("gone", "slow", "fine"), ports, strict=True)))
    try:
        async with serve(board) as user:
            for number in range(2):  # the second time, the thread of the first is still there
                found = await seen(user)
                assert len(found) == len(ports)
                assert (found["gone"][0] == "missing") == (number == 0), "what was found in time is said"
                assert found["slow"] == found["fine"] == ("ready", "not tried yet")
    finally:
        free.set()
