"""Transfers of files to and from a driver: a byte stream, and a handle to it for a driver call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

import trio
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.encoding import Codec, Encoding, compressor, decompressor
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.value import JSON

from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.errors import DriverError, streaming_error

__all__ = ["ReceiveBytes", "SendBytes", "open_resource"]

CALL_ERROR_SECONDS = 5.0
"""How long to wait for the error of the driver call after its stream broke."""


@runtime_checkable
class ReceiveBytes(Protocol):
    """A source of bytes, such as a trio receive stream."""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        """Return the next bytes; empty at the end."""


@runtime_checkable
class SendBytes(Protocol):
    """A sink for bytes, such as a trio send stream."""

    async def send_all(self, data: bytes, /) -> None:
        """Write all data."""


@asynccontextmanager
async def open_resource(
    connection: ExporterConnection, uuid: str, stream: ReceiveBytes | SendBytes, content_encoding: str | None
) -> AsyncIterator[dict[str, JSON]]:
    """Offer `stream` to the driver, and yield the handle to pass to it, which works once.

    `content_encoding` is the format of the data in `stream`. The end of the block waits until a sink has received all
    data from the driver. An exception or a cancellation cuts the stream, which the driver sees as an error and never as
    the end of the data. Errors of `stream` are raised from the block.
    """
    request = {"kind": "resource", "uuid": uuid, "x_jmp_content_encoding": content_encoding}
    metadata = [("request", json.dumps(request, separators=(",", ":")))]
    with collapsed():
        async with connection.router.Stream(metadata=metadata) as call:
            try:
                headers = {k: v for k, v in await call.initial_metadata() if isinstance(v, str)}
                handle: dict[str, JSON] = parse_json(headers["resource"])
            except RpcError as error:
                raise streaming_error("resource", error) from error
            except (KeyError, ValueError):
                raise DriverError(
                    "the exporter returned no handle for the file; update the exporter"
                ) from None
            outward: Codec | None = None
            inward: Codec | None = None
            if content_encoding and "x_jmp_accept_encoding" not in headers:
                # Older exporters accept plain data only; "" would mean that they support encodings.
                handle["x_jmp_content_encoding"] = None
                outward = decompressor(Encoding(content_encoding))
                inward = compressor(Encoding(content_encoding))
            remote = RouterStream.client(call)
            async with trio.open_nursery() as nursery:
                if isinstance(stream, ReceiveBytes):
                    nursery.start_soon(_upload, stream, remote, outward)
                download = _Download(remote, inward)
                if isinstance(stream, SendBytes):
                    nursery.start_soon(download.run, stream)
                yield handle
                if isinstance(stream, SendBytes):
                    await download.wait()
                nursery.cancel_scope.cancel()


async def _upload(source: ReceiveBytes, remote: RouterStream, codec: Codec | None) -> None:
    try:
        while data := await source.receive_some():
            await _convert(bytes(data), codec, remote)
        if codec is not None and (rest := codec.finish()):
            await remote.send_all(rest)
        await remote.send_eof()
    except trio.BrokenResourceError:
        return  # the driver stopped reading; its call has the reason


class _Download:
    """Copies data from a driver to a sink."""

    def __init__(self, remote: RouterStream, codec: Codec | None) -> None:
        self._remote = remote
        self._codec = codec
        self._over = trio.Event()
        self._loss: DriverError | None = None

    async def run(self, sink: SendBytes) -> None:
        try:
            while data := await self._remote.receive_some():
                await _convert(data, self._codec, sink)
        except trio.BrokenResourceError as error:
            self._loss = DriverError(f"the transfer was interrupted: {error}; try again")
            self._over.set()
            # The error of the driver call follows, and says more.
            await trio.sleep(CALL_ERROR_SECONDS)
            raise self._loss from error
        if self._codec is not None and (rest := self._codec.finish()):
            await sink.send_all(rest)
        self._over.set()

    async def wait(self) -> None:
        """Wait until the sink has all data. Raises DriverError if the transfer was interrupted."""
        await self._over.wait()
        if self._loss is not None:
            raise self._loss


async def _convert(data: bytes, codec: Codec | None, sink: SendBytes) -> None:
    if codec is None:
        await sink.send_all(data)
        return
    for chunk in await trio.to_thread.run_sync(lambda: list(codec.feed(data))):
        await sink.send_all(chunk)
