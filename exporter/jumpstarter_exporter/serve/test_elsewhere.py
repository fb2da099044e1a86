"""What the door says of boards that have processes of their own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from jumpstarter_proto.lab.v1 import host_pb2

from jumpstarter_exporter.boards.claim import Holder, holder
from jumpstarter_exporter.serve import elsewhere


async def test_locks_are_looked_at_by_one_turn_of_a_worker_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def looked_at(file: Path) -> Holder | None:
        threads.append(threading.current_thread())
        return holder(file)

    monkeypatch.setattr(elsewhere, "holder", looked_at)
    boards = {tmp_path / f"{name}.yaml": host_pb2.Board(name=name) for name in ("one", "two", "three")}
    await elsewhere.look_elsewhere(boards)
    assert [board.problem != "" for board in boards.values()] == [True] * 3
    assert "is not served" in await elsewhere.not_here("one", tmp_path / "one.yaml")
    assert len(threads) == 4
    assert len(set(threads[:3])) == 1
    assert threading.current_thread() not in threads
