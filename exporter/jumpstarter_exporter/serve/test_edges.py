"""What goes wrong with one board ends no other."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import Channel, RpcError, unix_listener

from jumpstarter_exporter.config.folder import BoardFile, boards_of, read_file
from jumpstarter_exporter.serve import boards
from jumpstarter_exporter.serve import host as module
from jumpstarter_exporter.serve.board import LocalBoard
from jumpstarter_exporter.serve.host import run
from jumpstarter_exporter.serve.test_boards import channel, report


@asynccontextmanager
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The boards `good` and `bad` in this process, and their door."""
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(module, "end_in_time", lambda _: None)
    places = [tmp_path / f"{name}.yaml" for name in ("good", "bad")]
    for place in places:
        place.write_text("export: {power: {type: power.MockPower}}")

    def read(before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        return boards_of(map(read_file, places), before)

    door = tmp_path / "exporter.sock"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, read({}), door, None, read)
        with trio.fail_after(10):
            while True:
                try:
                    async with channel(door):
                        break
                except RpcError:
                    await trio.sleep(0.01)
        yield door
        signal.raise_signal(signal.SIGTERM)


async def until_refused(users: Channel, board: str) -> None:
    """Ask for it again and again."""
    while True:
        await report(users, board)


async def test_a_board_with_a_fault_of_ours_is_not_served_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = trio.Event()
    whole = LocalBoard.run

    async def faulty(self: LocalBoard, *, task_status: trio.TaskStatus[None]) -> None:
        if self.name != "bad":
            return await whole(self, task_status=task_status)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(whole, self))
            task_status.started()
            await fail.wait()
            raise ZeroDivisionError("oh")

    monkeypatch.setattr(LocalBoard, "run", faulty)
    async with running(tmp_path, monkeypatch) as door, channel(door) as users:
        assert await report(users, "bad") == ("", 1)
        fail.set()
        with trio.fail_after(10), pytest.raises(RpcError, match=r"bad is not served: it has failed \(oh\)"):
            await until_refused(users, "bad")
        assert await report(users, "good") == ("", 1)


async def test_a_board_whose_socket_cannot_be_made_is_not_served_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, **options: object) -> object:
        if path.name == "bad.sock":
            raise OSError(28, "No space left on device")
        return unix_listener(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(boards, "unix_listener", refusing)
    async with running(tmp_path, monkeypatch) as door, channel(door) as users:
        with pytest.raises(RpcError, match=r"the board bad is not served: .*No space left on device"):
            await report(users, "bad")
        assert await report(users, "good") == ("", 1)
