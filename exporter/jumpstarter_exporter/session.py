"""Serves a board's devices to its users: one session for one lease, or for the local users of a daemon.

A session borrows the devices: it has fresh driver objects of its own, opens them when they are first used, closes all
of them when it ends, and drops them. Any number of clients may be connected at a time, over any byte streams; they
share the driver objects, the status and the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import trio
from jumpstarter_proto.rpc import (
    Interceptor,
    Options,
    RpcError,
    Server,
    ServerCall,
    StatusCode,
)
from jumpstarter_proto.rpc import serve_connection as serve_rpc
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.call_notes import CallNote
from jumpstarter_exporter.devices.cores import living
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.entrance import Use
from jumpstarter_exporter.errors import DeviceFailed
from jumpstarter_exporter.logs import BoardLog, SessionLog, dispatching
from jumpstarter_exporter.node import Node
from jumpstarter_exporter.services import services
from jumpstarter_exporter.status import Status, StatusMachine
from jumpstarter_exporter.tree import Tree

__all__ = ["Session"]

MAX_NOTICES = 16
"""That wait for one shell."""

_log = logging.getLogger(__name__)


class Session:
    """Use it as an async context manager; leaving it closes all devices.

    The session does not end its connections: close or cancel them before. That it does not close well is an error in
    the log, and nobody else's. `lease` is the name of the lease that it is for; None is a session for local users,
    which nobody can end from afar. One that does not begin ready has hooks, which say when it is (see `hooks.life`).
    What is logged in its calls, and into the `board`'s log, is its log. A lease's users see no recording of what was
    before `visible_since` (seconds since 1970), which is now; local users see all. `devices` are a board's; driver
    objects that somebody has made are for this session alone.
    """

    def __init__(
        self,
        devices: BoardDevices | Driver,
        *,
        name: str | None = None,
        lease: str | None = None,
        motd: str = "",
        begins_ready: bool = True,
        visible_since: float | None = None,
        board: BoardLog | None = None,
        interceptors: Sequence[Interceptor] = (),
        options: Options | None = None,
        on_call: Callable[[CallNote], None] | None = None,
    ) -> None:
        """`on_call` is told of each call that is no mere look."""
        self.tree = Tree(devices)
        if visible_since is None and lease is not None:
            visible_since = time.time()
        self._visible_since = visible_since or 0.0
        self._tell_drivers()
        self.status = StatusMachine()
        self.name = name
        self.lease = lease
        self.motd = motd
        self._begins_ready = begins_ready
        self.end_requested = trio.Event()
        """Set when the lease's user is done."""
        self.obstacle = ""
        """Why its devices cannot be used yet."""
        self._on_call = on_call
        self._id = uuid4().hex[:8]
        self._board = board or BoardLog()
        self._services = services(self)
        self._interceptors = interceptors
        self._options = options
        self._stack = ExitStack()
        self._cores = AsyncExitStack()
        self._calls: set[trio.CancelScope] = set()
        self._notices: set[trio.MemorySendChannel[str]] = set()
        self._over = ""
        """Why there are no calls any more."""
        self._is_alone = isinstance(devices, Driver)
        """There is nobody else to open the devices' cores."""
        self.server = Server(self._services, interceptors=interceptors, options=options)

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Self:
        """Everybody who can reach it is its user; what the call logs is in its log."""
        if use.does and not use.ends and self.obstacle:
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"not ready: {self.obstacle}")
        self.log.bind()
        return self

    def reads(self, use: Use) -> bool:
        """Whether a call changes nothing."""
        node = self.tree.find(use.uuid)
        method = node.methods.get(use.method) if node is not None else None
        return not use.does or (method is not None and method.reads)

    @property
    def is_noted(self) -> bool:
        """Whether somebody keeps what is done."""
        return self._on_call is not None

    def note(self, call: CallNote) -> None:
        """A call was made, or has begun."""
        if self._on_call is not None:
            self._on_call(replace(call, lease=self.lease or "", session=self._id))

    @contextmanager
    def call(self) -> Iterator[None]:
        """What is done in the block ends with the session, if not before. RpcError, when it was that."""
        if self._over:
            raise RpcError(StatusCode.UNAVAILABLE, self._over)
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                yield
            finally:
                self._calls.discard(scope)
        if scope.cancelled_caught:
            raise RpcError(StatusCode.UNAVAILABLE, self._over)

    def tell(self, text: str) -> None:
        """Let its users read that: in the log, and in their shells."""
        with self.log.bound():
            _log.warning("%s", text, extra={"is_notice": True})
        for one in self._notices:
            with suppress(trio.WouldBlock):  # it has not read those before either
                one.send_nowait(text)

    @contextmanager
    def notices(self) -> Iterator[trio.MemoryReceiveChannel[str]]:
        """What its users are told from now on."""
        send, receive = trio.open_memory_channel[str](MAX_NOTICES)
        self._notices.add(send)
        try:
            yield receive
        finally:
            self._notices.discard(send)

    def end_calls(self, why: str) -> None:
        """End those that run, and refuse others."""
        self._over = self._over or why
        for scope in self._calls:
            scope.cancel()

    async def __aenter__(self) -> Self:
        self.log = SessionLog(board=self._board.board)
        self._stack.enter_context(dispatching())
        self._stack.enter_context(self._board.heard_by(self.log))
        if self._is_alone:
            await self._cores.enter_async_context(living(self.tree.devices))
        self._devices = trio.open_nursery()
        self._nursery = await self._devices.__aenter__()
        self.tree.attach(self._nursery)
        self.tree.devices.arranged.append(self._follow)
        if self._begins_ready:
            self.status.become(Status.LEASE_READY, "Ready for commands")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_calls("the session is over; try again")
        try:
            await self._close_devices()
        except Exception:  # a fault of ours: the board is served on, and its next session opens devices anew
            _log.exception("a session of %s did not close as it should", self.name or "this exporter")
        finally:
            self._stack.close()

    def _follow(self) -> None:
        """The board has other devices now: so has the session, and what is gone is closed."""
        for node in self.tree.update():
            node.shut_soon(self._nursery)
        self.tree.attach(self._nursery)
        self._tell_drivers()

    def show_recordings_since(self, then: float) -> None:
        """Let its users see what was recorded from then on, in seconds since 1970."""
        self._visible_since = then
        self._tell_drivers()

    def _tell_drivers(self) -> None:
        for node in self.tree.nodes:
            node.driver.session_since = self._visible_since

    async def _close_devices(self) -> None:
        try:
            try:
                self.tree.devices.arranged.remove(self._follow)
                await self.tree.close()
            except Exception:
                self._nursery.cancel_scope.cancel()  # whatever is open still is closed by that
                raise
            finally:
                # Without the block's error: no task in there raises, so it leaves as itself and not in a group.
                await self._devices.__aexit__(None, None, None)
        finally:
            await self._cores.aclose()

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one client until its connection ends."""
        await serve_rpc(stream, self._services, interceptors=self._interceptors, options=self._options)

    def node(self, uuid: str) -> Node:
        """The device with that UUID. RpcError, as Jumpstarter words it, when there is none."""
        node = self.tree.find(uuid)
        if node is not None:
            return node
        try:
            canonical = UUID(uuid)
        except ValueError as error:
            raise RpcError(StatusCode.UNKNOWN, f"Unexpected <class 'ValueError'>: {error}") from None
        node = self.tree.find(str(canonical))
        if node is None:
            raise RpcError(StatusCode.UNKNOWN, f"Unexpected <class 'KeyError'>: {canonical!r}")
        return node

    async def reset(self) -> None:
        """Reset all devices that are in use, parents first; one that fails does not keep the others from it.

        Raises:
            DeviceFailed: names those that failed.
        """
        failures = []
        for node in self.tree.nodes:
            if node.is_open:
                try:
                    node.check_usable()
                    await node.run("reset()", node.driver.reset)
                except Exception as error:  # any driver's reset; its neighbours must be reset too
                    failures.append(f"{node}: {error}")
        if failures:
            raise DeviceFailed(f"not all devices were reset: {'; '.join(failures)}")

    def end(self) -> jumpstarter_pb2.EndSessionResponse:
        """The lease's user is done; returns at once."""
        if self.lease is None:
            return jumpstarter_pb2.EndSessionResponse(success=False, message="No active lease context")
        self.end_requested.set()
        return jumpstarter_pb2.EndSessionResponse(
            success=True, message="Session end triggered, afterLease hook running asynchronously"
        )
