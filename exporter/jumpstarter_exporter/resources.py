"""Files on their way between a user and a driver.

A user who wants to pass a file to a driver opens a stream to that driver, gets a *handle*, and passes the handle as an
argument of a call. This is the driver's end: a table of the files that are offered to one driver, and the plain-bytes
`Source` and `Sink` that it reads and writes. A handle may also be a URL that the exporter fetches or uploads to
(`presigned`).

Each offer can be used once. Up to `MAX_WAITING_CHUNKS` chunks wait between stream and driver in each direction, so
that a slow driver slows its user down. The end of a file and an interruption are different: an interruption raises
`ResourceError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import trio
from jumpstarter_proto.encoding import Codec, Decompressor, Encoding, compressor, decompressor
from jumpstarter_proto.value import JSON

from jumpstarter_exporter.errors import ResourceError

__all__ = ["MAX_CHUNK_BYTES", "MAX_WAITING_CHUNKS", "Pipe", "Resources", "Sink", "Source", "encoding_named"]

MAX_WAITING_CHUNKS = 32
MAX_CHUNK_BYTES = 65536
"""Upper limit in bytes of a chunk that is sent to a user."""
_BATCH = 1024 * 1024
"""The approximate number of bytes that one call in a worker thread returns."""

_codec_threads = trio.CapacityLimiter(2)
"""For the whole process: it is CPU work, and small hosts have few cores."""

_CUT = "the connection was lost before the whole file had arrived; send it again"


class Source:
    """Iterate once to read the file's plain bytes, in non-empty chunks.

    Raises while iterating:
        ResourceError: the file was interrupted before its end.
        ContentError: its compressed content is damaged or incomplete.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[bytes]],
        codec: Decompressor | None,
        size_hint: int | None = None,
    ) -> None:
        self.size_hint = size_hint
        """The number of bytes that will come, if it is known."""
        self.received = 0
        """The number of bytes received, before decompression."""
        self._source = receive
        self._codec = codec
        self._pieces: Iterator[bytes] | None = None

    @property
    def trailing(self) -> int:
        """Bytes of other data after compressed content, which are left out; complete at the end."""
        return self._codec.trailing if self._codec else 0

    @property
    def trailing_end(self) -> bytes:
        """The last of these bytes."""
        return self._codec.trailing_end if self._codec else b""

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        if self._codec is None:
            chunk = await self._receive()
            if not chunk:
                raise StopAsyncIteration
            return chunk
        return await self._decoded(self._codec)

    async def _receive(self) -> bytes:
        chunk = await self._source()
        self.received += len(chunk)
        return chunk

    async def _decoded(self, codec: Decompressor) -> bytes:
        while True:
            if self._pieces is None:
                chunk = await self._receive()
                if not chunk:
                    codec.finish()  # raises if the content is incomplete
                    raise StopAsyncIteration
                self._pieces = codec.feed(chunk)
            piece = await trio.to_thread.run_sync(_batch, self._pieces, limiter=_codec_threads)
            if len(piece) < _BATCH:
                self._pieces = None
            if piece:
                return piece


class Sink:
    """The file that a driver writes, as plain bytes."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], codec: Codec | None) -> None:
        self._send = send
        self._codec = codec

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a chunk of any size; waits while the receiver is slow.

        Raises:
            ResourceError: the receiver is gone.
        """
        if self._codec is None:
            await self._send_plain(bytes(data))
            return
        pieces = self._codec.feed(bytes(data))
        while piece := await trio.to_thread.run_sync(_batch, pieces, limiter=_codec_threads):
            await self._send_plain(piece)

    async def finish(self) -> None:
        """Send what the compressor still holds."""
        if self._codec is not None:
            await self._send_plain(await trio.to_thread.run_sync(self._codec.finish, limiter=_codec_threads))

    async def _send_plain(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            await self._send(data if len(data) <= MAX_CHUNK_BYTES else data[start : start + MAX_CHUNK_BYTES])


def _batch(pieces: Iterator[bytes]) -> bytes:
    """Read a codec's output until it is exhausted or long enough; less than `_BATCH` bytes mean exhausted."""
    taken: list[bytes] = []
    length = 0
    while length < _BATCH:
        piece = next(pieces, None)
        if piece is None:
            break
        taken.append(piece)
        length += len(piece)
    return taken[0] if len(taken) == 1 else b"".join(taken)


@dataclass(eq=False)
class Pipe:
    """Connects a user's stream with a driver.

    The stream's handler uses the user's end, the driver the other.
    """

    uuid: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        self._inward, self._to_driver = trio.open_memory_channel[bytes](MAX_WAITING_CHUNKS)
        self._from_driver, self._outward = trio.open_memory_channel[bytes](MAX_WAITING_CHUNKS)
        self._complete = False
        self._driver_failed = False

    # The user's end.

    async def from_user(self, chunk: bytes) -> bool:
        """Pass a chunk on; False if the driver wants no more."""
        try:
            await self._inward.send(chunk)
        except trio.BrokenResourceError:
            return False
        return True

    def user_ended(self) -> None:
        """The whole file has arrived."""
        self._complete = True
        self._inward.close()

    def user_cut(self) -> None:
        """The file was interrupted: no more will arrive."""
        self._inward.close()

    async def to_user(self) -> bytes:
        """The driver's next chunk; b"" at its end.

        Raises:
            ResourceError: the driver stopped before the end.
        """
        try:
            return await self._outward.receive()
        except trio.EndOfChannel:
            if self._driver_failed:
                raise ResourceError(
                    "the device stopped before the end of the file; see the call's error"
                ) from None
            return b""

    def user_left(self) -> None:
        """The user's stream has ended, with or without an error.

        A driver that waits for the rest gets an interruption.
        """
        self._inward.close()
        self._outward.close()

    # The driver's end.

    async def receive(self) -> bytes:
        """The user's next chunk; b"" at the end of the file. ResourceError if it was interrupted."""
        try:
            return await self._to_driver.receive()
        except trio.EndOfChannel:
            if self._complete:
                return b""
            raise ResourceError(_CUT) from None

    async def send(self, chunk: bytes) -> None:
        """Pass a chunk to the user. ResourceError if the user is gone."""
        try:
            await self._from_driver.send(chunk)
        except trio.BrokenResourceError:
            raise ResourceError("the receiver of the file went away before its end; try again") from None

    def driver_left(self, *, failed: bool) -> None:
        """The driver's call has finished with it."""
        self._driver_failed = failed
        self._to_driver.close()
        self._from_driver.close()


class Resources:
    """The files that are offered to one driver."""

    def __init__(self) -> None:
        self._pipes: dict[UUID, Pipe] = {}

    @contextmanager
    def offer(self) -> Iterator[Pipe]:
        """Offer a pipe for as long as the user's stream is open."""
        pipe = Pipe()
        self._pipes[pipe.uuid] = pipe
        try:
            yield pipe
        finally:
            self._pipes.pop(pipe.uuid, None)
            pipe.user_left()

    def read(self, handle: Mapping[str, JSON]) -> AbstractAsyncContextManager[Source]:
        """See `Driver.read_resource`."""
        if _kind(handle) == "presigned_request":
            return _presigned_source(handle)
        return self._read(handle)

    def write(self, handle: Mapping[str, JSON]) -> AbstractAsyncContextManager[Sink]:
        """See `Driver.write_resource`."""
        if _kind(handle) == "presigned_request":
            return _presigned_sink(handle)
        return self._write(handle)

    @asynccontextmanager
    async def exchange(self, handle: Mapping[str, JSON]) -> AsyncIterator[tuple[Source, Sink]]:
        """See `Driver.exchange_resource`."""
        if _kind(handle) != "client_stream":
            raise ValueError("a URL goes one way; open a stream of your own for this call")
        pipe = self._take(handle)
        failed = True
        try:
            yield Source(pipe.receive, None), Sink(pipe.send, None)
            failed = False
        finally:
            pipe.driver_left(failed=failed)

    @asynccontextmanager
    async def _read(self, handle: Mapping[str, JSON]) -> AsyncIterator[Source]:
        encoding = encoding_named(handle.get("x_jmp_content_encoding"))
        pipe = self._take(handle)
        try:
            yield Source(pipe.receive, decompressor(encoding) if encoding else None)
        finally:
            pipe.driver_left(failed=False)

    @asynccontextmanager
    async def _write(self, handle: Mapping[str, JSON]) -> AsyncIterator[Sink]:
        encoding = encoding_named(handle.get("x_jmp_content_encoding"))
        pipe = self._take(handle)
        failed = True
        try:
            sink = Sink(pipe.send, compressor(encoding) if encoding else None)
            yield sink
            await sink.finish()
            failed = False
        finally:
            pipe.driver_left(failed=failed)

    def _take(self, handle: Mapping[str, JSON]) -> Pipe:
        text = handle.get("uuid")
        try:
            uuid = UUID(str(text))
        except ValueError:
            raise ValueError(f"the resource handle's uuid is {text!r}, which is not a UUID") from None
        pipe = self._pipes.pop(uuid, None)
        if pipe is None:
            raise ResourceError(
                f"no resource {uuid} is offered to this device; a handle can be used for one call, "
                "to the device that it was opened for, while its stream is open"
            )
        return pipe


def encoding_named(name: JSON) -> Encoding | None:
    """The encoding with that name; None for no name. ValueError for an unknown one."""
    if not name:
        return None
    try:
        return Encoding(str(name))
    except ValueError:
        raise ValueError(f"content encoding {name!r} is unknown; use {', '.join(Encoding)} or none") from None


def _kind(handle: object) -> str:
    kind = handle.get("kind") if isinstance(handle, Mapping) else None
    if kind not in ("client_stream", "presigned_request"):
        raise ValueError("a resource handle is a dict with the `kind` client_stream or presigned_request")
    return str(kind)


@asynccontextmanager
async def _presigned_source(handle: Mapping[str, JSON]) -> AsyncIterator[Source]:
    from jumpstarter_exporter import presigned  # noqa: PLC0415 - most exporters never fetch a URL

    async with presigned.get(presigned.PresignedRequest.of(handle, "GET")) as (receive, length):
        yield Source(receive, None, length)


@asynccontextmanager
async def _presigned_sink(handle: Mapping[str, JSON]) -> AsyncIterator[Sink]:
    from jumpstarter_exporter import presigned  # noqa: PLC0415 - as above

    async with presigned.put(presigned.PresignedRequest.of(handle, "PUT")) as send:
        yield Sink(send, None)
