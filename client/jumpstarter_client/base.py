"""Base of the driver clients: what any device can be asked, from trio tasks and from plain code.

Names ending in `_async` (and `.aio` of twins) are for trio tasks, the others block the calling thread, which must
not be one that runs trio.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import trio
from jumpstarter_proto.byte_streams.router_stream import CONFIRM, RouterStream
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2
from jumpstarter_proto.value import JSON, from_value, to_value

from jumpstarter_client.blocking import Bridge
from jumpstarter_client.blocking_stream import BlockingStream, blocking_stream
from jumpstarter_client.connection import Connection
from jumpstarter_client.errors import DriverError, ExporterNotReady, call_error, streaming_error
from jumpstarter_client.logs import entries, is_of_hook, line_of
from jumpstarter_client.node import Node
from jumpstarter_client.transport import ConnectionLostError

if TYPE_CHECKING:
    from jumpstarter_client.resources import ReceiveBytes, SendBytes

__all__ = ["Children", "DriverClient", "StubClient"]

LEAVE_SECONDS = 5.0
"""What a device may take for what was sent to it, when its user leaves."""
STATUS_POLL = 0.3
"""Seconds between questions while waiting for a status."""


class Children(Mapping[str, "DriverClient"]):
    """A device's children by name; each is loaded when it is first looked up."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getitem__(self, name: str) -> DriverClient:
        return self._node.children[name].client

    def __iter__(self) -> Iterator[str]:
        return iter(self._node.children)

    def __len__(self) -> int:
        return len(self._node.children)


class DriverClient:
    """A device of an exporter. Children are attributes: `client.rpi4.power`.

    It is of use as long as its connection is open. Any number of tasks and threads may use it at a time.
    """

    interface: ClassVar[str] = ""

    def __init__(self, node: Node, connection: Connection) -> None:
        self.node = node
        """What the exporter reports about it."""
        self.connection = connection
        self.name = node.name
        self.path = node.path or node.name
        """Such as "rpi4.power"."""
        self.labels = node.labels
        self.description = node.description
        self.methods_description = node.methods_description
        self.children: Mapping[str, DriverClient] = Children(node)

    @property
    def uuid(self) -> str:
        """What the exporter knows it by; another one after the exporter was restarted."""
        return self.node.uuid

    @property
    def bridge(self) -> Bridge:
        """To the loop that the async methods run in."""
        return self.connection.bridge

    @property
    def stack(self) -> ExitStack:
        """For blocking code: what is entered here is closed with the connection."""
        return self.connection.stack

    @cached_property
    def logger(self) -> logging.Logger:
        """For what this client has to say."""
        return logging.getLogger(f"client.{type(self).__name__}")

    def __getattr__(self, name: str) -> Any:  # a child, of whichever class the exporter names
        node = self.__dict__.get("node")
        if node is not None and name in node.children:
            return node.children[name].client
        children = ", ".join(node.children) if node is not None else ""
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}" + (f"; its children are {children}" if children else "")
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    # --- calls

    async def call_async(self, method: str, *args: object) -> JSON:
        """Call a method of the driver; arguments and result are JSON-like, numbers come back as floats.

        Raises:
            DriverError: or one of its subclasses, by the status that the exporter sent.
        """
        try:
            await self.connection.wait_connected()
            request = jumpstarter_pb2.DriverCallRequest(
                uuid=self.uuid, method=method, args=[to_value(arg) for arg in args]
            )
            response = await self.connection.exporter.DriverCall(request)
        except RpcError as error:
            raise call_error(method, error) from error
        return from_value(response.result)

    def call(self, method: str, *args: object) -> JSON:
        """`call_async`, blocking."""
        return self.bridge.call(self.call_async, method, *args)

    async def streamingcall_async(self, method: str, *args: object) -> AsyncGenerator[JSON, None]:
        """Iterate over the results of a streaming method; use `contextlib.aclosing` to leave early."""
        try:
            await self.connection.wait_connected()
            request = jumpstarter_pb2.StreamingDriverCallRequest(
                uuid=self.uuid, method=method, args=[to_value(arg) for arg in args]
            )
            async with self.connection.exporter.StreamingDriverCall(request) as call:
                async for response in call:
                    yield from_value(response.result)
        except RpcError as error:
            raise streaming_error(method, error) from error

    def streamingcall(self, method: str, *args: object) -> Iterator[JSON]:
        """`streamingcall_async`, blocking; closing the generator ends the call."""
        return self.bridge.iterate(self.streamingcall_async(method, *args))

    # --- streams

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """A byte stream to the driver, connected when the block begins and ended with it.

        Leaving the block well ends what we send, and waits at most `LEAVE_SECONDS` until the device has taken it; what
        comes meanwhile is dropped. Leaving it with an exception ends the stream at once. See `byte_streams.join`.

        Raises:
            DriverError: the device cannot be opened, has no such stream, or did not take all that was sent.
        """
        try:
            await self.connection.wait_connected()
        except RpcError as error:
            raise streaming_error(method, error) from error
        request = json.dumps({"kind": "driver", "uuid": self.uuid, "method": method}, separators=(",", ":"))
        async with self.connection.router.Stream(metadata=[("request", request), CONFIRM]) as call:
            try:
                confirms = CONFIRM in await call.initial_metadata()
            except RpcError as error:
                raise streaming_error(method, error) from error
            stream = RouterStream.client(call, confirms=confirms)
            try:
                yield stream
                await self._leave(stream)
            finally:
                await trio.aclose_forcefully(
                    stream
                )  # leaving the call ends it; this only says so to later users

    async def _leave(self, stream: RouterStream) -> None:
        try:
            await stream.leave(LEAVE_SECONDS)
        except trio.BrokenResourceError as error:
            raise DriverError(
                f"{self.path or self.name} may not have got all that was sent to it: {error}; look at the device, "
                "and send it again",
                code=StatusCode.UNAVAILABLE,
            ) from error

    @contextmanager
    def stream(self, method: str = "connect") -> Iterator[BlockingStream]:
        """`stream_async`, blocking."""
        with self.bridge.context(blocking_stream(self.stream_async(method), self.bridge)) as stream:
            yield stream

    def open_stream(self, method: str = "connect") -> BlockingStream:
        """A stream without a block: `close()` it, or it ends with the connection."""
        own = ExitStack()
        opened = own.enter_context(self.stream(method))
        opened.on_close = own.close
        self.stack.callback(opened.close)
        return opened

    def close(self) -> None:
        """End what this connection's clients opened without a block; the connection stays."""
        self.stack.close()

    def resource_async(
        self, stream: ReceiveBytes | SendBytes, content_encoding: str | None = None
    ) -> AbstractAsyncContextManager[dict[str, JSON]]:
        """Offer a source or a sink of bytes to the driver; the block's value is the handle to pass to it.

        `content_encoding` (gzip, xz, bz2 or zstd) names the format of the data. See `open_resource` for what
        leaving the block means.
        """
        from jumpstarter_client.resources import open_resource  # noqa: PLC0415 - for who moves files

        return open_resource(self.connection, self.uuid, stream, content_encoding)

    async def wait_closed_async(self) -> RpcError:
        """Wait for the end of the connection; returns the reason."""
        return await self.connection.channel.wait_closed()

    # --- logs and status

    async def logs_async(self) -> AsyncGenerator[jumpstarter_pb2.LogStreamResponse, None]:
        """The exporter's log from now on, until the iteration is left; each entry once, whatever breaks meanwhile."""
        try:
            async with aclosing(entries(self.connection.channel)) as log:
                async for entry in log:
                    yield entry
        except RpcError as error:
            raise streaming_error("LogStream", error) from error

    @asynccontextmanager
    async def log_stream_async(self, show_all_logs: bool = True) -> AsyncIterator[None]:
        """Print the exporter's log to stderr during the block; what its hooks say, and all the rest if asked."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._print_log, show_all_logs)
                yield
                nursery.cancel_scope.cancel()

    async def _print_log(self, show_all: bool) -> None:
        try:
            async for entry in self.logs_async():
                if show_all or is_of_hook(entry):
                    print_error_line(line_of(entry))
        except DriverError as error:
            self.logger.debug("the exporter's log ended: %s", error)

    @contextmanager
    def log_stream(self, show_all_logs: bool = True) -> Iterator[None]:
        """`log_stream_async`, blocking."""
        with self.bridge.context(self.log_stream_async(show_all_logs)):
            yield

    async def get_status_async(self) -> jumpstarter_pb2.GetStatusResponse | None:
        """The session's status; None from an exporter that has none (before 0.8)."""
        while True:
            try:
                return await self.connection.exporter.GetStatus(jumpstarter_pb2.GetStatusRequest())
            except ConnectionLostError:
                continue  # to ask twice does no harm
            except RpcError as error:
                if error.code is StatusCode.UNIMPLEMENTED:
                    return None
                raise call_error("GetStatus", error) from error

    async def wait_for_lease_ready(self, timeout: float = 300.0) -> None:
        """Wait until the exporter takes driver calls.

        Raises:
            ExporterNotReady: its beforeLease hook failed, or it was not ready in time.
        """
        with trio.move_on_after(timeout):
            while True:
                response = await self.get_status_async()
                if response is None or response.status == common_pb2.EXPORTER_STATUS_LEASE_READY:
                    return
                if response.status == common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED:
                    raise ExporterNotReady(f"the lease cannot be used: {response.message}")
                await trio.sleep(STATUS_POLL)
        raise ExporterNotReady(f"the exporter was not ready within {timeout:g} s; look at its log")

    async def end_session_async(self) -> bool:
        """Say that the lease's user is done; False when there is no lease, or the exporter knows no end."""
        try:
            response = await self.connection.exporter.EndSession(jumpstarter_pb2.EndSessionRequest())
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                return False
            raise call_error("EndSession", error) from error
        return response.success


class StubClient(DriverClient):
    """Stands for a device whose client class cannot be loaded. Its children work; using it says why not."""

    def __init__(self, node: Node, connection: Connection, reason: str) -> None:
        super().__init__(node, connection)
        self.stub_reason = reason

    def _refuse(self) -> NoReturn:
        raise DriverError(f"{self.path} cannot be used: {self.stub_reason}")

    async def call_async(self, method: str, *args: object) -> JSON:
        """Say why it cannot be used."""
        self._refuse()

    async def streamingcall_async(self, method: str, *args: object) -> AsyncGenerator[JSON, None]:
        """Say why it cannot be used."""
        self._refuse()
        yield  # type: ignore[unreachable] # makes this a generator

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """Say why it cannot be used."""
        self._refuse()
        yield  # type: ignore[unreachable] # makes this a generator
