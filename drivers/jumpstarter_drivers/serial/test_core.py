"""What of a console outlives a session: its port, its recording, and nothing that a user has set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import trio
from jumpstarter_client.tree import open_client
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.recording import Recorder, RecordingFolder
from jumpstarter_exporter.session.session import Session
from jumpstarter_proto.rpc import open_channel
from trio.testing import memory_stream_pair

from jumpstarter_drivers.serial.client import PySerialClient
from jumpstarter_drivers.serial.conftest import Cable
from jumpstarter_drivers.serial.driver import PySerial, SerialCore


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def devices(url: str, **values: Any) -> BoardDevices:
    spec = Spec(Composite, children={"console": Spec(PySerial, {"url": url, **values})})
    return Inventory().add("lab", spec, {"console": uuid4()})


@asynccontextmanager
async def exporter(board: BoardDevices) -> AsyncIterator[SerialCore]:
    """The host, for a time with several sessions."""
    async with managed_cores(board), trio.open_nursery() as nursery:
        nursery.start_soon(keeping_open, board)
        slot = board.slots["console"].core
        assert slot is not None
        await slot.open()
        yield cast("SerialCore", slot.core)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def user(board: BoardDevices, lease: str | None = None) -> AsyncIterator[PySerialClient]:
    ours, theirs = memory_stream_pair()
    async with Session(board, lease=lease) as session, trio.open_nursery() as nursery:
        nursery.start_soon(session.serve_connection, theirs)
        async with open_channel(ours) as channel, open_client(channel) as root:
            yield cast("PySerialClient", root.children["console"])
        nursery.cancel_scope.cancel()


async def recorded(core: SerialCore, text: bytes) -> None:
    """Wait until that was recorded."""
    with trio.fail_after(10):
        seen = b""
        async with aclosing(core.recorder.read(follow=True)) as batches:
            async for batch in batches:
                seen += b"".join(record.data for record in batch)
                if text in seen:
                    break


async def history(client: PySerialClient) -> bytes:
    return b"".join([record.data async for record in client.history.aio()])


async def test_a_console_is_recorded_between_sessions_and_its_port_is_opened_once(cable: Cable) -> None:
    board = devices(str(cable.path))
    async with exporter(board) as core:
        cable.write(b"before; ")
        await recorded(core, b"before; ")
        async with user(board) as client:
            await client.mark.aio("in session")
        cable.write(b"between; ")
        await recorded(core, b"between; ")
        async with user(board) as client:
            seen = await history(client)
    assert seen.index(b"before; ") < seen.index(b"in session") < seen.index(b"between; ")
    assert seen.count(b"the port was opened") == 1


async def test_a_record_has_its_time_in_seconds_by_the_clock_that_users_are_told(cable: Cable) -> None:
    board = devices(str(cable.path))
    async with exporter(board) as core, user(board) as client:
        begin = cast("float", await client.call_async("clock"))
        cable.write(b"now; ")
        await recorded(core, b"now; ")
        times = [record.time async for record in client.history.aio() if b"now; " in record.data]
        assert times
        assert begin <= times[0] <= times[-1] <= cast("float", await client.call_async("clock"))


async def test_a_lease_sees_what_was_recorded_from_its_begin_on_and_local_users_all(cable: Cable) -> None:
    board = devices(str(cable.path))
    async with exporter(board) as core:
        cable.write(b"somebody's password; ")
        await recorded(core, b"password; ")
        async with user(board, lease="mine") as client:
            cable.write(b"my own; ")
            await recorded(core, b"my own; ")
            assert await history(client) == b"my own; "
        async with user(board) as client:
            assert b"password; my own; " in (await history(client)).replace(b"the port was opened", b"")


async def test_a_setting_opens_the_recording_to_leases(cable: Cable) -> None:
    board = devices(str(cable.path), recording_access="all")
    async with exporter(board) as core:
        cable.write(b"for everybody; ")
        await recorded(core, b"everybody; ")
        async with user(board, lease="mine") as client:
            assert b"for everybody; " in await history(client)


async def test_lines_that_a_user_has_dropped_are_raised_for_the_next_session() -> None:
    board = devices("loop://")
    async with exporter(board) as core:
        port = core.console._port
        assert port is not None
        async with user(board) as client:
            await client.set_dtr.aio(False)
            assert not port._serial.dtr
        assert port._serial.dtr
        assert core.settings.lines == {}


async def test_force_close_ends_the_streams_of_its_session_and_the_recording_goes_on(cable: Cable) -> None:
    board = devices(str(cable.path))
    async with exporter(board) as core, user(board) as client, client.stream_async("connect") as stream:
        with core.console.attach() as other:
            await client.force_close.aio()
            with trio.fail_after(10):
                assert await stream.receive_some() == b""
            cable.write(b"still here; ")
            with trio.fail_after(10):
                assert await other.receive() == b"still here; "
        await recorded(core, b"still here; ")


async def test_a_recording_from_before_devices_had_uuids_is_found_again(cable: Cable, state: Path) -> None:
    board = devices(str(cable.path))
    config = PySerial(url=str(cable.path))
    former = state / "consoles" / config.recording_name("console")
    async with trio.open_nursery() as nursery:
        recorder = Recorder(former, logger=config.logger)
        await nursery.start(recorder.run)
        recorder.record(b"of old; ")
        nursery.cancel_scope.cancel()
    async with exporter(board), user(board) as client:
        assert b"of old; " in await history(client)
    assert [folder.name for folder in (state / "consoles").iterdir()] == [str(board.slots["console"].uuid)]


async def test_a_recording_of_another_exporter_that_runs_is_left_to_it(cable: Cable, state: Path) -> None:
    board = devices(str(cable.path))
    config = PySerial(url=str(cable.path))
    former = RecordingFolder(state / "consoles" / config.recording_name("console"))
    former.open()
    try:
        async with exporter(board) as core:
            cable.write(b"mine; ")
            await recorded(core, b"mine; ")
        assert former.path.is_dir()
    finally:
        former.close()


async def test_a_device_whose_name_came_back_before_the_host_said_that_it_went_is_open(cable: Cable) -> None:
    board = devices(str(cable.path))
    slot = board.slots["console"]
    async with exporter(board) as core:
        slot.unplugged("unplugged at 12:00:01")
        cable.write(b"it is the name that counts; ")
        await recorded(core, b"counts; ")


async def test_a_port_of_another_device_is_let_go_of_and_not_opened_before_its_own_is_back(
    cable: Cable,
) -> None:
    board = devices(str(cable.path))
    slot = board.slots["console"]
    async with exporter(board) as core:
        cable.write(b"mine; ")
        await recorded(core, b"mine; ")
        slot.unplugged("unplugged at 12:00:01", names_may_lead_elsewhere=True)
        await recorded(core, b"the port went away: it was unplugged")
        assert not await core.console.wait_for_port(0)
        assert slot.reason == "unplugged at 12:00:01"
        assert "unplugged at 12:00:01" in str(core.console.why_missing)
        slot.plugged()
        assert await core.console.wait_for_port(10)
        cable.write(b"mine again; ")
        await recorded(core, b"mine again; ")
        assert slot.state is State.READY
