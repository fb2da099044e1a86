"""The daemon is killed in the middle of every kind of call: its user has an error within a second."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO, cast

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_client.base import DriverClient
from jumpstarter_client.tree import open_client
from jumpstarter_drivers.power.client import PowerClient
from jumpstarter_drivers.storage.client import StorageMuxFlasherClient
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import Channel, connect_unix, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from tests.e2e.conftest import Lab
from tests.support.images import mbr

Call = Callable[[Channel, DriverClient, Callable[[], None]], Awaitable[None]]


async def unary(_channel: Channel, board: DriverClient, started: Callable[[], None]) -> None:
    power = cast("PowerClient", board.children["power"])
    await power.on.aio()
    async with trio.open_nursery() as nursery:

        async def off_already() -> None:
            # The cycle that runs meanwhile has reached the exporter once the board is off.
            while [reading.voltage async for reading in power.read.aio()] != [0.0]:
                pass
            started()

        nursery.start_soon(off_already)
        await power.cycle.aio(wait=3600)


async def streaming(_channel: Channel, board: DriverClient, started: Callable[[], None]) -> None:
    storage = cast("StorageMuxFlasherClient", board.children["storage"])
    async with aclosing(storage.watch.aio()) as reports:
        async for _report in reports:
            started()


async def driver_stream(_channel: Channel, board: DriverClient, started: Callable[[], None]) -> None:
    async with board.children["serial"].stream_async("connect") as console:
        started()
        while await console.receive_some():
            pass
    raise EOFError("the stream ended as if all were well")


async def upload(_channel: Channel, board: DriverClient, started: Callable[[], None]) -> None:
    storage = cast("StorageMuxFlasherClient", board.children["storage"])
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as slow, os.fdopen(write, "wb", buffering=0) as feed:
        feed.write(mbr())

        class Slow:
            def open(self, _path: str, _mode: str, /) -> BinaryIO:
                return cast("BinaryIO", slow)

        async with trio.open_nursery() as nursery:

            async def writing() -> None:
                async with aclosing(storage.watch.aio()) as reports:
                    async for report in reports:
                        if cast("dict[str, object]", report)["content"] == "writing":
                            started()
                            return

            nursery.start_soon(writing)
            await storage.flash.aio("slow", operator=Slow(), whole=True)


async def log_stream(channel: Channel, _board: DriverClient, started: Callable[[], None]) -> None:
    async with ExporterServiceStub(channel).LogStream(empty_pb2.Empty()) as call:
        await call.initial_metadata()
        started()
        async for _entry in call:
            pass


@asynccontextmanager
async def connected(lab: Lab) -> AsyncIterator[tuple[Channel, DriverClient]]:
    stream = await connect_unix(str(lab.socket))
    async with open_channel(stream) as channel, open_client(channel) as root:
        yield channel, root.children["rpi4"]


@pytest.mark.parametrize("call", [unary, streaming, driver_stream, upload, log_stream])
async def test_killing_the_daemon_gives_an_error_within_a_second(lab: Lab, call: Call) -> None:
    errors: list[BaseException] = []
    started, ended = trio.Event(), trio.Event()

    async def use() -> None:
        try:
            async with connected(lab) as (channel, board):
                await call(channel, board, started.set)
        except BaseException as error:
            errors.append(error)
            ended.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await started.wait()
            lab.daemon.process.kill()
            with trio.fail_after(1):
                await ended.wait()
    leaves = flattened(errors[0])
    assert [leaf for leaf in leaves if isinstance(leaf, JumpstarterError | trio.BrokenResourceError)], leaves


def flattened(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in flattened(each)]
    return [error]
