"""One call of LabService.Watch: the present state, and then its changes, at the speed of the reader.

Nothing is queued for a reader. A slow reader gets merged changes as long as `feed` has them, and the whole state after
that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import trio
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.lab import Client, Exporter, Key, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.scheduling import QueuePosition, online
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.messages import exporter_message, lease_news, position_sentence
from jumpstarter_controller.services.watch_filter import WatchChanges, WatchFilter

__all__ = ["watch_lab", "watch_lease"]

Call: TypeAlias = ServerCall[pb.WatchRequest, pb.LabNews]

PAGE_SIZE = 32 * 1024
"""Bytes after which a message gets no further record (of a few KiB). It bounds the memory for a slow reader."""
PAUSE_SECONDS = 0.1
"""The pause between two messages about many records, at least as long as the last one took. It merges changes."""
MAX_PAUSE_SECONDS = 2.0
PLACE_SECONDS = 2.0
"""The interval in which queue positions, which change with the leases of others, are sent."""
LOOK_SECONDS = 15.0
"""The interval in which estimates, which change with time, are sent."""
OFFER_SECONDS = 1.0
"""An offer is reported only after this time, because most exporters accept within milliseconds."""


async def watch_lab(reconciler: Reconciler, client: Client, wish: pb.WatchRequest, call: Call) -> None:
    """Watch exporters and leases, until cancelled."""
    if wish.lease or wish.waits or wish.knows:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "one lease is watched with nothing else")
    await _Listing(reconciler, client, wish, call).run()


class _Listing:
    """What was sent to one reader."""

    def __init__(self, reconciler: Reconciler, client: Client, wish: pb.WatchRequest, call: Call) -> None:
        self._reconciler = reconciler
        self._viewer = WatchFilter(client.namespace, client.name, wish)
        self._call = call
        self._every = Key(client.namespace, "")
        same = pb.WatchRequest()
        same.CopyFrom(wish)
        same.after = ""
        self._wish = b"\0".join([*(part.encode() for part in client.key), same.SerializeToString()])
        self._position = reconciler.feed.position_of(wish.after, self._wish)
        """The feed position of the last message; None: nothing was sent."""
        self._positions: dict[Key, str] = {}
        """The last sent queue position of each waiting lease."""
        self._placed = -PLACE_SECONDS
        """When queue positions were last checked."""

    async def run(self) -> None:
        feed = self._reconciler.feed
        is_first = True
        while True:
            before = None if self._position is None else feed.since(self._position)
            self._position = feed.position
            told = self._told(before)
            if told or before is None or is_first:
                began = trio.current_time()
                for message in self._messages(told, is_snapshot=before is None):
                    await self._call.send_data(message)
                is_first = False
                took = trio.current_time() - began
                await trio.sleep(min(max(PAUSE_SECONDS, took), MAX_PAUSE_SECONDS))
            if feed.position == self._position:
                pause = PLACE_SECONDS if self._positions else LOOK_SECONDS
                await self._reconciler.wait(Exporter, self._every, pause)

    def _told(self, before: dict[RecordRef, Record | None] | None) -> WatchChanges:
        view = self._reconciler.committed
        if before is None:
            self._positions.clear()
            return self._viewer.all(view)
        told = self._viewer.news(before, view)
        now = trio.current_time()
        if self._viewer.sees_places and now >= self._placed + PLACE_SECONDS:
            self._placed = now
            known = {one.key for one in told.records if isinstance(one, Lease)}
            told.records += [
                one
                for one in view.open_leases()
                if not one.exporter
                and one.key not in known
                and self._viewer.shows(one)
                and self._positions.get(one.key) != _sentence(_position_of(self._reconciler, one))
            ]
        return told

    def _messages(self, told: WatchChanges, *, is_snapshot: bool) -> Iterator[bytes]:
        """The messages, each made after the one before was sent. Each is smaller than the message limit."""
        assert self._position is not None
        message, size = pb.LabNews(snapshot=is_snapshot), 0
        for kind, key in told.gone:
            (message.gone_leases if kind is Lease else message.gone_exporters).append(key.name)
            if kind is Lease:
                self._positions.pop(key, None)
        now = self._reconciler.clock()
        for record in told.records:
            if size > PAGE_SIZE:
                data = message.SerializeToString()
                del message
                yield data
                message, size = pb.LabNews(), 0
            if isinstance(record, Exporter):
                is_online = online(record, self._reconciler.presence, now)
                message.exporters.append(exporter_message(record, is_online=is_online))
                size += message.exporters[-1].ByteSize()
            else:
                message.leases.append(self._lease(record, now))
                size += message.leases[-1].ByteSize()
        message.revision = self._reconciler.feed.revision(self._position, self._wish)
        yield message.SerializeToString()

    def _lease(self, lease: Lease, now: float) -> pb.LeaseNews:
        position = _position_of(self._reconciler, lease)
        if lease.exporter or lease.ended is not None:
            self._positions.pop(lease.key, None)
        else:
            self._positions[lease.key] = _sentence(position)
        return lease_news(lease, position, now)


async def watch_lease(reconciler: Reconciler, client: Client, wish: pb.WatchRequest, call: Call) -> None:
    """Watch one lease, until cancelled or until the lease is deleted."""
    if wish.exporters or wish.leases:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "one lease is watched with nothing else")
    key = Key(client.namespace, wish.lease)
    lease = await reconciler.find(Lease, key)
    if lease is None:
        raise changes.not_found("lease", key.name)
    is_command = wish.waits and lease.client == client.name
    if is_command and wish.knows and lease.waited:
        reconciler.heard_of(lease)
    one = _One(reconciler, key, call)
    if not is_command:
        await one.run()
        return
    reconciler.waiters.watched(key, one)
    one.has_command = True
    try:
        await one.run()
    finally:
        reconciler.waiters.unwatched(key, one, reconciler.clock())


class _One:
    """What was sent about one lease to one reader."""

    def __init__(self, reconciler: Reconciler, key: Key, call: Call) -> None:
        self._reconciler = reconciler
        self._key = key
        self._call = call
        self._told: Lease | None = None
        self._position = ""
        self._placed = -math.inf
        self.has_command = False
        """Whether the reader is the command that waits for the lease or holds it."""

    async def run(self) -> None:
        while True:
            lease = self._reconciler.committed.get(Lease, self._key)
            if lease is None:
                raise changes.not_found("lease", self._key.name)
            pause = self._pause(lease)
            if pause <= 0:
                await self._tell(lease)
            else:
                await self._reconciler.wait(Lease, self._key, pause)

    def _pause(self, lease: Lease) -> float:
        """Seconds until the next message, unless the lease changes."""
        now = self._reconciler.clock()
        if lease is not self._told:
            asked = lease.offered if lease.offered is not None and lease.ended is None else -math.inf
            return min(asked + OFFER_SECONDS - now, OFFER_SECONDS)
        if lease.exporter or lease.ended is not None:
            return LOOK_SECONDS
        left = self._placed + PLACE_SECONDS - trio.current_time()
        if left > 0:
            return left
        return 0.0 if _sentence(_position_of(self._reconciler, lease)) != self._position else PLACE_SECONDS

    async def _tell(self, lease: Lease) -> None:
        position = _position_of(self._reconciler, lease)
        news = lease_news(lease, position, self._reconciler.clock())
        revision = self._reconciler.feed.revision(self._reconciler.feed.position, b"")
        await self._call.send(pb.LabNews(snapshot=self._told is None, revision=revision, leases=[news]))
        self._told, self._position, self._placed = lease, _sentence(position), trio.current_time()
        if self.has_command and lease.accepted:
            self._reconciler.waiters.told(self._key, self, self._reconciler.clock())


def _position_of(reconciler: Reconciler, lease: Lease) -> QueuePosition | None:
    waits = not lease.exporter and lease.ended is None
    return reconciler.queue_positions().get(lease.key) if waits else None


def _sentence(position: QueuePosition | None) -> str:
    return "" if position is None else position_sentence(position)
