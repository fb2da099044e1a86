"""What runs on the replica that leads ends when it may not lead any more, whoever does not answer."""

from __future__ import annotations

import threading

import trio
import trio.testing

from jumpstarter_controller.replicas import LeaderRecord, Leadership
from jumpstarter_controller.replicas.election import CLAIM_SECONDS, RENEW_SECONDS


class Record:
    """It is written once, and then nobody answers until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._version = 0

    def read(self) -> tuple[LeaderRecord | None, str]:
        return None, ""

    def write(self, claim: LeaderRecord, version: str) -> str | None:
        if self._version:
            assert self.over.wait(60)
        self._version += 1
        return str(self._version)


async def test_who_is_not_answered_in_time_does_no_more(mock_clock: trio.testing.MockClock) -> None:
    record, begun, ended = Record(), trio.Event(), trio.Event()
    leadership = Leadership(record, "me", clock=trio.current_time)

    async def lead() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(leadership.while_leads, lambda: [lead])
        await nursery.start(leadership.run)
        await begun.wait()
        mock_clock.jump(RENEW_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert leadership.leads()
        assert not ended.is_set()
        mock_clock.jump(CLAIM_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert not leadership.leads()
        assert ended.is_set()
        record.over.set()
        nursery.cancel_scope.cancel()
