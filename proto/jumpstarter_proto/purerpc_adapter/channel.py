"""Lets a stub that purerpc's plugin has generated call on our channel: unix sockets, TLS, tunnels, reconnecting ones.

    stub = PowerInterfaceStub(PurerpcChannel(channel, metadata=[("x-jumpstarter-driver-uuid", uuid)]))
    await stub.On(Empty())

A call that fails raises purerpc's `RpcFailedError`. A cancelled call resets its stream.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import purerpc
import trio
from google.protobuf import descriptor_pool
from purerpc.grpclib.events import ResponseEnded

from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, RpcError

__all__ = ["PurerpcChannel"]

_Block = AbstractAsyncContextManager[ClientCall[Any, Any]]


class PurerpcChannel:
    """What a purerpc stub takes as its channel. `metadata` goes with each call, before the call's own."""

    def __init__(self, channel: Caller, *, metadata: Metadata = ()) -> None:
        # The three names that `purerpc.Client` reads.
        self._host, self._port = "", ""
        self._grpc_socket = _Socket(channel, tuple(metadata))


class _Socket:
    def __init__(self, channel: Caller, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = metadata
        self._open: set[_Block] = set()
        """Kept alive: a block that is garbage would be closed by trio, and not as our channel wants it."""
        self._is_unary: dict[str, bool] = {}
        """By the paths of procedures that were called."""

    async def start_request(  # noqa: PLR0917 - purerpc's signature
        self,
        scheme: str,
        service_name: str,
        method_name: str,
        message_type: str,
        authority: str,
        custom_metadata: Metadata = (),
    ) -> _Stream | _UnaryCall:
        path = f"/{service_name}/{method_name}"
        metadata = (*self._metadata, *custom_metadata)
        if (is_unary := self._is_unary.get(path)) is None:
            is_unary = self._is_unary[path] = _is_unary(f"{service_name}.{method_name}")
        if is_unary:
            return _UnaryCall(self._channel, path, metadata)
        method: Method[Any, Any] = Method(path, Cardinality.STREAM_STREAM, _Any, _Any)
        block = self._channel.stream(method, metadata=metadata)
        call = await block.__aenter__()
        self._open.add(block)
        return _Stream(block, call, self._open)


def _is_unary(name: str) -> bool:
    """Whether one message travels each way. The stub does not tell, but its messages' module has the description."""
    try:
        procedure = descriptor_pool.Default().FindMethodByName(name)
    except KeyError:
        return False  # a service that was described elsewhere; as a stream, any number may travel
    return not (procedure.client_streaming or procedure.server_streaming)


class _UnaryCall:
    """A call with one message each way, which is made when both ends of it are known: one write, and no stream."""

    def __init__(self, channel: Caller, path: str, metadata: Metadata) -> None:
        self.end_stream_event: ResponseEnded | None = None
        self._channel = channel
        self._path = path
        self._metadata = metadata
        self._message_type: Any = None
        self._request: Any = None
        self._reply: Any = None

    def expect_message_type(self, message_type: Any) -> None:
        self._message_type = message_type

    async def send_message(self, message: Any) -> None:
        self._request = message

    async def close(self) -> None:
        """Make the call. `receive_message` says how it ended."""
        method: Method[Any, Any] = Method(
            self._path, Cardinality.UNARY_UNARY, type(self._request), self._message_type
        )
        status = purerpc.Status(0)
        try:
            self._reply = await self._channel.unary(method, self._request, metadata=self._metadata)
        except RpcError as error:
            status = purerpc.Status(error.code.value, error.details)
        self.end_stream_event = ResponseEnded(0, status)

    async def receive_message(self) -> Any:
        reply, self._reply = self._reply, None
        return reply


class _Any:
    """The type of messages that are passed on serialised."""

    @staticmethod
    def FromString(data: bytes) -> bytes:  # noqa: N802 - protobuf's name
        return data


class _Stream:
    """One call, with the methods of `purerpc.grpc_proto.GRPCProtoStream` that stubs use."""

    def __init__(self, block: _Block, call: ClientCall[Any, Any], blocks: set[_Block]) -> None:
        self.end_stream_event: ResponseEnded | None = None
        self._blocks = blocks
        self._block: _Block | None = block
        self._call = call
        self._token = trio.lowlevel.current_trio_token()
        self._message_type: Any = None

    def expect_message_type(self, message_type: Any) -> None:
        self._message_type = message_type

    async def send_message(self, message: Any) -> None:
        try:
            await self._call.send_data(message.SerializeToString())
        except RpcError:
            pass  # the peer has ended the call; `receive_message` says how
        except BaseException:
            await self._leave()
            raise

    async def close(self) -> None:
        if self._block is not None:
            await self._call.send_eof()

    async def receive_message(self) -> Any:
        if self._block is None:
            return None
        try:
            data = await self._call.receive_data()
        except trio.EndOfChannel:
            await self._end(purerpc.Status(0))
        except RpcError as error:
            await self._end(purerpc.Status(error.code.value, error.details))
        except BaseException:
            await self._leave()
            raise
        else:
            return self._message_type.FromString(data)
        return None

    async def _end(self, status: purerpc.Status) -> None:
        self.end_stream_event = ResponseEnded(0, status)
        await self._leave()

    async def _leave(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            await _close(block, self._blocks)

    def __del__(self) -> None:
        """Reset a call whose replies are iterated over no longer: stubs do not tell."""
        if self._block is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(_close_soon, self._block, self._blocks)


async def _close(block: _Block, blocks: set[_Block]) -> None:
    blocks.discard(block)
    with trio.CancelScope(shield=True):  # resets the call unless it has ended, and waits for nothing
        await block.__aexit__(None, None, None)


def _close_soon(block: _Block, blocks: set[_Block]) -> None:
    trio.lowlevel.spawn_system_task(_close, block, blocks)
