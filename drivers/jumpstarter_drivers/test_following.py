"""A client's tree follows its exporter's devices, without a new connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from jumpstarter_client.transport import open_reconnecting
from jumpstarter_client.tree import open_client
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.devices.cores import managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.session.session import Session
from jumpstarter_proto.rpc import Channel, open_channel
from jumpstarter_proto.tasks import collapsed

from jumpstarter_drivers.power.driver import MockPower


async def test_devices_that_come_go_or_are_missing_do_so_in_a_tree_that_is_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    board = BoardDevices("lab", Spec(Composite, children={"power": Spec(MockPower), "old": Spec(MockPower)}))
    async with managed_cores(board), Session(board) as session:

        @asynccontextmanager
        async def dial() -> AsyncIterator[Channel]:
            ours, theirs = trio.testing.memory_stream_pair()
            with collapsed():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(session.serve_connection, theirs)
                    async with open_channel(ours) as channel:
                        yield channel
                    nursery.cancel_scope.cancel()

        async with open_reconnecting(dial) as channel, open_client(channel) as root:
            power = root.children["power"]
            board.slots["power"].lifecycle.core.missing("unplugged")
            board.replace(Spec(Composite, children={"power": Spec(MockPower), "new": Spec(MockPower)}))
            await trio.sleep(2)
            assert (power.node.state, power.node.reason) == ("missing", "unplugged")
            await root.children["new"].call_async("on")
            with pytest.raises(Exception, match="old is gone: the exporter no longer has it"):
                await root.children["old"].call_async("on")
