"""Serves a board's devices to users: one session for a lease, or for the local users of a daemon.

A session has driver objects of its own. It opens them at their first use, and closes and drops them when it ends. Any
number of clients may be connected, over any byte streams; they share the driver objects, the status and the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import trio
from jumpstarter_proto.exporter_status import ExporterStatus
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
from msgspec.structs import replace

from jumpstarter_exporter.devices.cores import managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceFailed
from jumpstarter_exporter.record_clock import RECORD_CLOCK
from jumpstarter_exporter.session.call_notes import CallNote
from jumpstarter_exporter.session.logs import BoardLog, SessionLog, dispatching
from jumpstarter_exporter.session.node import SessionNode
from jumpstarter_exporter.session.selection import CallUse
from jumpstarter_exporter.session.services import services
from jumpstarter_exporter.session.tree import Tree
from jumpstarter_exporter.status import StatusMachine

__all__ = ["Session"]

MAX_NOTICES = 16
"""Notices that may wait for one shell."""

_log = logging.getLogger(__name__)


class Session:
    """An async context manager; leaving it closes all devices.

    The session does not close its connections: close or cancel them before. An error while closing is logged and not
    raised. `lease` is the lease's name; None is a session of local users, which cannot be ended remotely. A session
    with `begins_ready=False` has hooks that set its status (see `hooks.session_hooks`). Its log contains what its
    calls log, and the `board`'s log. Users of a lease see no recordings from before `visible_since` (seconds since the
    epoch; default now); local users see all. `devices` are those of a board; driver objects that were created by hand
    belong to this session.
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
        """`on_call` gets each call that may have changed something."""
        self.tree = Tree(devices)
        if visible_since is None and lease is not None:
            visible_since = RECORD_CLOCK.begin()
        self._visible_since = visible_since or 0.0
        self._tell_drivers()
        self.status = StatusMachine()
        self.name = name
        self.lease = lease
        self.motd = motd
        self._begins_ready = begins_ready
        self.end_requested = trio.Event()
        """Set when the lease's user ends the session."""
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
        """Why no call is accepted any more."""
        self._is_alone = isinstance(devices, Driver)
        """The session must open the devices' cores itself."""
        self.server = Server(self._services, interceptors=interceptors, options=options)

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Self:
        """Admit a call: everybody who can reach the session is its user. The call logs into the session's log."""
        if use.does and not use.ends and self.obstacle:
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"not ready: {self.obstacle}")
        self.log.bind()
        return self

    def reads(self, use: CallUse) -> bool:
        """Whether a call changes nothing."""
        node = self.tree.find(use.uuid)
        method = node.methods.get(use.method) if node is not None else None
        return not use.does or (method is not None and method.reads)

    @property
    def is_noted(self) -> bool:
        """Whether calls are noted for the audit log."""
        return self._on_call is not None

    def note(self, call: CallNote) -> None:
        """Note a call that was made or has begun."""
        if self._on_call is not None:
            self._on_call(replace(call, lease=self.lease or "", session=self._id))

    @contextmanager
    def call(self) -> Iterator[None]:
        """The block ends with the session, if not before. RpcError if the session ended it."""
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

    def notify(self, text: str) -> None:
        """Notify users: in the log, and in their shells."""
        with self.log.bound():
            _log.warning("%s", text, extra={"is_notice": True})
        for one in self._notices:
            with suppress(trio.WouldBlock):  # it has not read the notices before either
                one.send_nowait(text)

    @contextmanager
    def notices(self) -> Iterator[trio.MemoryReceiveChannel[str]]:
        """The notices from now on."""
        send, receive = trio.open_memory_channel[str](MAX_NOTICES)
        self._notices.add(send)
        try:
            yield receive
        finally:
            self._notices.discard(send)

    def end_calls(self, why: str) -> None:
        """End current calls, and refuse others."""
        self._over = self._over or why
        for scope in self._calls:
            scope.cancel()

    async def __aenter__(self) -> Self:
        self.log = SessionLog(board=self._board.board)
        self._stack.enter_context(dispatching())
        self._stack.enter_context(self._board.heard_by(self.log))
        if self._is_alone:
            await self._cores.enter_async_context(managed_cores(self.tree.devices))
        self._devices = trio.open_nursery()
        self._nursery = await self._devices.__aenter__()
        self.tree.attach(self._nursery)
        self.tree.devices.arranged.append(self._follow)
        if self._begins_ready:
            self.status.change(ExporterStatus.LEASE_READY, "Ready for commands")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_calls("the session has ended; try again")
        try:
            await self._close_devices()
        except (
            Exception
        ):  # a fault of ours: the board is still served, and the next session opens the devices again
            _log.exception("closing a session of %s failed", self.name or "this exporter")
        finally:
            self._stack.close()

    def _follow(self) -> None:
        """The board's devices have changed: update the session, and close devices that are gone."""
        for node in self.tree.update():
            node.shut_soon(self._nursery)
        self.tree.attach(self._nursery)
        self._tell_drivers()

    def show_recordings_since(self, then: float) -> None:
        """Let users see recordings from then on, in seconds since the epoch."""
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
                self._nursery.cancel_scope.cancel()  # everything that is still open is closed by that
                raise
            finally:
                # Without the block's error: no task in the nursery raises, so the error is not wrapped in a group.
                await self._devices.__aexit__(None, None, None)
        finally:
            await self._cores.aclose()

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one client until its connection ends."""
        await serve_rpc(stream, self._services, interceptors=self._interceptors, options=self._options)

    def node(self, uuid: str) -> SessionNode:
        """The device with that UUID. RpcError with Jumpstarter's text if there is none."""
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
        """Reset all devices in use, parents first. A failure does not keep the others from being reset.

        Raises:
            DeviceFailed: names the devices that failed.
        """
        failures = []
        for node in self.tree.nodes:
            if node.is_open:
                try:
                    node.check_usable()
                    await node.run("reset()", node.driver.reset)
                except Exception as error:  # any driver's reset; its neighbours must be reset, too
                    failures.append(f"{node}: {error}")
        if failures:
            raise DeviceFailed(f"not all devices were reset: {'; '.join(failures)}")

    def end(self) -> jumpstarter_pb2.EndSessionResponse:
        """The lease's user ends the session; returns at once."""
        if self.lease is None:
            return jumpstarter_pb2.EndSessionResponse(success=False, message="No active lease context")
        self.end_requested.set()
        return jumpstarter_pb2.EndSessionResponse(
            success=True, message="Session end triggered, afterLease hook running asynchronously"
        )
