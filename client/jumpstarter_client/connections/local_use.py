"""Hold the local use of a board while a shell is open, so that no lease takes the board between two commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub
from jumpstarter_proto.lab.v1.devices_pb2 import HoldRequest
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown

from jumpstarter_client.base import DriverClient
from jumpstarter_client.connections.connect import connect_async

__all__ = ["hold_board"]

MAX_MESSAGE_LENGTH = 400
"""In characters; the messages come from an exporter."""


@asynccontextmanager
async def hold_board(
    host: str, board: str | None, on_message: Callable[[str], None]
) -> AsyncIterator[DriverClient]:
    """Connect, hold the board during the block, and yield the root of its devices.

    `on_message` gets messages for the user. Exporters of Jumpstarter 0.9 have no local use; they are connected as well.

    Raises:
        RpcError: PERMISSION_DENIED, somebody else uses the board; or what `connect_async` raises.
    """
    with collapsed():
        async with connect_async(host, board=board) as client, trio.open_nursery() as nursery:
            await nursery.start(_hold, client.connection.channel, on_message)
            yield client
            nursery.cancel_scope.cancel()


async def _hold(
    channel: Caller, on_message: Callable[[str], None], *, task_status: trio.TaskStatus[None]
) -> None:
    is_held = False
    try:
        async with DevicesServiceStub(channel).Hold(HoldRequest()) as call:
            await call.receive()
            is_held = True
            task_status.started()
            async for message in call:
                on_message(shown(message.said, MAX_MESSAGE_LENGTH))
    except RpcError as error:
        if is_held:
            on_message(
                f"{shown(str(error), MAX_MESSAGE_LENGTH)}; the next command takes the board again, if it can"
            )
            return
        if error.code is not StatusCode.UNIMPLEMENTED:
            raise
        task_status.started()
    except JumpstarterError as error:
        if not is_held:
            raise
        on_message(shown(str(error), MAX_MESSAGE_LENGTH))
