"""Files on their way: what the driver sees, and what the user sees when either end fails."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.errors import DriverError

PLAIN = b"an image " * 100_000


class Bytes:
    """A source of given bytes, a sink for others."""

    def __init__(self, data: bytes = b"", *, broken: bool = False) -> None:
        self.data = data
        self.broken = broken

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise OSError("the disk is unreadable")
        piece, self.data = self.data[:65536], self.data[65536:]
        return piece


class Sink:
    def __init__(self) -> None:
        self.data = b""

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data


class Driver:
    """Serves a resource stream: reads all of it, or sends what it has; notes how the stream ended."""

    def __init__(
        self, exporter: FakeExporter, *, accepts: str | None = "", gives: bytes | None = None
    ) -> None:
        self.accepts = accepts
        self.gives = gives
        self.got = b""
        self.request: dict[str, Any] = {}
        self.done = trio.Event()
        self.cut: BaseException | None = None
        self.fails_in_the_middle = False
        exporter.stream = self.serve
        exporter.methods["take"] = self.take

    async def serve(self, request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        self.request = request
        handle = {
            "kind": "client_stream",
            "uuid": "handle",
            "x_jmp_content_encoding": request["x_jmp_content_encoding"],
        }
        headers = [("resource", json.dumps(handle))]
        if self.accepts is not None:
            headers.append(("x_jmp_accept_encoding", self.accepts))
        await call.send_initial_metadata(headers)
        stream = RouterStream.server(call)
        try:
            if self.gives is not None:
                await stream.send_all(self.gives)
                if self.fails_in_the_middle:
                    raise RpcError(StatusCode.INTERNAL, "the card is gone")
                await stream.send_eof()
            else:
                while data := await stream.receive_some():
                    self.got += data
        except (trio.Cancelled, trio.BrokenResourceError) as error:
            self.cut = error
            raise
        finally:
            self.done.set()
        await trio.sleep_forever()  # until the client ends the call, as 0.9 does

    async def take(self, handle: dict[str, Any]) -> dict[str, Any]:
        await self.done.wait()
        return handle


async def test_an_upload_arrives_whole(root: DriverClient, exporter: FakeExporter) -> None:
    driver = Driver(exporter)
    async with root.resource_async(Bytes(PLAIN)) as handle:
        await root.call_async("take", handle)
    assert driver.got == PLAIN
    assert driver.request == {"kind": "resource", "uuid": "root", "x_jmp_content_encoding": None}


async def test_a_compressed_file_travels_as_it_is(root: DriverClient, exporter: FakeExporter) -> None:
    driver = Driver(exporter, accepts="")  # present though empty: this exporter knows encodings
    packed = gzip.compress(PLAIN)
    async with root.resource_async(Bytes(packed), "gzip") as handle:
        await root.call_async("take", handle)
    assert driver.got == packed
    assert handle["x_jmp_content_encoding"] == "gzip"


async def test_an_exporter_that_knows_no_encodings_gets_plain_data(
    root: DriverClient, exporter: FakeExporter
) -> None:
    driver = Driver(exporter, accepts=None)
    async with root.resource_async(Bytes(gzip.compress(PLAIN)), "gzip") as handle:
        await root.call_async("take", handle)
    assert driver.got == PLAIN
    assert handle["x_jmp_content_encoding"] is None


async def test_a_download_is_whole_when_the_block_ends(root: DriverClient, exporter: FakeExporter) -> None:
    Driver(exporter, gives=PLAIN)
    sink = Sink()
    async with root.resource_async(sink):
        pass  # the driver's call may have returned long before its last bytes are here
    assert sink.data == PLAIN


async def test_a_download_is_compressed_here_if_the_exporter_cannot(
    root: DriverClient, exporter: FakeExporter
) -> None:
    Driver(exporter, accepts=None, gives=PLAIN)
    sink = Sink()
    async with root.resource_async(sink, "gzip"):
        pass
    assert gzip.decompress(sink.data) == PLAIN


async def test_a_source_that_fails_cuts_the_stream_and_is_the_error(
    root: DriverClient, exporter: FakeExporter
) -> None:
    driver = Driver(exporter)
    with pytest.raises(OSError, match="the disk is unreadable"):
        async with root.resource_async(Bytes(PLAIN, broken=True)) as handle:
            await root.call_async("take", handle)
    with trio.fail_after(5):
        await driver.done.wait()
    assert driver.cut is not None  # never an early end of the data


async def test_leaving_with_an_exception_cuts_the_stream(root: DriverClient, exporter: FakeExporter) -> None:
    class Endless(Bytes):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

    driver = Driver(exporter)
    with pytest.raises(KeyError):
        async with root.resource_async(Endless()):
            raise KeyError("the user changed their mind")
    with trio.fail_after(5):
        await driver.done.wait()
    assert driver.cut is not None


async def test_a_download_that_is_cut_is_an_error(root: DriverClient, exporter: FakeExporter) -> None:
    Driver(exporter, gives=PLAIN).fails_in_the_middle = True
    with pytest.raises(DriverError, match="the transfer was interrupted"):
        async with root.resource_async(Sink()):
            pass


async def test_the_driver_s_own_error_wins_over_the_stream_that_breaks_because_of_it(
    root: DriverClient, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    async def take(handle: dict[str, Any]) -> None:
        await trio.sleep(1)  # its stream broke long before
        raise RpcError(StatusCode.UNAVAILABLE, "the card failed")

    Driver(exporter, gives=PLAIN).fails_in_the_middle = True
    exporter.methods["take"] = take
    with pytest.raises(DriverError, match="the card failed"):
        async with root.resource_async(Sink()) as handle:
            await root.call_async("take", handle)


async def test_a_call_that_does_not_end_after_its_stream_broke_is_not_waited_for(
    root: DriverClient, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    Driver(exporter, gives=PLAIN).fails_in_the_middle = True
    with pytest.raises(DriverError, match="the transfer was interrupted"):
        async with root.resource_async(Sink()):
            await trio.sleep_forever()


async def test_a_driver_that_has_enough_does_not_break_the_upload(
    root: DriverClient, exporter: FakeExporter
) -> None:
    async def serve(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        await call.send_initial_metadata([("resource", '{"kind":"client_stream","uuid":"1"}')])

    exporter.stream = serve
    async with root.resource_async(Bytes(PLAIN)):
        await trio.testing.wait_all_tasks_blocked()


async def test_an_exporter_that_gives_no_handle_is_said_so(
    root: DriverClient, exporter: FakeExporter
) -> None:
    async def serve(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        await call.send_initial_metadata()
        await trio.sleep_forever()

    exporter.stream = serve
    with pytest.raises(DriverError, match="no handle"):
        async with root.resource_async(Bytes()):
            pass
