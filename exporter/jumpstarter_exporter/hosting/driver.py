"""A hosted device in a session, and the child that it shares with its neighbours.

A session's driver objects have one tree, so the child of a group belongs to the root of that tree. It starts when the
first of its devices is opened, and ends when the last one is closed, which is the session's end at the latest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary, ref

import trio
from google.protobuf.struct_pb2 import Value
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.report_labels import MEMORY
from jumpstarter_proto.rpc import Metadata, RpcError, StatusCode
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.decorators import ExportKind, MethodSummary
from jumpstarter_exporter.driver import DeviceFailed, Driver
from jumpstarter_exporter.forwarding import ForwardingDriver
from jumpstarter_exporter.hosting import learning
from jumpstarter_exporter.hosting.child_messages import MethodReport
from jumpstarter_exporter.hosting.groups import HostedGroup
from jumpstarter_exporter.hosting.process import EXIT_SECONDS, ChildProcess
from jumpstarter_exporter.hosting.urls import check_urls

__all__ = ["HostedDriver", "hosted_kind"]

MAX_HEADER_LENGTH = 4096
_KINDS = {"call": ExportKind.CALL, "streaming": ExportKind.STREAMING, "stream": ExportKind.STREAM}


@dataclass(kw_only=True, eq=False)
class HostedDriver(ForwardingDriver):
    """A device whose driver is one of Jumpstarter 0.9.

    Opening it starts its child, unless that runs already. Closing it ends the child if no other device needs it: the
    driver's own `close()` decides what becomes of the board.
    """

    group: HostedGroup
    path: str
    """In the child, which is the same as in the board's tree."""
    methods: tuple[MethodReport, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._session_nursery: trio.Nursery | None = None
        self._child: ChildProcess | None = None

    def describe_hardware(self) -> str:
        """Its environment."""
        return f"a driver of Jumpstarter in {self.group.python}"

    @property
    def process_labels(self) -> dict[str, str]:
        """The memory of its child, while that runs."""
        memory = 0 if self._child is None else self._child.memory
        return {MEMORY: f"{memory / 1e6:.0f} MB"} if memory else {}

    def attach_session(self, nursery: trio.Nursery | None) -> None:
        """The child's tasks are in this nursery."""
        self._session_nursery = nursery

    @property
    def method_summaries(self) -> list[MethodSummary]:
        """As its child reported them at load."""
        return [
            MethodSummary(one.name, _KINDS[one.kind], one.signature, one.description) for one in self.methods
        ]

    async def open(self) -> None:
        """Start the child, or share it."""
        if self._session_nursery is None:
            raise JumpstarterUsageError("a hosted device can be opened only inside of a session")
        self._child = await _shared(self).acquire(self, self._session_nursery)
        report = self._child.life.report
        assert report is not None
        mine = next((one for one in report.devices if one.path == self.path), None)
        if mine is None:
            why = report.failed.get(self.path, "its driver does not make it any more")
            learning.forget(self.group)
            raise DeviceFailed(
                f"{self.path} cannot be made: {shown(why, 500)}; correct that and begin a new session"
            )
        if mine.client != self.client:
            learning.forget(self.group)
            raise DeviceFailed(
                f"{self.path} has another client class than before, {mine.client}; run: jumpstarter-exporter reload"
            )
        if mine.uuid != self.uuid:
            raise DeviceFailed(f"{self.path} sets its UUID itself; remove that from its driver")

    async def close(self) -> None:
        """Release the child."""
        child, self._child = self._child, None
        if child is not None:
            await _shared(self).release(self)

    async def reset(self) -> None:
        """Replace the child by a new one, once for all of its devices: that is what a reset is for Jumpstarter 0.9."""
        if self._child is not None and self._session_nursery is not None:
            self._child = await _shared(self).replace(self._child, self._session_nursery)

    async def forward_call(self, method: str, arguments: Sequence[Value]) -> Value:
        """See `ForwardingDriver`."""
        child = self._running()
        await check_urls(arguments)
        request = jumpstarter_pb2.DriverCallRequest(uuid=str(self.uuid), method=method, args=arguments)
        try:
            return (await child.exporter.DriverCall(request)).result
        except RpcError as error:
            raise await _explained(error, child) from None

    async def forward_results(self, method: str, arguments: Sequence[Value]) -> AsyncGenerator[Value, None]:
        """See `ForwardingDriver`."""
        child = self._running()
        await check_urls(arguments)
        request = jumpstarter_pb2.StreamingDriverCallRequest(
            uuid=str(self.uuid), method=method, args=arguments
        )
        try:
            async with child.exporter.StreamingDriverCall(request) as call:
                async for response in call:
                    yield response.result
        except RpcError as error:
            raise await _explained(error, child) from None

    @asynccontextmanager
    async def forward_stream(self, method: str) -> AsyncIterator[RouterStream]:
        """See `ForwardingDriver`."""
        async with self._stream({"kind": "driver", "method": method}) as (_, stream):
            yield stream

    @asynccontextmanager
    async def forward_resource(self, encoding: str | None) -> AsyncIterator[tuple[Metadata, RouterStream]]:
        """See `ForwardingDriver`."""
        async with self._stream({"kind": "resource", "x_jmp_content_encoding": encoding}) as (
            headers,
            stream,
        ):
            # Of its own headers, those of the protocol.
            kept = [(key, value) for key, value in headers if key in ("resource", "x_jmp_accept_encoding")]
            if sum(len(value) for _, value in kept) > MAX_HEADER_LENGTH:
                raise DeviceFailed(f"{self.path} answers with headers that are too long; see its driver")
            yield kept, stream

    @asynccontextmanager
    async def _stream(self, request: Mapping[str, Any]) -> AsyncIterator[tuple[Metadata, RouterStream]]:
        child = self._running()
        header = json.dumps({**request, "uuid": str(self.uuid)}, separators=(",", ":"))
        async with child.router.Stream(metadata=[("request", header)]) as call:
            try:
                headers = await call.initial_metadata()
            except RpcError as error:
                raise await _explained(error, child) from None
            yield headers, RouterStream.client(call)

    def _running(self) -> ChildProcess:
        child = _shared(self).child_of(self)
        if child is None or not child.settled.is_set():
            raise DeviceFailed(f"{self.path} is not open, or is being reset; try again")
        if child.life.is_over:
            raise DeviceFailed(child.life.reason or f"{self.path} was closed; try again")
        return child


@cache
def hosted_kind(client: str) -> type[HostedDriver]:
    """The class of hosted devices with that client class."""
    name = f"Hosted{client.rpartition('.')[2]}"
    return type(name, (HostedDriver,), {"client": client, "__doc__": HostedDriver.__doc__})


async def _explained(error: RpcError, child: ChildProcess) -> Exception:
    """What a user is told: the child's own status, or why the child is gone."""
    if error.code is StatusCode.UNAVAILABLE:
        with trio.move_on_after(EXIT_SECONDS):
            await child.ended.wait()
        return DeviceFailed(
            child.life.reason or f"{child.name} closed its connection ({shown(error.details)}); try again"
        )
    return error


class _SharedChild:
    """The child of a group in one session."""

    def __init__(self, root: Driver, group: HostedGroup) -> None:
        self._root = ref(root)
        self._group = group
        self._current: ChildProcess | None = None
        self._users: dict[ChildProcess, set[HostedDriver]] = {}

    async def acquire(self, user: HostedDriver, nursery: trio.Nursery) -> ChildProcess:
        """The running child; it is started if there is none.

        Raises:
            DeviceFailed: it could not be started.
        """
        while (child := self._current) is not None and child.life.is_over:
            await child.ended.wait()  # it may have the hardware for so long
            if self._current is child:
                self._current = None
        if child is None:
            child = self._current = self._start(nursery)
        self._users[child].add(user)
        try:
            await self._until_usable(child)
        except BaseException:
            self._leave(user, child)
            raise
        return child

    def child_of(self, user: HostedDriver) -> ChildProcess | None:
        """The child that it uses, which may have replaced the one that it was opened with."""
        return next((child for child, users in self._users.items() if user in users), None)

    async def release(self, user: HostedDriver) -> None:
        """Wait until its child has ended, if this was the last user."""
        if (child := self.child_of(user)) is not None:
            self._leave(user, child)
        for unused in [one for one, users in self._users.items() if not users]:
            await unused.ended.wait()
            self._users.pop(unused, None)

    async def replace(self, old: ChildProcess, nursery: trio.Nursery) -> ChildProcess:
        """The child after `old`, for all of its users. After a cancellation, each starts one at its next use."""
        if self._current is old and not old.life.is_over:
            users = self._users.pop(old)
            old.end()
            try:
                await old.ended.wait()
            except trio.Cancelled:
                for user in users:
                    user.failed(f"the reset of {self._group} was cancelled; it starts again at the next use")
                raise
            new = self._current = self._start(nursery)
            self._users[new] |= users
        assert self._current is not None
        new = self._current
        await self._until_usable(new)
        return new

    async def _until_usable(self, child: ChildProcess) -> None:
        await child.settled.wait()
        if child.life.is_over:
            raise DeviceFailed(child.life.reason or f"{self._group} was ended; try again")

    def _start(self, nursery: trio.Nursery) -> ChildProcess:
        root = self._root()
        assert root is not None  # one of its devices is being opened
        uuids = {one.path: str(one.uuid) for one in _hosted_below(root) if one.group == self._group}
        users: set[HostedDriver] = set()

        def lost(reason: str) -> None:
            for user in tuple(users):
                user.failed(reason)

        child = ChildProcess(self._group, uuids, on_lost=lost)
        self._users[child] = users
        nursery.start_soon(child.run)
        return child

    def _leave(self, user: HostedDriver, child: ChildProcess) -> None:
        users = self._users.get(child, set())
        users.discard(user)
        if not users:
            child.end()


_children: WeakKeyDictionary[Driver, dict[HostedGroup, _SharedChild]] = WeakKeyDictionary()
"""By the root of a session's driver objects."""


def _shared(driver: HostedDriver) -> _SharedChild:
    root: Driver = driver
    while root.parent_driver is not None:
        root = root.parent_driver
    groups = _children.setdefault(root, {})
    return groups.setdefault(driver.group, _SharedChild(root, driver.group))


def _hosted_below(driver: Driver) -> Iterator[HostedDriver]:
    if isinstance(driver, HostedDriver):
        yield driver
    for child in driver.children.values():
        yield from _hosted_below(child)
