"""A session and a user of it, over real gRPC on a socket pair."""

from __future__ import annotations

import json
import logging
import math
import os
import select
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.byte_streams.router_stream import CONFIRM, RouterStream
from jumpstarter_proto.rpc import Channel, open_channel
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.router_grpc import RouterServiceStub
from jumpstarter_proto.value import JSON, from_value, to_value

from jumpstarter_exporter.device_state import Lifecycle
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.session.session import Session

Lifecycle.strict = True


class User:
    """What a client does, in the fewest words."""

    def __init__(self, session: Session, channel: Channel) -> None:
        self.session = session
        self.channel = channel
        self.exporter = ExporterServiceStub(channel)
        self.router = RouterServiceStub(channel)

    def uuid(self, path: str) -> str:
        (node,) = [node for node in self.session.tree.nodes if node.path == path]
        return str(node.driver.uuid)

    async def call(self, path: str, method: str, *arguments: object, timeout: float | None = None) -> JSON:
        response = await self.exporter.DriverCall(
            jumpstarter_pb2.DriverCallRequest(
                uuid=self.uuid(path), method=method, args=[to_value(argument) for argument in arguments]
            ),
            timeout=timeout,
        )
        return from_value(response.result)

    @asynccontextmanager
    async def results(self, path: str, method: str, *arguments: object) -> AsyncIterator[AsyncIterator[JSON]]:
        request = jumpstarter_pb2.StreamingDriverCallRequest(
            uuid=self.uuid(path), method=method, args=[to_value(argument) for argument in arguments]
        )
        async with self.exporter.StreamingDriverCall(request) as call:

            async def values() -> AsyncGenerator[JSON, None]:
                async for response in call:
                    yield from_value(response.result)

            async with aclosing(values()) as generator:
                yield generator

    @asynccontextmanager
    async def stream(self, path: str, method: str = "connect") -> AsyncIterator[RouterStream]:
        request = {"kind": "driver", "uuid": self.uuid(path), "method": method}
        async with self.router.Stream(metadata=[("request", json.dumps(request)), CONFIRM]) as call:
            yield RouterStream.client(call, confirms=CONFIRM in await call.initial_metadata())

    @asynccontextmanager
    async def resource(
        self, path: str, encoding: str | None = None
    ) -> AsyncIterator[tuple[RouterStream, dict[str, Any], dict[str, str | bytes]]]:
        request = {"kind": "resource", "uuid": self.uuid(path), "x_jmp_content_encoding": encoding}
        async with self.router.Stream(metadata=[("request", json.dumps(request))]) as call:
            headers = dict(await call.initial_metadata())
            yield RouterStream.client(call), json.loads(headers["resource"]), headers

    async def report(self) -> jumpstarter_pb2.GetReportResponse:
        return await self.exporter.GetReport(empty_pb2.Empty())


Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[User]]


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    return ours, theirs


@asynccontextmanager
async def _user(session: Session) -> AsyncIterator[User]:
    ours, theirs = socket_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve_connection, theirs)
        async with open_channel(ours) as channel:
            yield User(session, channel)
        nursery.cancel_scope.cancel()


@pytest.fixture
def user() -> Callable[[Session], AbstractAsyncContextManager[User]]:
    """`async with user(session) as one, user(session) as other:`"""
    return _user


@pytest.fixture
def serve() -> Serve:
    """`async with serve(driver) as user:`"""

    @asynccontextmanager
    async def serve_driver(root: Driver, **options: Any) -> AsyncIterator[User]:
        async with Session(root, **options) as session, _user(session) as user:
            yield user

    return serve_driver


class HookOutput(logging.Handler):
    """What hooks print, line by line as the exporter logs it; by then it waits for their end."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._send, self._receive = trio.open_memory_channel[str](math.inf)

    def emit(self, record: logging.LogRecord) -> None:
        self._send.send_nowait(record.getMessage())

    async def line(self) -> str:
        return await self._receive.receive()


@pytest.fixture
def hook_output() -> Iterator[HookOutput]:
    """`assert await hook_output.line() == "begun"`"""
    logger, handler = logging.getLogger("hook"), HookOutput()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Witness:
    """A named pipe that a shell script, and all that it starts, keep open until they end.

    Put `keep` in front of the script.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.keep = f"exec 3>{path}; "
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def is_kept(self) -> bool:
        """Whether a process that has it runs still."""
        readable, _, _ = select.select([self._end], [], [], 0)
        return not readable

    async def ended(self) -> None:
        """Wait until it was open, and every process that had it has ended."""
        await trio.lowlevel.wait_readable(self._end)
        assert os.read(self._end, 1) == b""

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """`Hook(script=witness.keep + "sleep 1000")`"""
    made = Witness(tmp_path / "witness")
    yield made
    made.close()


__all__ = ["HookOutput", "Serve", "User", "Witness"]
