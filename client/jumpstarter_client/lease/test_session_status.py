"""How long a session may take to be ready for its user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel, serve_connection
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.conftest import BoardExporter, Silent
from jumpstarter_client.session_status import ANSWER_SECONDS, POLL_SECONDS, wait_ready


@asynccontextmanager
async def reached(session: BoardExporter | Silent) -> AsyncIterator[Channel]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, [session])
        async with open_channel(ours) as channel:
            yield channel
        nursery.cancel_scope.cancel()


async def test_a_hook_that_never_ends_is_waited_for_only_so_long(
    board: BoardExporter, autojump_clock: trio.testing.MockClock
) -> None:
    board.status, board.message = common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK, "flashing"
    async with reached(board) as channel:
        with trio.fail_after(100), pytest.raises(ConnectError, match=r"not ready within 10 s.*flashing"):
            await wait_ready(channel, 10)
    assert trio.current_time() == pytest.approx(10, abs=2 * POLL_SECONDS)


async def test_a_session_that_does_not_answer_is_given_up_where_there_is_no_other_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with reached(Silent(BoardExporter)) as channel:
        with trio.fail_after(10 * ANSWER_SECONDS), pytest.raises(RpcError) as caught:
            await wait_ready(channel)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert trio.current_time() == pytest.approx(ANSWER_SECONDS, abs=1)
