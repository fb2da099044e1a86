"""The base class of driver clients: calls, streams, files, logs and status of a device.

Names ending in `_async` (and the `.aio` of twins) are for trio tasks. The others block the calling thread, which must
not run a trio loop.
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
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.value import JSON, from_value, to_value

from jumpstarter_client.blocking import BlockingPortal
from jumpstarter_client.blocking_stream import BlockingStream, blocking_stream
from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.errors import ConnectError, DriverError, ExporterNotReady, call_error, streaming_error
from jumpstarter_client.logs import entries, is_of_hook, line_of
from jumpstarter_client.node import Node
from jumpstarter_client.session_status import request_end, wait_ready
from jumpstarter_client.transport import ConnectionLostError

if TYPE_CHECKING:
    from jumpstarter_client.resources import ReceiveBytes, SendBytes

__all__ = ["Children", "DriverClient", "StubClient"]

LEAVE_SECONDS = 5.0
"""How long a device may take to receive the rest of the sent data when a stream is left."""


class Children(Mapping[str, "DriverClient"]):
    """The children of a device by name; their clients are loaded on first use."""

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

    It works while its connection is open. Any number of tasks and threads may use it concurrently.
    """

    interface: ClassVar[str] = ""

    def __init__(self, node: Node, connection: ExporterConnection) -> None:
        self.node = node
        """The device in the exporter's report."""
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
        """The UUID of the device in the session; it changes when the exporter is restarted."""
        return self.node.uuid

    @property
    def portal(self) -> BlockingPortal:
        """The portal to the loop in which the async methods run."""
        return self.connection.portal

    @property
    def stack(self) -> ExitStack:
        """For blocking code: contexts that are entered here are left when the connection closes."""
        return self.connection.stack

    @cached_property
    def logger(self) -> logging.Logger:
        """The logger of this client class."""
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
        """Call a method of the driver. Arguments and result are JSON values; numbers are returned as floats.

        A cancelled call is cancelled on the exporter, too; the driver may have acted already.

        Raises:
            DriverError: or a subclass, by the gRPC status from the exporter.
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
        return self.portal.call(self.call_async, method, *args)

    async def streamingcall_async(self, method: str, *args: object) -> AsyncGenerator[JSON, None]:
        """Iterate over the results of a streaming method. Use `contextlib.aclosing` to stop early."""
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
        """`streamingcall_async`, blocking. Closing the generator ends the call."""
        return self.portal.iterate(self.streamingcall_async(method, *args))

    # --- streams

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """Open a byte stream to the driver for the block.

        At the end of the block it waits at most `LEAVE_SECONDS` until the device has received all sent data; data that
        arrives meanwhile is dropped. An exception or a cancellation ends the stream at once. See `byte_streams.join`.

        Raises:
            DriverError: the device cannot be opened, has no such stream, or did not receive all sent data.
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
                )  # the call ends with its block; this marks the stream as closed

    async def _leave(self, stream: RouterStream) -> None:
        try:
            await stream.leave(LEAVE_SECONDS)
        except trio.BrokenResourceError as error:
            raise DriverError(
                f"{self.path or self.name} may not have received all sent data: {error}; check the device and send "
                "the data again",
                code=StatusCode.UNAVAILABLE,
            ) from error

    @contextmanager
    def stream(self, method: str = "connect") -> Iterator[BlockingStream]:
        """`stream_async`, blocking."""
        with self.portal.context(blocking_stream(self.stream_async(method), self.portal)) as stream:
            yield stream

    def open_stream(self, method: str = "connect") -> BlockingStream:
        """Open a stream without a block. It ends with its `close()`, or with the connection."""
        own = ExitStack()
        opened = own.enter_context(self.stream(method))
        opened.on_close = own.close
        self.stack.callback(opened.close)
        return opened

    def close(self) -> None:
        """Close the streams and contexts that were opened without a block. The connection stays open."""
        self.stack.close()

    def resource_async(
        self, stream: ReceiveBytes | SendBytes, content_encoding: str | None = None
    ) -> AbstractAsyncContextManager[dict[str, JSON]]:
        """Offer a source or a sink of bytes to the driver, and yield the handle to pass to it.

        `content_encoding` (gzip, xz, bz2 or zstd) is the format of the data. See `open_resource`.
        """
        from jumpstarter_client.resources import open_resource  # noqa: PLC0415 - for who moves files

        return open_resource(self.connection, self.uuid, stream, content_encoding)

    async def wait_closed_async(self) -> RpcError:
        """Wait until the connection has ended, and return the reason."""
        return await self.connection.channel.wait_closed()

    # --- logs and status

    async def logs_async(self) -> AsyncGenerator[jumpstarter_pb2.LogStreamResponse, None]:
        """Yield the entries of the exporter's log, each once, also after a reconnect."""
        try:
            async with aclosing(entries(self.connection.channel)) as log:
                async for entry in log:
                    yield entry
        except RpcError as error:
            raise streaming_error("LogStream", error) from error

    @asynccontextmanager
    async def log_stream_async(self, show_all_logs: bool = True) -> AsyncIterator[None]:
        """Print the exporter's log on stderr during the block: the output of hooks, or all entries."""
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
        with self.portal.context(self.log_stream_async(show_all_logs)):
            yield

    async def get_status_async(self) -> jumpstarter_pb2.GetStatusResponse | None:
        """Return the status of the session; None from exporters before 0.8."""
        while True:
            try:
                return await self.connection.exporter.GetStatus(jumpstarter_pb2.GetStatusRequest())
            except ConnectionLostError:
                continue  # the call can be repeated
            except RpcError as error:
                if error.code is StatusCode.UNIMPLEMENTED:
                    return None
                raise call_error("GetStatus", error) from error

    async def wait_for_lease_ready(self, timeout: float = 300.0) -> None:
        """Wait until the exporter accepts driver calls.

        Raises:
            ExporterNotReady: its beforeLease hook failed, or it was not ready in time.
            DriverError: there is no connection.
        """
        try:
            await wait_ready(self.connection.channel, timeout)
        except ConnectError as error:
            raise ExporterNotReady(str(error)) from error
        except RpcError as error:
            raise call_error("GetStatus", error) from error

    async def end_session_async(self) -> bool:
        """Tell the exporter that the user of the lease has finished. False without a lease, or before version 0.8."""
        try:
            return await request_end(self.connection.channel)
        except RpcError as error:
            raise call_error("EndSession", error) from error


class StubClient(DriverClient):
    """A device whose client class cannot be loaded. Its children work; its own methods fail with the reason."""

    def __init__(self, node: Node, connection: ExporterConnection, reason: str) -> None:
        super().__init__(node, connection)
        self.stub_reason = reason

    def _refuse(self) -> NoReturn:
        raise DriverError(f"{self.path} cannot be used: {self.stub_reason}")

    async def call_async(self, method: str, *args: object) -> JSON:
        """Fail with the reason."""
        self._refuse()

    async def streamingcall_async(self, method: str, *args: object) -> AsyncGenerator[JSON, None]:
        """Fail with the reason."""
        self._refuse()
        yield  # type: ignore[unreachable] # makes this a generator

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """Fail with the reason."""
        self._refuse()
        yield  # type: ignore[unreachable] # makes this a generator
