"""Driver streams and resources, as a client sees them over gRPC."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import trio
from jumpstarter_proto.encoding import compressor, decompressor
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.value import JSON

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import Serve, User, socket_pair
from jumpstarter_exporter.driver import DeviceMissing, Driver, ResourceError, export, export_stream
from jumpstarter_exporter.resources import MAX_WAITING_CHUNKS


class Datagrams:
    """One result of receive_some is one datagram; an empty one ends."""

    def __init__(self, items: list[bytes]) -> None:
        self.items = items
        self.sent: list[bytes] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.items.pop(0) if self.items else b""

    async def send_all(self, data: bytes) -> None:
        self.sent.append(data)
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class Device(Driver):
    client: ClassVar[str] = "example.client.ExampleClient"

    events: list[str] = field(default_factory=list)
    datagrams: Datagrams = field(default_factory=lambda: Datagrams([]))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.theirs: list[trio.SocketStream] = []

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.SocketStream]:
        ours, theirs = socket_pair()
        self.theirs.append(theirs)
        self.events.append("connected")
        async with ours, theirs:
            try:
                yield ours
            finally:
                self.events.append("left")

    @export_stream
    @asynccontextmanager
    async def packets(self) -> AsyncIterator[Datagrams]:
        yield self.datagrams

    @export_stream
    @asynccontextmanager
    async def gone(self) -> AsyncIterator[None]:
        if self.interface == "":
            raise DeviceMissing("nobody listens; check the service")
        yield

    @export
    async def digest(self, handle: dict[str, JSON], limit: int | None = None) -> list[JSON]:
        length = 0
        chunks = []
        try:
            async with self.read_resource(handle) as source:
                async for chunk in source:
                    assert chunk
                    length += len(chunk)
                    chunks.append(chunk)
                    if limit is not None and length >= limit:
                        break
        except ResourceError:
            self.events.append("cut")
            raise
        except trio.Cancelled:
            self.events.append("cancelled")
            raise
        return [length, b"".join(chunks).hex() if length < 10_000 else ""]

    @export
    async def produce(self, handle: dict[str, JSON], size: int, fail: bool = False) -> None:
        async with self.write_resource(handle) as sink:
            for start in range(0, size, 100_000):
                await sink.send_all(bytes(min(100_000, size - start)))
            if fail:
                raise OSError("the card came out")


async def read_all(stream: Any) -> bytes:
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
    return data


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(serve: Serve) -> None:
    device = Device()
    async with serve(device) as user, user.stream("") as stream:
        (board,) = device.theirs
        await stream.send_all(b"to the board")
        assert await board.receive_some() == b"to the board"
        await stream.send_eof()
        assert await board.receive_some() == b""
        await board.send_all(b"still talking")
        assert await stream.receive_some() == b"still talking"
        await board.send_eof()
        assert await stream.receive_some() == b""
        assert stream.ended


async def test_a_device_may_end_first_and_still_listen(serve: Serve) -> None:
    device = Device()
    async with serve(device) as user, user.stream("") as stream:
        (board,) = device.theirs
        await board.send_eof()
        with trio.fail_after(30):
            assert await stream.receive_some() == b""
        await stream.send_all(b"still for you")
        assert await board.receive_some() == b"still for you"


async def test_headers_come_before_any_data(serve: Serve) -> None:
    async with serve(Device()) as user:
        with trio.fail_after(30):
            async with user.stream(""):
                pass


async def test_leaving_a_stream_lets_go_of_the_device_without_an_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device()
    async with serve(device) as user:
        async with user.stream(""):
            assert user.session.tree.root.in_flight == 1
        while user.session.tree.root.in_flight:
            await user.report()
        assert device.events == ["connected", "left"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info] == []


async def test_datagrams_stay_whole_and_empty_frames_are_not_an_end(serve: Serve) -> None:
    sizes = [1, 65507, 3]
    device = Device(datagrams=Datagrams([bytes(size) for size in sizes]))
    async with serve(device) as user, user.stream("", "packets") as stream:
        assert [len(await stream.receive_some()) for _ in sizes] == sizes
        await stream.send_all(b"one")
        await stream.send_all(b"")
        await stream.send_all(b"two")
        await stream.send_eof()
        assert await stream.receive_some() == b""
        while len(device.datagrams.sent) < 2:
            await user.report()
        assert device.datagrams.sent == [b"one", b"two"]


async def test_a_device_that_breaks_off_is_never_an_end_of_data(serve: Serve) -> None:
    device = Device()
    async with serve(device) as user, user.stream("") as stream:
        (board,) = device.theirs
        await stream.send_all(b"unread")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await board.aclose()  # with data unread: the other end sees a reset
        with pytest.raises(trio.BrokenResourceError, match="broke off"):
            await read_all(stream)


@pytest.mark.parametrize(
    ("request_header", "code", "details"),
    [
        (None, StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>: 'request'"),
        ("{", StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>: "),
        ('{"kind":"driver"}', StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>: "),
        (
            '{"kind":' + "[" * 3000,
            StatusCode.UNKNOWN,
            "Unexpected <class 'ValueError'>: ",
        ),
        (
            # Nested too deeply, or for a Python that goes deeper cut off.
            '{"new":' + "[" * 3000,
            StatusCode.UNKNOWN,
            "Unexpected <class 'ValueError'>: ",
        ),
        (
            {"kind": "driver", "uuid": str(uuid4())},
            StatusCode.UNKNOWN,
            "Unexpected <class 'KeyError'>: UUID(",
        ),
        ({"kind": "driver", "method": "x"}, StatusCode.NOT_FOUND, "method x not found on driver"),
        (
            {"kind": "driver", "method": "digest"},
            StatusCode.NOT_FOUND,
            "method digest missing marker marker_streamcall",
        ),
        ({"kind": "driver", "method": "gone"}, StatusCode.UNAVAILABLE, "nobody listens; check the service"),
    ],
)
async def test_a_stream_that_cannot_be_opened(
    serve: Serve, request_header: Any, code: StatusCode, details: str
) -> None:
    device = Device()
    async with serve(device) as user:
        if isinstance(request_header, dict):
            request_header = json.dumps({"uuid": str(device.uuid)} | request_header)
        metadata = [] if request_header is None else [("request", request_header)]
        async with user.router.Stream(metadata=metadata) as call:
            with pytest.raises(RpcError) as caught:
                await call.initial_metadata()
    assert caught.value.code is code
    assert caught.value.details.startswith(details)


async def test_unknown_keys_of_a_request_are_ignored(serve: Serve) -> None:
    device = Device()
    request = json.dumps({"kind": "driver", "uuid": str(device.uuid), "new": 1})
    async with (
        serve(device) as user,
        user.router.Stream(metadata=[("request", "old"), ("request", request)]) as call,
    ):
        await call.initial_metadata()


# Resources.


async def send(stream: Any, data: bytes, chunk: int = 65536) -> None:
    for start in range(0, len(data), chunk):
        await stream.send_all(data[start : start + chunk])
    await stream.send_eof()


async def digest(user: User, data: bytes, encoding: str | None = None) -> JSON:
    with collapsed():
        async with user.resource("", encoding) as (stream, handle, _), trio.open_nursery() as nursery:
            nursery.start_soon(send, stream, data)
            result = await user.call("", "digest", handle)
            assert await stream.receive_some() == b""  # GOAWAY, which clients wait for
            return result


@pytest.mark.parametrize("encoding", [None, "gzip", "xz", "bz2", "zstd"])
async def test_upload(serve: Serve, encoding: str | None) -> None:
    plain = b"an image" * 500
    packed = {None: lambda data: data, "gzip": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}.get(
        encoding, _zstd
    )(plain)
    async with serve(Device()) as user:
        assert await digest(user, packed, encoding) == [len(plain), plain.hex()]


def _zstd(data: bytes) -> bytes:
    from jumpstarter_proto.encoding import Encoding

    codec = compressor(Encoding.ZSTD)
    return b"".join(codec.feed(data)) + codec.finish()


async def test_upload_that_expands_much_arrives_in_bounded_chunks(serve: Serve) -> None:
    async with serve(Device()) as user:
        assert await digest(user, gzip.compress(bytes(50_000_000)), "gzip") == [50_000_000, ""]


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_download(serve: Serve, encoding: str | None) -> None:
    received: list[bytes] = []

    async def receive(stream: Any) -> None:
        received.append(await read_all(stream))

    async with (
        serve(Device()) as user,
        user.resource("", encoding) as (stream, handle, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(receive, stream)
        await user.call("", "produce", handle, 3_000_000)
    (data,) = received
    if encoding is not None:
        from jumpstarter_proto.encoding import Encoding

        codec = decompressor(Encoding(encoding))
        data = b"".join(codec.feed(data)) + codec.finish()
    assert data == bytes(3_000_000)


async def test_headers_of_a_resource(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(Device()) as user:
        for asked, accepted in (("gzip", "gzip"), (None, ""), ("rot13", "")):
            async with user.resource("", asked) as (_, handle, headers):
                assert handle["kind"] == "client_stream"
                assert handle["x_jmp_content_encoding"] == asked
                assert headers["x_jmp_accept_encoding"] == accepted
        monkeypatch.setenv("JMP_DISABLE_COMPRESSION", "1")
        async with user.resource("", "gzip") as (_, _, headers):
            assert headers["x_jmp_accept_encoding"] == ""


async def test_an_upload_that_is_cut_is_an_error_and_never_an_end(serve: Serve) -> None:
    device = Device()
    outcome: list[RpcError] = []

    async def call(user: User, handle: dict[str, Any]) -> None:
        with pytest.raises(RpcError) as caught:
            await user.call("", "digest", handle)
        outcome.append(caught.value)

    async def begin(nursery: trio.Nursery) -> None:
        async with user.resource("") as (stream, handle, _):
            await stream.send_all(b"the first half")
            nursery.start_soon(call, user, handle)
            await trio.testing.wait_all_tasks_blocked(0.01)
        # The stream is cancelled now, without GOAWAY.

    async with serve(device) as user, trio.open_nursery() as nursery:
        await begin(nursery)
    assert device.events == ["cut"]
    assert outcome[0].code is StatusCode.ABORTED
    assert "connection was lost before the whole file had arrived" in outcome[0].details


class Garbage:
    """What no peer that speaks the protocol sends."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return b"\xff"


async def test_an_upload_that_turns_into_garbage_is_not_an_end(serve: Serve) -> None:
    device = Device()
    request = json.dumps({"kind": "resource", "uuid": str(device.uuid)})
    async with serve(device) as user, user.router.Stream(metadata=[("request", request)]) as call:
        handle = json.loads(dict(await call.initial_metadata())["resource"])
        await call.send(Garbage())  # type: ignore[arg-type]
        with pytest.raises(RpcError, match="connection was lost"):
            await user.call("", "digest", handle)


async def test_a_half_close_of_grpc_is_an_end(serve: Serve) -> None:
    device = Device()
    request = json.dumps({"kind": "resource", "uuid": str(device.uuid)})
    async with serve(device) as user, user.router.Stream(metadata=[("request", request)]) as call:
        handle = json.loads(dict(await call.initial_metadata())["resource"])
        await call.send_eof()
        assert await user.call("", "digest", handle) == [0, ""]


async def test_damaged_and_cut_content_are_errors(serve: Serve) -> None:
    packed = gzip.compress(os.urandom(100_000))
    async with serve(Device()) as user:
        for data, words in ((packed[:-100], "ends too early"), (b"no gzip at all", "not valid gzip")):
            with pytest.raises(RpcError, match=words) as caught:
                await digest(user, data, "gzip")
            assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_a_driver_that_wants_no_more_ends_the_stream(serve: Serve) -> None:
    async def flood(stream: Any) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(65536))

    async with (
        serve(Device()) as user,
        user.resource("") as (stream, handle, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(flood, stream)
        found: Any = await user.call("", "digest", handle, 100_000)
        assert found[0] >= 100_000


async def test_a_download_that_fails_is_an_error_and_never_an_end(serve: Serve) -> None:
    async with (
        serve(Device()) as user,
        user.resource("") as (stream, handle, _),
        trio.open_nursery() as nursery,
    ):

        async def produce() -> None:
            with pytest.raises(RpcError, match="the card came out"):
                await user.call("", "produce", handle, 500_000, True)

        nursery.start_soon(produce)
        with pytest.raises(trio.BrokenResourceError, match="stopped before the end"):
            await read_all(stream)


async def test_a_receiver_who_leaves_stops_the_driver(serve: Serve) -> None:
    async with serve(Device()) as user, trio.open_nursery() as nursery:

        async def produce(handle: dict[str, Any]) -> None:
            with pytest.raises(RpcError, match="receiver of the file went away"):
                await user.call("", "produce", handle, 100_000_000)

        async with user.resource("") as (stream, handle, _):
            nursery.start_soon(produce, handle)
            await stream.receive_some()


async def test_a_handle_is_good_for_one_use_on_its_own_device(serve: Serve) -> None:
    root = Composite(children={"a": Device(), "b": Device()})
    async with serve(root) as user, user.resource("a") as (stream, handle, _):
        with pytest.raises(RpcError, match="to the device that it was opened for"):
            await user.call("b", "digest", handle)
        await user.call("a", "produce", handle, 0)
        assert await stream.receive_some() == b""
        with pytest.raises(RpcError, match="used for one call"):
            await user.call("a", "produce", handle, 0)


@pytest.mark.parametrize(
    ("handle", "complaint"),
    [
        ({}, "`kind` client_stream or presigned_request"),
        ({"kind": "client_stream", "uuid": "x"}, "which is not a UUID"),
        ({"kind": "client_stream", "uuid": None, "x_jmp_content_encoding": "rot13"}, "'rot13' is unknown"),
        (
            {"kind": "presigned_request", "method": "PUT", "url": "http://x/", "headers": {}},
            "this call needs GET",
        ),
        (
            {"kind": "presigned_request", "method": "GET", "url": "file:///etc/passwd"},
            "not an http or https URL",
        ),
    ],
)
async def test_a_handle_that_is_none_is_an_invalid_argument(
    serve: Serve, handle: dict[str, Any], complaint: str
) -> None:
    async with serve(Device()) as user:
        with pytest.raises(RpcError, match=complaint) as caught:
            await user.call("", "digest", handle)
        assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_a_slow_driver_bounds_what_waits(serve: Serve) -> None:
    async with serve(Device()) as user, user.resource("") as (stream, _, _):
        sent = 0
        with trio.move_on_after(1):
            while True:
                await stream.send_all(bytes(65536))
                sent += 65536
        # What fits into the pipe, HTTP/2's windows and the sockets; nothing else takes any.
        assert sent < (MAX_WAITING_CHUNKS + 200) * 65536
