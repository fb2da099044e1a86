"""Connects a client's Dial with the exporter's Listen, which may be calls to different controllers of a lab."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from jumpstarter_proto.lab.v1 import replicas_pb2 as pb
from jumpstarter_proto.lab.v1.replicas_grpc import ReplicaServiceStub
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Key
from jumpstarter_controller.replicas.peers import CONNECT_SECONDS, Peers
from jumpstarter_controller.services.dial_queues import DialQueues

__all__ = ["Push", "Rendezvous"]

Push = Callable[[jumpstarter_pb2.ListenResponse], Awaitable[None]]
"""Sends a connection to the exporter. RpcError: UNAVAILABLE, it no longer listens; RESOURCE_EXHAUSTED, queue full."""
GRACE_SECONDS = 3.0
"""Extra time for another controller to answer, in addition to the time in the request."""

_log = logging.getLogger(__name__)


class Rendezvous:
    """Finds the controller at which a lease's exporter listens: this one, or one of the `peers`."""

    def __init__(self, listening: DialQueues, peers: Peers | None = None) -> None:
        self.listening = listening
        self._peers = peers

    @property
    def _others(self) -> list[str]:
        return self._peers.names() if self._peers is not None else []

    @asynccontextmanager
    async def found(self, lease: Key, seconds: float) -> AsyncIterator[Push]:
        """Wait at most `seconds` until the lease's exporter listens at some controller.

        Returns the function that sends it a connection. If it does not listen, that function raises UNAVAILABLE.
        """
        others = [] if self.listening.has(lease) else self._others
        if not others:
            await self.listening.until(lease, seconds)
            yield self._push_here(lease)
            return
        search = _Search(len(others) + 1)
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._search_here, lease, seconds, search)
                for name in others:
                    nursery.start_soon(self._search_there, name, lease, seconds, search)
                await search.over.wait()
                yield search.push or self._push_here(lease)
                nursery.cancel_scope.cancel()

    async def is_listening(self, lease: Key, seconds: float) -> bool:
        """Wait at most `seconds` until the lease's exporter listens at some controller; whether it does."""
        async with self.found(lease, seconds) as push:
            return self.listening.has(lease) or isinstance(push, _PushThere)

    def _push_here(self, lease: Key) -> Push:
        async def push(connection: jumpstarter_pb2.ListenResponse) -> None:
            self.listening.push(lease, connection)

        return push

    async def _search_here(self, lease: Key, seconds: float, search: _Search) -> None:
        await self.listening.until(lease, seconds)
        search.end(self._push_here(lease) if self.listening.has(lease) else None)

    async def _search_there(self, name: str, lease: Key, seconds: float, search: _Search) -> None:
        assert self._peers is not None
        push: Push | None = None
        try:
            async with self._peers.reach(name) as peer:
                request = pb.FindListenerRequest(namespace=lease.namespace, lease=lease.name, seconds=seconds)
                if (await peer.FindListener(request, timeout=seconds + GRACE_SECONDS)).listens:
                    push = _PushThere(peer, lease)
                search.end(push)
                if push is not None:
                    await trio.sleep_forever()  # keep the connection open until it is used
        except RpcError as error:
            _log.info("controller %s did not answer whether an exporter listens there: %s", name, error)
            if push is None:
                search.end(None)

    async def take(self, lease: Key, process: str) -> None:
        """The exporter listens here now: end its calls at the other controllers, and take over their queues.

        It is shielded from cancellation, because a queue that was handed over exists nowhere else. The present or the
        next Listen gets it.
        """
        async with trio.open_nursery() as nursery:
            for name in self._others:
                nursery.start_soon(self._take, name, lease, process)

    async def _take(self, name: str, lease: Key, process: str) -> None:
        assert self._peers is not None
        request = pb.TakeListenerRequest(namespace=lease.namespace, lease=lease.name, process=process)
        with trio.move_on_after(CONNECT_SECONDS + 2 * GRACE_SECONDS, shield=True):
            try:
                async with self._peers.reach(name) as peer:
                    answer = await peer.TakeListener(request, timeout=GRACE_SECONDS)
                    for one in reversed(answer.waiting):
                        self.listening.put_back(lease, _connection(one))
            except RpcError as error:
                _log.info("controller %s may still have an exporter's Listen call: %s", name, error)


class _Search:
    """Collects the results of several searches: the first success wins; it is over then, or when all have failed."""

    def __init__(self, tasks: int) -> None:
        self.over = trio.Event()
        self.push: Push | None = None
        self._tasks = tasks

    def end(self, push: Push | None) -> None:
        """One of the tasks has an answer."""
        self._tasks -= 1
        self.push = self.push or push
        if self.push is not None or not self._tasks:
            self.over.set()


class _PushThere:
    def __init__(self, peer: ReplicaServiceStub, lease: Key) -> None:
        self._peer = peer
        self._lease = lease

    async def __call__(self, connection: jumpstarter_pb2.ListenResponse) -> None:
        await self._peer.HandOver(
            pb.HandOverRequest(
                namespace=self._lease.namespace,
                lease=self._lease.name,
                connection=router_connection(connection),
            ),
            timeout=GRACE_SECONDS,
        )


def router_connection(connection: jumpstarter_pb2.ListenResponse) -> pb.RouterConnection:
    """As controllers say it to each other."""
    return pb.RouterConnection(
        router_endpoint=connection.router_endpoint, router_token=connection.router_token
    )


def _connection(said: pb.RouterConnection) -> jumpstarter_pb2.ListenResponse:
    return jumpstarter_pb2.ListenResponse(
        router_endpoint=said.router_endpoint, router_token=said.router_token
    )
