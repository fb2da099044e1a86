"""This controller among those of its lab: it leads or not, knows the others, and is known to them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

import trio
from jumpstarter_proto.lab.v1 import replicas_pb2 as pb
from jumpstarter_proto.rpc import RpcError

from jumpstarter_controller.process.certificates import Certificate
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.replicas.leadership import Leadership, Lock
from jumpstarter_controller.replicas.members import Members
from jumpstarter_controller.replicas.peers import Peers
from jumpstarter_controller.replicas.registry import Registry, ReplicaRecords
from jumpstarter_controller.scheduling.clock import uptime

__all__ = ["Replica", "own_address"]

RELAY_SECONDS = 3.0
"""Who leads is told so often of commands that wait elsewhere."""
ANSWER_SECONDS = 2.0

_log = logging.getLogger(__name__)


class _Shared(Protocol):
    @property
    def lock(self) -> Lock: ...
    @property
    def replicas(self) -> ReplicaRecords: ...


class Replica:
    """Leads or waits to as soon as `lead` runs, and is one of its lab's when it has joined."""

    def __init__(self, shared: _Shared, identity: str) -> None:
        self.identity = identity
        self.leadership = Leadership(shared.lock, identity)
        self.members = Members(identity, uptime)
        self.listeners: Sequence[trio.abc.Listener[Any]] = ()
        """For other replicas."""
        self._records = shared.replicas
        self._registry: Registry | None = None
        self._peers: Peers | None = None

    @property
    def peers(self) -> Peers:
        """The others; when it has joined."""
        assert self._peers is not None
        return self._peers

    def prepare(
        self, address: str, listeners: Sequence[trio.abc.Listener[Any]], certificate: Certificate
    ) -> Registry:
        """Others reach it at `address`, where it listens."""
        self.listeners = listeners
        self._peers = Peers(self.members, certificate)
        self._registry = Registry(self._records, self.members, address)
        return self._registry

    def drive(self, reconciler: Reconciler) -> None:
        """The engine learns who leads, and who else lives."""
        assert self._registry is not None
        self.leadership.on_change = reconciler.schedule_turn
        self._registry.on_change = lambda: reconciler.others_live(self.members.living)
        reconciler.others_live(self.members.living)

    async def relay(
        self, reconciler: Reconciler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Until cancelled, tell who leads of commands that wait for leases and are heard of here."""
        task_status.started()
        while True:
            await trio.sleep(RELAY_SECONDS)
            holder = self.leadership.holder
            if holder not in self.members.living or not (waiters := reconciler.waiters_to_tell()):
                continue
            request = pb.NoteWaitersRequest(
                waiters=[
                    pb.Waiter(namespace=key.namespace, lease=key.name, knows=knows)
                    for key, knows in waiters.items()
                ]
            )
            try:
                async with self.peers.reach(holder) as peer:
                    await peer.NoteWaiters(request, timeout=ANSWER_SECONDS)
            except RpcError as error:
                _log.debug("controller %s does not hear who waits: %s", holder, error)

    async def leave(self) -> None:
        """Others need not wait for this one any more. Call it when nothing of it runs."""
        await self.leadership.resign()
        if self._registry is not None:
            await self._registry.leave()


def own_address(url: str) -> str:
    """The address of this host from which it reaches the one in `url`; blocking, as it may ask for a name."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
