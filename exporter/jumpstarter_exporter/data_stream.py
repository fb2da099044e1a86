"""A byte stream whose pieces are the messages `StreamData` of one call: how gRPC services of drivers carry bytes."""

from __future__ import annotations

from typing import Any

import trio
from jumpstarter_proto.rpc import Message, RpcError, ServerCall

__all__ = ["DataStream"]

PIECE = 65536
"""Most bytes of one message that we send."""


class DataStream:
    """What `join` needs of the user's side. A piece that fits into one message stays whole, as datagrams must."""

    def __init__(self, call: ServerCall[Any, Any], data_type: type[Message]) -> None:
        """`data_type` is a message with the field `payload`."""
        self.received = self.sent = 0
        """Bytes from the user, and to the user."""
        self._call = call
        self._data_type: Any = data_type

    async def receive_some(self) -> bytes:
        """The next piece; b"" when the user sends no more. trio.BrokenResourceError when the user has left."""
        while True:
            try:
                message = await self._call.receive()
            except trio.EndOfChannel:
                return b""
            except RpcError as error:
                raise trio.BrokenResourceError(str(error)) from error
            payload: bytes = message.payload
            if payload:
                self.received += len(payload)
                return payload

    async def send_all(self, data: bytes, /) -> None:
        """Send all of it, waiting while the user is slow."""
        for start in range(0, len(data), PIECE):
            piece = bytes(data[start : start + PIECE])
            try:
                await self._call.send(self._data_type(payload=piece))
            except RpcError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.sent += len(piece)
