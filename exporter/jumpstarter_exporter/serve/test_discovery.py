"""Devices that come and go, and boards that follow: an exporter in this process, on a scripted bus.

Only what is plugged in is scripted: trees as udev shows them. There is nothing at their nodes, which nobody opens.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.regular_files import open_regular
from jumpstarter_proto.rpc import Channel, RpcError
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_exporter.boards.occupancy_runner import OccupancyRunner
from jumpstarter_exporter.config import Identities, identities
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.config.model import Enrolment, ExporterConfig, Tls
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.devices.udev_device import DeviceTree
from jumpstarter_exporter.node_errors import users_of
from jumpstarter_exporter.serve import host as module
from jumpstarter_exporter.serve.discovery import Discovery
from jumpstarter_exporter.serve.host_server import BOARD
from tests.support.served_host import POWER, ServedHost, channel, listed, reload
from tools.mocked_host.udev import HUB, Host

FT232R, CH340, CP2102 = "0403:6001", "1a86:7523", "10c4:ea60"
Plugged = dict[int, tuple[str, str]]


class Bench(ServedHost):
    """A host, and what is plugged into its hub."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._send, self._trees = trio.open_memory_channel[DeviceTree](100)
        self.plug({})

    def tree(self, plugged: Plugged) -> DeviceTree:
        host = Host()
        (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
        hub = host.plug(root, 1, "0424:9514", model="USB2.0 Hub", interfaces=HUB)
        for port, (ids, serial) in plugged.items():
            host.tty(host.plug(hub, port, ids, serial))
        return host.tree

    def plug(self, plugged: Plugged) -> None:
        """That is what is plugged in now."""
        self._send.send_nowait(self.tree(plugged))

    @asynccontextmanager
    async def trees(self) -> AsyncIterator[AsyncIterator[DeviceTree]]:
        async def following() -> AsyncGenerator[DeviceTree, None]:
            async for tree in self._trees:
                yield tree

        async with aclosing(following()) as trees:
            yield trees

    def discovery(self, host: str = "Pi4.lab") -> Discovery:
        """Of what is plugged in."""
        return Discovery(self.trees, directory=self.home / "state", host=host)

    def discovering(self) -> AbstractAsyncContextManager[Channel]:
        """A connection to the door of an exporter that serves what is plugged in, too."""
        return self.running(discovery=self.discovery())


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(home)


async def devices(door: Channel, board: str | None = None) -> dict[str, tuple[str, str]]:
    """The states of devices and their reasons, by path."""
    metadata = [] if board is None else [(BOARD, board)]
    report = await ExporterServiceStub(door).GetReport(empty_pb2.Empty(), metadata=metadata)
    return {
        path: (one["jumpstarter.dev/state"], one.get("jumpstarter.dev/reason", ""))
        for path, one in labels(report).items()
    }


def labels(report: jumpstarter_pb2.GetReportResponse) -> dict[str, dict[str, str]]:
    """Of each device that is no group, by its path."""
    by_uuid = {one.uuid: one for one in report.reports}
    found = {}
    for one in report.reports:
        path, above = [], one
        while above.parent_uuid:
            path.append(above.labels["jumpstarter.dev/name"])
            above = by_uuid[above.parent_uuid]
        if path and not any(other.parent_uuid == one.uuid for other in report.reports):
            found[".".join(reversed(path))] = {**one.labels, "uuid": one.uuid}
    return found


async def until_listed(door: Channel, *names: str) -> dict[str, host_pb2.Board]:
    while True:
        found = await listed(door)
        if set(found) == set(names):
            return found
        await trio.sleep(0.01)


async def until_served(door: Channel, *names: str) -> None:
    while any(board.problem for board in (await until_listed(door, *names)).values()):
        await trio.sleep(0.01)


async def until(door: Channel, board: str | None = None, **states: str) -> dict[str, tuple[str, str]]:
    """Devices by the first word of their group's name; `until(door, ft232r="missing")`."""
    while True:
        found = await devices(door, board)
        if {path.partition("-")[0]: state for path, (state, _) in found.items()} == states:
            return found
        await trio.sleep(0.01)


async def uuid_of(door: Channel, path: str, board: str | None = None) -> str:
    metadata = [] if board is None else [(BOARD, board)]
    report = await ExporterServiceStub(door).GetReport(empty_pb2.Empty(), metadata=metadata)
    return labels(report)[path]["uuid"]


async def use(door: Channel, path: str, board: str | None = None) -> None:
    """Do something with a device, which makes its board used."""
    await call(door, path, "on", board)


async def call(door: Channel, path: str, method: str, board: str | None = None) -> None:
    metadata = [] if board is None else [(BOARD, board)]
    request = jumpstarter_pb2.DriverCallRequest(uuid=await uuid_of(door, path, board), method=method)
    await ExporterServiceStub(door).DriverCall(request, metadata=metadata)


def relay(group: str = "{model}-{id}") -> str:
    """A profile by which a serial adapter is a relay, so that no port is needed."""
    return (
        "disable: [serial-adapter]\nprofiles: {relay: {match: {subsystem: tty}, type: power.MockPower, "
        f"group: '{group}'}}}}\n"
    )


@pytest.fixture
def relays(bench: Bench) -> Bench:
    """Whatever is plugged in is a relay."""
    (bench.home / "config" / "profiles.d").mkdir()
    (bench.home / "config" / "profiles.d" / "relays.yaml").write_text(relay())
    return bench


async def test_without_a_configuration_what_is_plugged_in_is_the_hosts_board_at_the_door(
    bench: Bench,
) -> None:
    async with bench.discovering() as door:
        assert set(await listed(door)) == {"pi4"}
        assert await devices(door) == {}
        bench.plug({2: (FT232R, "A5")})
        found = await until(door, ft232r="missing")  # no file is at its node
        assert list(found) == ["ft232r-a5.serial"]
        assert "there is no" in found["ft232r-a5.serial"][1]


async def test_unplugged_is_missing_with_the_reason_and_plugged_in_elsewhere_it_is_the_same_device(
    relays: Bench,
) -> None:
    relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    async with relays.discovering() as door:
        before = await until(door, ft232r="ready", ch340="ready")
        uuid = await uuid_of(door, "ft232r-a5.power")
        async with channel(relays.door) as user:
            await use(user, "ch340-1-1-3.power")
            relays.plug({3: (CH340, "")})
            gone = await until(door, ft232r="missing", ch340="ready")
            assert gone["ft232r-a5.power"][1].startswith("unplugged at ")
            with pytest.raises(RpcError, match=r"ft232r-a5.power is not there: unplugged at"):
                await use(user, "ft232r-a5.power")
            relays.plug({1: (FT232R, "A5"), 3: (CH340, "")})
            assert set(await until(door, ft232r="ready", ch340="ready")) == set(before)
            assert await uuid_of(door, "ft232r-a5.power") == uuid
            await use(user, "ft232r-a5.power")
            await use(user, "ch340-1-1-3.power")


async def test_after_a_restart_what_is_not_plugged_in_has_its_name_and_uuid_and_says_so(
    relays: Bench,
) -> None:
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until(door, ft232r="ready")
        uuid = await uuid_of(door, "ft232r-a5.power")
    relays.plug({})
    async with relays.discovering() as door:
        found = await until(door, ft232r="missing")
        assert found["ft232r-a5.power"][1] == "not seen since the start of the exporter"
        assert await uuid_of(door, "ft232r-a5.power") == uuid


async def test_beside_a_configured_board_which_has_the_door_whatever_is_plugged_in(relays: Bench) -> None:
    relays.write("rpi4", POWER)
    async with relays.discovering() as door:
        assert set(await listed(door)) == {"rpi4"}
        async with channel(relays.door) as user:
            await use(user, "power")
            relays.plug({2: (FT232R, "A5")})
            await until_listed(door, "rpi4", "pi4")
            assert set(await devices(user)) == {"power"}
            await use(user, "power")
        async with channel(relays.door) as newcomer:
            assert set(await devices(newcomer)) == {"power"}
            assert set(await devices(newcomer, "pi4")) == {"ft232r-a5.power"}
        async with channel(relays.door.parent / "boards" / "pi4.sock") as user:
            await use(user, "ft232r-a5.power")


async def test_what_a_configuration_names_is_not_offered_a_second_time(relays: Bench) -> None:
    # The one that names it cannot even be read.
    relays.write("rpi4", "export: {console: {url: /dev/ttyUSB0}}  # /dev/ttyUSB1")
    relays.write("rock", POWER)
    relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    async with relays.discovering() as door:
        await until_listed(door, "rpi4", "rock", "pi4")
        assert set(await devices(door, "pi4")) == {"ch340-1-1-3.power"}


async def test_a_device_that_a_configuration_takes_leaves_its_discovered_board_when_nobody_uses_that(
    relays: Bench, users_leave_at_once: None
) -> None:
    relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    async with relays.discovering() as door:
        await until(door, ft232r="ready", ch340="ready")
        async with channel(relays.door) as user:
            await use(user, "ft232r-a5.power")
            by_id = "/dev/serial/by-id/usb-0403_A5-if00-port0"
            relays.write("rpi4", f"export: {{power: {{type: power.MockPower}}}}\nmotd: {by_id}\n")
            told = await reload(door)
            assert told["rpi4"] == "served"
            assert told["pi4"].startswith("changes after ")
            assert set(await devices(door, "pi4")) == {"ft232r-a5.power", "ch340-1-1-3.power"}
            await use(user, "ft232r-a5.power", "pi4")
        await until(door, "pi4", ch340="ready")


async def test_a_file_that_is_named_as_the_host_leaves_another_name_for_what_is_discovered(
    relays: Bench,
) -> None:
    relays.write("pi4", POWER)
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until_listed(door, "pi4", "pi4-discovered")
        assert set(await devices(door)) == {"power"}
        assert set(await devices(door, "pi4-discovered")) == {"ft232r-a5.power"}


TWO_BOARDS = "boards: {rpi4: {ports: [1-1.2]}, rock: {devices: [ch340-1-1-3]}}"


@asynccontextmanager
async def two_boards(bench: Bench) -> AsyncIterator[tuple[Channel, Path]]:
    """The door of an exporter that serves both, and the file that says so."""
    rules = bench.home / "config" / "boards.yaml"
    rules.write_text(TWO_BOARDS)
    bench.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    async with bench.discovering() as door:
        await until_served(door, "pi4-rpi4", "pi4-rock")
        yield door, rules


async def test_boards_yaml_says_which_boards_there_are_and_what_belongs_to_none(relays: Bench) -> None:
    (relays.home / "config" / "boards.yaml").write_text(TWO_BOARDS)
    relays.plug({2: (FT232R, "A5"), 4: (CP2102, "0001")})
    async with relays.discovering() as door:
        found = await until_listed(door, "pi4-rpi4", "pi4-rock")
        assert "nothing of it was ever plugged in" in found["pi4-rock"].problem
        with pytest.raises(RpcError, match="choose one: --board pi4-rock"):
            await devices(door)
        relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
        await until_served(door, "pi4-rpi4", "pi4-rock")
        assert set(await devices(door, "pi4-rock")) == {"ch340-1-1-3.power"}
        assert set(await devices(door, "pi4-rpi4")) == {"ft232r-a5.power"}


async def test_a_regrouping_waits_until_nobody_uses_a_board_that_it_touches(
    relays: Bench, users_leave_at_once: None
) -> None:
    async with two_boards(relays) as (door, rules):
        uuid = await uuid_of(door, "ft232r-a5.power", "pi4-rpi4")
        async with channel(relays.door.parent / "boards" / "pi4-rock.sock") as user:
            await use(user, "ch340-1-1-3.power")
            rules.write_text("boards: {bench: {ports: [1-1.*]}}")
            told = await reload(door)
            assert told["pi4-rock"].startswith("its file") or "after" in told["pi4-rock"]
            assert told["pi4-rpi4"] == "changes after the users of a board with which it exchanges devices"
            assert set(await devices(door, "pi4-rock")) == {"ch340-1-1-3.power"}
            assert set(await devices(door, "pi4-rpi4")) == {"ft232r-a5.power"}
            await use(user, "ch340-1-1-3.power")
        await until_listed(door, "pi4-bench")
        assert set(await devices(door)) == {"ft232r-a5.power", "ch340-1-1-3.power"}
        assert await uuid_of(door, "ft232r-a5.power") == uuid


CONSOLE = """
disable: [serial-adapter]
profiles:
  console: {match: {subsystem: tty, vendor: "0403"}, type: serial.PySerial, config: {url: %s}}
  relay: {match: {subsystem: tty}, type: power.MockPower}
"""


@contextmanager
def terminal() -> Iterator[str]:
    """The path of a serial port that one opener at a time can have."""
    ours, theirs = os.openpty()
    path = os.ttyname(theirs)
    os.close(theirs)
    try:
        yield path
    finally:
        os.close(ours)


BENCH, PAIR = "bench: {ports: [1-1.*]}", "a: {ports: [1-1.2]}, z: {ports: [1-1.3]}"
SWAPPED, SHARED = "z: {ports: [1-1.2]}, a: {ports: [1-1.3]}", "a: {ports: [1-1.2, 1-1.3]}"


@asynccontextmanager
async def reading_log(socket: Path) -> AsyncIterator[None]:
    """Keep a board for half a second from ending, and do not use it."""
    async with channel(socket) as user, ExporterServiceStub(user).LogStream(empty_pb2.Empty()):
        yield


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board's record takes its time to be written, and what is to be done with the board waits for that."""

    async def write(keeper: OccupancyRunner) -> None:
        await trio.sleep(0.1)

    monkeypatch.setattr(OccupancyRunner, "_write", write)


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.parametrize(
    ("before", "after", "owners"),
    [
        (PAIR, SWAPPED, ["pi4-z", "pi4-a"]),
        (SWAPPED, PAIR, ["pi4-a", "pi4-z"]),
        (SWAPPED, SHARED, ["pi4-a"]),
        (BENCH, PAIR, ["pi4-a", "pi4-z"]),
        (PAIR, BENCH, ["pi4-bench"]),
    ],
    ids=["to z", "to a", "from a board that ends", "from one to two", "from two to one"],
)
async def test_a_port_that_goes_to_another_board_is_open_there_and_never_failed(
    bench: Bench, caplog: pytest.LogCaptureFixture, before: str, after: str, owners: list[str]
) -> None:
    rules = bench.home / "config" / "boards.yaml"
    rules.write_text(f"boards: {{{before}}}")
    (bench.home / "config" / "profiles.d").mkdir()
    bench.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    with terminal() as path, trio.fail_after(30):
        (bench.home / "config" / "profiles.d" / "own.yaml").write_text(CONSOLE % path)
        async with bench.discovering() as door:
            while not users_of(path):
                await trio.sleep(0.01)
            async with AsyncExitStack() as stack:
                for socket in bench.door.parent.glob("boards/*.sock"):
                    await stack.enter_async_context(reading_log(socket))
                rules.write_text(f"boards: {{{after}}}")
                await reload(door)
                await until_served(door, *owners)
            assert "ft232r-a5.serial" in await devices(door, owners[0])
            await call(door, "ft232r-a5.serial", "position", owners[0])
    assert "has failed" not in caplog.text


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.parametrize("takes", [True, False])
async def test_a_port_that_a_configuration_takes_or_gives_back_is_never_failed(
    bench: Bench, caplog: pytest.LogCaptureFixture, takes: bool
) -> None:
    (bench.home / "config" / "profiles.d").mkdir()
    bench.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    with terminal() as path, trio.fail_after(30):
        (bench.home / "config" / "profiles.d" / "own.yaml").write_text(CONSOLE % path)
        named = f"export: {{serial: {{type: serial.PySerial, description: /dev/ttyUSB0, config: {{url: {path}}}}}}}"
        bench.write("other", POWER)
        if not takes:
            bench.write("rpi4", named)
        async with bench.discovering() as door:
            while not users_of(path):
                await trio.sleep(0.01)
            async with AsyncExitStack() as stack:
                for socket in bench.door.parent.glob("boards/*.sock"):
                    await stack.enter_async_context(reading_log(socket))
                if takes:
                    bench.write("rpi4", named)
                else:
                    (bench.folder / "rpi4.yaml").unlink()
                await reload(door)
            if takes:
                await call(door, "serial", "position", "rpi4")
            else:
                await call(door, "ft232r-a5.serial", "position", "pi4")
    assert "has failed" not in caplog.text


class Slow:
    """Serves boards, and does not get to end one before a test says so."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.users: dict[str, str] = {}
        self.files: Mapping[str, BoardFile] = {}

    def show_discovered(self, files: Mapping[str, BoardFile], waiting: Mapping[str, str]) -> None:
        self.files = files

    def has_devices(self, board: str) -> bool:
        return self.files[board].config is not None

    def paths(self, board: str) -> set[str]:
        return {path for path in self.inventory.boards[board].slots if "." in path}


async def test_a_board_that_is_just_ending_gets_a_device_that_comes_for_it_meanwhile(relays: Bench) -> None:
    (relays.home / "config" / "boards.yaml").write_text("boards: {rpi4: {ports: [1-1.2]}}")
    relays.plug({2: (FT232R, "A5")})
    discovery = relays.discovery("pi4")
    inventory = Inventory()
    holder = Slow(inventory)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(discovery.run, holder, inventory, {})
            relays.plug({2: (FT232R, "A5")})
            while "pi4-rpi4" not in holder.files:
                await trio.sleep(0.01)
            add_board(inventory, config_of(holder.files["pi4-rpi4"]))
            relays.plug({})
            while not inventory.boards["pi4-rpi4"].slots["ft232r-a5.power"].lifecycle.why_unplugged:
                await trio.sleep(0.01)
            assert await discovery.forget("ft232r-a5.power")
            assert not holder.has_devices("pi4-rpi4")  # it is to end
            relays.plug({2: (CH340, "")})
            while not holder.has_devices("pi4-rpi4"):
                await trio.sleep(0.01)
            assert holder.paths("pi4-rpi4") == {"ch340-1-1-2.power"}
            nursery.cancel_scope.cancel()


async def test_a_fault_while_boards_are_made_of_devices_ends_nothing_and_the_next_change_is_followed(
    relays: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Slow):
        faults = 0

        def show_discovered(self, files: Mapping[str, BoardFile], waiting: Mapping[str, str]) -> None:
            if self.faults < 2:
                self.faults += 1
                raise LookupError("a fault of ours")
            super().show_discovered(files, waiting)

    relays.plug({2: (FT232R, "A5")})
    discovery = relays.discovery("pi4")
    holder = Faulty(Inventory())
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(discovery.run, holder, holder.inventory, {})
            while not holder.faults:
                await trio.sleep(0.01)
            discovery.free()
            while holder.faults < 2:
                await trio.sleep(0.01)
            relays.plug({3: (CH340, "")})
            while not holder.files:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert caplog.text.count("grouping the plugged devices into boards failed") == 2


def config_of(file: BoardFile) -> ExporterConfig:
    assert file.config is not None
    return file.config


async def test_boards_yaml_with_a_mistake_changes_nothing_and_is_said(
    relays: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_boards(relays) as (door, rules):
        rules.write_text("boards: {rpi4: {prots: [1-1.2]}}")
        told = await reload(door)
        assert told["boards.yaml"].startswith("not taken up: ")
        assert "unknown key 'prots'" in told["boards.yaml"]
        assert set(await listed(door)) == {"pi4-rpi4", "pi4-rock"}
        assert (
            "boards.yaml:1:17: boards.rpi4.prots: unknown key 'prots'; did you mean 'ports'?" in caplog.text
        )
        rules.write_text(TWO_BOARDS)
        assert "boards.yaml" not in await reload(door)


async def test_a_profile_with_a_mistake_is_said_by_a_reload(relays: Bench) -> None:
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until(door, ft232r="ready")
        profiles = relays.home / "config" / "profiles.d"
        (profiles / "odd.yaml").write_text("profiles: {odd: {mtach: {}}}")
        assert "unknown key 'mtach'" in (await reload(door))["odd.yaml"]
        (profiles / "odd.yaml").unlink()
        assert "odd.yaml" not in await reload(door)


async def test_a_reload_that_makes_other_devices_of_what_is_plugged_in_says_so(relays: Bench) -> None:
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until(door, ft232r="ready")
        assert await reload(door) == {"pi4": "unchanged"}
        (relays.home / "config" / "profiles.d" / "relays.yaml").write_text(relay("rock-{id}"))
        assert (await reload(door))["pi4"].startswith("keeps running with changed devices")
        await until(door, rock="ready")
        assert await reload(door) == {"pi4": "unchanged"}


async def test_a_board_that_waits_for_its_first_device_is_not_a_fault(
    relays: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (relays.home / "config" / "boards.yaml").write_text(TWO_BOARDS)
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until_listed(door, "pi4-rpi4", "pi4-rock")
        done = await HostServiceStub(door).Reload(host_pb2.ReloadRequest())
        (rock,) = (one for one in done.boards if one.name == "pi4-rock")
        assert rock.outcome == host_pb2.ReloadedBoard.OUTCOME_WAITING
        assert "nothing of it was ever plugged in" in rock.text
    assert "pi4-rock" not in caplog.text


async def test_the_port_of_an_unplugged_device_is_let_go_of_though_its_name_still_leads_somewhere(
    bench: Bench,
) -> None:
    (bench.home / "config" / "profiles.d").mkdir()
    bench.plug({2: (FT232R, "A5")})
    with terminal() as path, trio.fail_after(30):
        (bench.home / "config" / "profiles.d" / "own.yaml").write_text(CONSOLE % path)
        async with bench.discovering() as door:
            await until(door, ft232r="ready")
            while not users_of(path):
                await trio.sleep(0.01)
            bench.plug({})
            while users_of(path):
                await trio.sleep(0.01)
            assert (await devices(door))["ft232r-a5.serial"][0] == "missing"
            bench.plug({3: (FT232R, "A5")})
            while not users_of(path):
                await trio.sleep(0.01)


async def test_a_board_whose_devices_are_another_boards_now_is_served_no_more(relays: Bench) -> None:
    rules = relays.home / "config" / "boards.yaml"
    rules.write_text("boards: {rpi4: {ports: [1-1.2]}}")
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until_served(door, "pi4-rpi4")
        rules.write_text("boards: {rpi4: {ports: [1-1.9]}, rock: {ports: [1-1.2]}}")
        await reload(door)
        boards = await until_listed(door, "pi4-rock", "pi4-rpi4")
        assert boards["pi4-rpi4"].problem == "boards.yaml: nothing of it was ever plugged in"
        assert not boards["pi4-rpi4"].report.reports
        await use(door, "ft232r-a5.power", "pi4-rock")


async def test_a_board_whose_devices_another_one_claims_is_not_served_and_says_so(relays: Bench) -> None:
    rules = relays.home / "config" / "boards.yaml"
    rules.write_text("boards: {rpi4: {ports: [1-1.2]}}")
    relays.plug({2: (FT232R, "A5")})
    async with relays.discovering() as door:
        await until_served(door, "pi4-rpi4")
        rules.write_text("boards: {rpi4: {ports: [1-1.2]}, rock: {ports: ['1-1.*']}}")
        await reload(door)
        boards = await until_listed(door, "pi4-rpi4", "pi4-rock")
        assert {one.problem for one in boards.values()} == {
            "boards.yaml: another board in there claims what it has"
        }


async def test_what_no_profile_matches_is_said_once_with_what_to_do(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.plug({2: ("0e8d:2000", "")})
    async with bench.discovering() as door:
        bench.plug({2: ("0e8d:2000", ""), 3: (CH340, "")})
        await until(door, ch340="missing")
    said = "/dev/ttyUSB0 is not offered: no profile matches it; `jumpstarter-exporter suggest /dev/ttyUSB0`"
    assert caplog.text.count(said) == 1


async def test_a_host_whose_devices_cannot_be_read_serves_what_is_configured_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(AbstractAsyncContextManager[AsyncIterator[DeviceTree]]):
        async def __aenter__(self) -> AsyncIterator[DeviceTree]:
            raise UdevError("the devices of this host cannot be read: libudev is not installed")

        async def __aexit__(self, *error: object) -> None:
            """It was never entered."""

    monkeypatch.setattr(bench, "trees", Unreadable)
    discovery = bench.discovery("pi4")
    with pytest.raises(UdevError), collapsed():
        await module.run({}, bench.door, None, bench.read, discovery=discovery)
    bench.write("rpi4", POWER)
    async with bench.discovering() as door:
        assert set(await listed(door)) == {"rpi4"}
        assert "only configured boards are served: the devices of this host cannot be read" in caplog.text


async def test_who_the_boards_are_is_read_in_a_thread_and_again_only_when_it_has_changed(
    relays: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, bool]] = []
    """The name of each file of an identity, and whether the loop waited for it."""

    def noticed(path: Path) -> BinaryIO:
        reads.append((path.name, threading.current_thread() is threading.main_thread()))
        return open_regular(path)

    monkeypatch.setattr(identities, "open_regular", noticed)
    kept = Identities()
    host = Enrolment("lab:8082", "default", "pi4", "secret", Tls(), kept.host_path)
    (relays.home / "config" / "boards.yaml").write_text(TWO_BOARDS)
    relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    discovery = relays.discovery("pi4")
    holder = Slow(Inventory())
    kept.save_host(host)

    def names() -> set[str]:
        configs = (file.config for file in holder.files.values())
        return {one.enrolment.name for one in configs if one is not None and one.enrolment is not None}

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(discovery.run, holder, holder.inventory, {})
            relays.plug({3: (CH340, "")})
            while names() != {"pi4-rpi4", "pi4-rock"}:
                await trio.sleep(0.01)
            assert [name for name, _ in reads].count("host.yaml") == 1
            kept.save_host(replace(host, name="attic"))
            discovery.free()
            while names() != {"attic-rpi4", "attic-rock"}:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert [name for name, _ in reads].count("host.yaml") == 2
    assert [name for name, is_waited_for in reads if is_waited_for] == []


async def test_a_device_that_is_plugged_in_and_one_that_there_is_not_are_told_apart_when_they_are_to_be_forgotten(
    relays: Bench,
) -> None:
    async def forget(name: str) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await HostServiceStub(door).Forget(host_pb2.ForgetRequest(device=name))
        return caught.value

    relays.plug({2: (FT232R, "A5"), 3: (CH340, "")})
    async with relays.discovering() as door:
        await until(door, ft232r="ready", ch340="ready")
        plugged = await forget("ft232r-a5.power")
        assert plugged.exit_code is ExitCode.FAILED
        assert (
            plugged.details == "ft232r-a5.power cannot be forgotten while it is plugged in; unplug it first"
        )
        unknown = await forget("ft232r-a6.power")
        assert unknown.exit_code is ExitCode.NOT_FOUND
        assert unknown.details.startswith("no device ft232r-a6.power was discovered")
        assert unknown.details.endswith("; did you mean 'ft232r-a5.power'?")
        relays.plug({3: (CH340, "")})
        await until(door, ft232r="missing", ch340="ready")
        await HostServiceStub(door).Forget(host_pb2.ForgetRequest(device="ft232r-a5.power"))
        assert (await forget("ft232r-a5.power")).exit_code is ExitCode.NOT_FOUND
