"""Follows the host's devices: events of udev, or of the kernel where udevd does not run, as complete trees.

The one place that listens. Nothing is looked at in intervals where events come: trio waits for the socket. All that
blocks is done in threads.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import trio
from jumpstarter_proto.tasks import collapsed

from jumpstarter_exporter.devices.inventory import RevisionCounter
from jumpstarter_exporter.devices.settling import Settling
from jumpstarter_exporter.devices.udev_database import (
    SUBSYSTEMS,
    UdevError,
    enumerate_devices,
    open_context,
    record_of,
)
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["DeviceWatch", "heard_devices", "watch_devices"]

LOOK_SECONDS = 10.0
"""Interval of enumerations where it is unknown whether events arrive."""
_RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024
"""For some thousands of events. Without CAP_NET_ADMIN it is net.core.rmem_max: about a hundred."""
_BATCH = 32
"""Events that are received in one call in a thread."""
_CONTAINER_MARKS = ("/run/systemd/container", "/.dockerenv", "/run/.containerenv")

_log = logging.getLogger(__name__)


class DeviceWatch(RevisionCounter):
    """The devices of this host, during the block of `watch_devices`.

    Each revision has a new `tree`: iterate over `devices.changes.subscribed(watch)`, which begins with the present one.
    A slow reader gets the newest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tree = DeviceTree(())
        self.source = ""
        """Where changes come from, for people."""
        self.hears_events = False
        """Whether changes are certain to be reported at once."""
        self.has_nodes = not _is_in_container()
        """Whether nodes exist when the tree has them: not certain in a container's /dev."""
        self.enumerations = 0
        """How often all devices were read: once, and after each loss of events."""

    def show(self, tree: DeviceTree) -> None:
        """Show these devices."""
        self.tree = tree
        self._change()


_shared: trio.lowlevel.RunVar[DeviceWatch | None] = trio.lowlevel.RunVar("devices of this host")


@asynccontextmanager
async def watch_devices(limiter: trio.CapacityLimiter) -> AsyncIterator[DeviceWatch]:
    """Enumerate the host's devices, and follow changes during the block. It uses two threads of `limiter`.

    If events cannot be received, the devices are enumerated every `LOOK_SECONDS`; also in a container, until the first
    event arrives. Other tasks of this trio loop get the same watch within the block, and must leave it before.

    Raises:
        UdevError: the devices of this host cannot be read.
    """
    if (shared := _shared.get(None)) is not None:
        yield shared
        return
    follower = _Follower(limiter)
    token = None
    try:
        await follower.start()
        token = _shared.set(follower.watch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run)
            yield follower.watch
            nursery.cancel_scope.cancel()
    finally:
        if token is not None:
            _shared.reset(token)
        follower.close()


def heard_devices() -> DeviceWatch | None:
    """The watch of this trio loop if it reports changes at once; otherwise the caller must poll."""
    watch = _shared.get(None)
    return watch if watch is not None and watch.hears_events and watch.has_nodes else None


@dataclass
class _Batch:
    events: list[tuple[str, UdevDevice]]
    is_incomplete: bool = False
    """Further events were lost."""
    is_all: bool = False
    """No more events are waiting."""


class _Monitor:
    """The socket, from the moment when it receives. Its methods block; only one thread may call them at a time."""

    def __init__(self) -> None:
        context = open_context()
        import pyudev  # noqa: PLC0415 - after the error that says how to install it

        has_udevd = os.path.exists("/run/udev/control")
        self.source = "udev" if has_udevd else "kernel"
        self.is_certain = has_udevd and not _is_in_container()
        try:
            self._monitor: Any = pyudev.Monitor.from_netlink(context, self.source)
            for subsystem in SUBSYSTEMS:
                self._monitor.filter_by(subsystem)
            self._socket = socket.socket(fileno=os.dup(self._monitor.fileno()))
        except OSError as error:
            raise UdevError(f"no events of devices can be received: {error.strerror or error}") from None
        try:
            self._enlarge_buffer()
            self._monitor.start()
        except OSError as error:
            self._socket.close()
            raise UdevError(f"no events of devices can be received: {error.strerror or error}") from None

    def fileno(self) -> int:
        return int(self._monitor.fileno())

    def receive(self) -> _Batch:
        """What is waiting, or the beginning of it.

        Raises:
            OSError: the socket is of no use any more.
        """
        batch = _Batch([])
        while len(batch.events) < _BATCH and not batch.is_all:
            try:
                device = self._monitor.poll(0)
            except OSError as error:
                # pyudev polls for a socket's error, which leaves it there and does not name it.
                if (
                    error.errno or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                ) != errno.ENOBUFS:
                    raise
                batch.is_incomplete = True
                continue
            if device is None:
                batch.is_all = True
            else:
                batch.events.append((device.action or "change", record_of(device)))
        return batch

    def close(self) -> None:
        """The last reference to pyudev's monitor closes it."""
        self._socket.close()
        del self._monitor

    def _enlarge_buffer(self) -> None:
        try:
            self._monitor.set_receive_buffer_size(_RECEIVE_BUFFER_BYTES)
        except OSError:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


class _Follower:
    """Feeds `Settling`, and shows its trees."""

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self.watch = DeviceWatch()
        self._limiter = limiter
        self._settling = Settling()
        self._monitor: _Monitor | None = None
        self._look_at = math.inf
        """When to enumerate in any case."""
        self._is_stale = True
        """Changes may have been missed."""
        self._has_lost = False
        """Because events were lost."""

    async def start(self) -> None:
        """The first tree is there after that.

        Raises:
            UdevError: see `watch_devices`.
        """
        await self._open()
        try:
            await self._enumerate()
        except OSError as error:
            self._look_instead(error)
            await self._enumerate()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self._follow()
            except (OSError, UdevError) as error:
                _log.warning(
                    "changes of this host's devices are not followed for %.0f s: %s", LOOK_SECONDS, error
                )
                self.close()
                await trio.sleep(LOOK_SECONDS)
                self._is_stale = self._has_lost = True
                await self._open()

    def close(self) -> None:
        """Stop receiving events."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()

    async def _open(self) -> None:
        """Start receiving events, if possible."""
        try:
            # Not abandoned: nobody would close what it has opened.
            self._monitor = await trio.to_thread.run_sync(_Monitor, limiter=self._limiter)
        except UdevError as error:
            self._look_instead(error)
        else:
            self.watch.source = f"events of {self._monitor.source}"
            self.watch.hears_events = self._monitor.is_certain

    def _look_instead(self, error: Exception) -> None:
        self.close()
        self.watch.source = f"enumerated every {LOOK_SECONDS:.0f} s: {error}"
        self.watch.hears_events = False

    async def _follow(self) -> None:
        while True:
            if self._is_stale:
                await self._enumerate()
            await self._wait()
            if self._monitor is not None:
                await self._receive(self._monitor)
            if trio.current_time() >= self._look_at:
                self._is_stale = True
            self._show()

    async def _wait(self) -> None:
        """Wait for an event, a complete change, or the next enumeration."""
        with trio.move_on_at(min(self._settling.due(), self._look_at)):
            if self._monitor is None:
                await trio.sleep_forever()
            else:
                await trio.lowlevel.wait_readable(self._monitor.fileno())

    async def _receive(self, monitor: _Monitor) -> None:
        """Receive all waiting events. A cancellation loses none of them."""
        while True:
            batch = await trio.to_thread.run_sync(monitor.receive, limiter=self._limiter)
            now = trio.current_time()
            for action, device in batch.events:
                self._settling.event(action, device, now)
            if batch.events:
                self.watch.hears_events, self._look_at = True, math.inf
            if batch.is_incomplete:
                self._is_stale = self._has_lost = True
            if batch.is_all:
                return
            self._show()

    async def _enumerate(self) -> None:
        """Read all devices while events are received: those may be newer than what is read."""
        lost, self._is_stale = self._has_lost, False
        self._has_lost = False
        self._settling.begin_enumeration()
        with collapsed():
            async with trio.open_nursery() as nursery:
                if self._monitor is not None:
                    nursery.start_soon(self._keep_receiving, self._monitor)
                found = await trio.to_thread.run_sync(
                    enumerate_devices, limiter=self._limiter, abandon_on_cancel=True
                )
                nursery.cancel_scope.cancel()
        self._settling.end_enumeration(found, lost=lost)
        self.watch.enumerations += 1
        if not self.watch.hears_events:
            self._look_at = trio.current_time() + LOOK_SECONDS
        self._show()

    async def _keep_receiving(self, monitor: _Monitor) -> None:
        while True:
            await trio.lowlevel.wait_readable(monitor.fileno())
            await self._receive(monitor)

    def _show(self) -> None:
        """Show complete changes; nothing while the tree is known to be outdated."""
        tree = None if self._is_stale else self._settling.take(trio.current_time())
        if tree is not None:
            self.watch.show(tree)


def _is_in_container() -> bool:
    return any(os.path.exists(mark) for mark in _CONTAINER_MARKS)
