"""What goes wrong with one board ends no other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import Channel, RpcError, unix_listener

from jumpstarter_exporter.serve import boards
from jumpstarter_exporter.serve.board import LocalBoard
from jumpstarter_exporter.serve.test_boards import report
from tests.support.served_host import ServedHost


@pytest.fixture
def two(host: ServedHost) -> ServedHost:
    """With the boards `good` and `bad`."""
    for name in ("good", "bad"):
        host.write(name)
    return host


async def until_refused(users: Channel, board: str) -> None:
    """Ask for it again and again."""
    while True:
        await report(users, board)


async def test_a_board_with_a_fault_of_ours_is_not_served_and_says_so(
    two: ServedHost, monkeypatch: pytest.MonkeyPatch
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
    async with two.running() as users:
        assert await report(users, "bad") == ("bad", 1)
        fail.set()
        with trio.fail_after(10), pytest.raises(RpcError, match=r"bad is not served: it has failed \(oh\)"):
            await until_refused(users, "bad")
        assert await report(users, "good") == ("good", 1)


async def test_a_board_whose_socket_cannot_be_made_is_not_served_and_says_so(
    two: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, **options: object) -> object:
        if path.name == "bad.sock":
            raise OSError(28, "No space left on device")
        return unix_listener(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(boards, "unix_listener", refusing)
    async with two.running() as users:
        with pytest.raises(RpcError, match=r"the board bad is not served: .*No space left on device"):
            await report(users, "bad")
        assert await report(users, "good") == ("good", 1)
