"""Serves byte streams: users' connections to drivers, and files on their way to and from drivers.

A stream is one `RouterService/Stream` call. Its headers are sent as soon as the device is open, because clients wait
for them first. A client ends a stream by cancelling the call; that is its normal end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
import trio
from jumpstarter_proto.byte_streams.join import BrokenJoinError, join
from jumpstarter_proto.byte_streams.router_stream import CONFIRM, RouterStream
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.rpc import Message, Metadata, RpcError, ServerCall, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import router_pb2

from jumpstarter_exporter import isolation
from jumpstarter_exporter.decorators import ExportKind
from jumpstarter_exporter.forwarding import ForwardingDriver
from jumpstarter_exporter.resources import Pipe, encoding_named
from jumpstarter_exporter.session.call_notes import TransferCount
from jumpstarter_exporter.session.data_stream import DataStream
from jumpstarter_exporter.session.dispatch import find
from jumpstarter_exporter.session.node import SessionNode

__all__ = ["StreamRequest", "parse_request", "serve_data_stream", "serve_driver_stream", "serve_resource"]

LINGER_SECONDS = 5.0
"""After the user cancelled the stream, the device has this long to take the data that the user sent before."""
LEAVE_SECONDS = 0.5
"""The same when the exporter ends the stream."""

_log = logging.getLogger(__name__)

Call: TypeAlias = ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]


class _UserLeftError(RpcError):
    """The user left; nobody receives this error."""


class StreamRequest(msgspec.Struct, frozen=True):
    """The `request` header of a stream."""

    kind: Literal["driver", "resource"]
    uuid: str
    method: str = "connect"
    x_jmp_content_encoding: str | None = None


class _ByteStream(Protocol):
    """What an `@export_stream` method yields."""

    async def receive_some(self) -> bytes | bytearray: ...
    async def send_all(self, data: bytes, /) -> None: ...
    async def aclose(self) -> None: ...


def parse_request(header: str | None) -> StreamRequest:
    """Read the `request` header.

    Raises:
        RpcError: it is missing or invalid.
    """
    if header is None:
        raise RpcError(StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>: 'request'")
    try:
        return decode_json(header, StreamRequest)
    except ValueError as error:
        raise RpcError(StatusCode.UNKNOWN, f"Unexpected <class 'ValueError'>: {error}") from None


async def serve_driver_stream(
    node: SessionNode, method_name: str, call: Call, moved: TransferCount | None = None
) -> None:
    """Connect a user with the stream of a driver's method until both directions have ended. `moved` counts bytes.

    Raises:
        RpcError: ABORTED if the device's side broke off.
        DeviceError: and whatever else the driver raises.
    """
    confirms = call.header(CONFIRM[0]) == CONFIRM[1]
    headers = [CONFIRM] if confirms else []

    def open_user() -> RouterStream:
        return RouterStream.server(call, confirms=confirms)

    await _serve(node, method_name, call, headers, open_user, moved=moved)


async def serve_data_stream(
    node: SessionNode,
    method_name: str,
    call: ServerCall[Any, Any],
    data_type: type[Message],
    moved: TransferCount,
) -> None:
    """The same for a call whose messages are pieces of the stream (`StreamData`).

    The end of the device's data ends the call, as a server has no other way to report it.
    """
    await _serve(node, method_name, call, [], lambda: DataStream(call, data_type), moved=moved)


async def _serve(
    node: SessionNode,
    method_name: str,
    call: ServerCall[Any, Any],
    headers: Metadata,
    open_user: Callable[[], RouterStream | DataStream],
    *,
    moved: TransferCount | None,
) -> None:
    node.check_usable()
    driver = node.driver
    if isinstance(driver, ForwardingDriver):
        open_device = partial(driver.forward_stream, method_name)
    else:
        open_device = getattr(driver, find(node, method_name, ExportKind.STREAM).attribute)
    if not node.is_open:
        with collapsed():
            await node.open()

    async def serve() -> None:
        async with open_device() as device:
            await call.send_initial_metadata(headers)
            user = open_user()
            try:
                await _connect(call, user, device, str(node))
            except _UserLeftError:
                if moved is not None:
                    moved.user_left = True
                raise
            finally:
                if moved is not None:
                    moved.received, moved.sent = user.received, user.sent

    with node.in_use():
        await node.run(f"{method_name}()", serve, grace=isolation.CLEAN_UP_SECONDS)


async def _connect(
    call: ServerCall[Any, Any], user: RouterStream | DataStream, device: _ByteStream, name: str
) -> None:
    # Data that the user sent before leaving must still reach the device.
    call.outlive_reset(LINGER_SECONDS)
    try:
        ends_with = (device,) if isinstance(user, DataStream) else ()
        await join(user, device, ends_with=ends_with, leave_seconds=LEAVE_SECONDS)
    except BrokenJoinError as error:
        if error.side is user:
            _log.debug("%s: the user left in the middle: %s", name, error)
        else:
            _log.warning("%s: the connection broke off: %s", name, error)
        # Never report an end of data: the user would take incomplete data for complete.
        kind = _UserLeftError if error.side is user else RpcError
        raise kind(
            StatusCode.ABORTED, f"the connection to {name} broke off ({error}); connect again"
        ) from error


async def serve_resource(node: SessionNode, encoding: str | None, call: Call) -> None:
    """Offer a file to a driver for as long as the user keeps the stream open.

    Raises:
        ResourceError: the driver failed in the middle of a file for the user.
    """
    if isinstance(node.driver, ForwardingDriver):
        await _forward_resource(node, node.driver, encoding, call)
        return
    with node.driver.resources.offer() as pipe:
        await call.send_initial_metadata(_resource_headers(pipe, encoding))
        user = RouterStream.server(call)
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_upload, user, pipe)
                await _download(user, pipe)


async def _forward_resource(
    node: SessionNode, driver: ForwardingDriver, encoding: str | None, call: Call
) -> None:
    node.check_usable()
    if not node.is_open:
        with collapsed():
            await node.open()

    async def serve() -> None:
        async with driver.forward_resource(encoding) as (headers, device):
            await call.send_initial_metadata(headers)
            await _connect(call, RouterStream.server(call), device, str(node))

    with node.in_use():
        await node.run("a file", serve, grace=isolation.CLEAN_UP_SECONDS)


async def _upload(user: RouterStream, pipe: Pipe) -> None:
    while True:
        try:
            data = await user.receive_some()
        except trio.BrokenResourceError:
            pipe.user_cut()
            return
        if not data:
            pipe.user_ended()
            return
        if not await pipe.from_user(data):
            return


async def _download(user: RouterStream, pipe: Pipe) -> None:
    while data := await pipe.to_user():
        await user.send_all(data)
    await user.send_eof()


def _resource_headers(pipe: Pipe, encoding: str | None) -> list[tuple[str, str | bytes]]:
    handle = {"kind": "client_stream", "uuid": str(pipe.uuid), "x_jmp_content_encoding": encoding}
    # The file keeps its own format on the wire; "" tells clients that know encodings not to compress.
    return [
        ("resource", msgspec.json.encode(handle).decode()),
        ("x_jmp_accept_encoding", encoding if encoding and _is_supported(encoding) else ""),
    ]


def _is_supported(encoding: str) -> bool:
    if os.environ.get("JMP_DISABLE_COMPRESSION") == "1":
        return False
    try:
        return encoding_named(encoding) is not None
    except ValueError:
        return False
