"""A byte stream in the messages `StreamData` of one call: how drivers' gRPC services transfer bytes."""

from __future__ import annotations

from typing import Any

import trio
from jumpstarter_proto.rpc import Message, RpcError, ServerCall

__all__ = ["DataStream"]

MAX_PIECE_BYTES = 65536
"""The largest payload of a message that is sent."""


class DataStream:
    """The user's side of `join`. A piece that fits into one message stays whole, as datagrams must."""

    def __init__(self, call: ServerCall[Any, Any], data_type: type[Message]) -> None:
        """`data_type` is a message with the field `payload`."""
        self.received = self.sent = 0
        """Bytes from the user, and to the user."""
        self._call = call
        self._data_type: Any = data_type

    async def receive_some(self) -> bytes:
        """The next piece; b"" if the user has ended the stream. trio.BrokenResourceError if the user has left."""
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
        """Send all data; waits while the user is slow."""
        for start in range(0, len(data), MAX_PIECE_BYTES):
            piece = bytes(data[start : start + MAX_PIECE_BYTES])
            try:
                await self._call.send(self._data_type(payload=piece))
            except RpcError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.sent += len(piece)
