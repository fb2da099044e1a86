"""This controller as one of several in its lab: leadership, and contact with the others."""

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
"""The interval in which the leader is told about commands that wait at this controller."""
ANSWER_SECONDS = 2.0

_log = logging.getLogger(__name__)


class _Shared(Protocol):
    @property
    def lock(self) -> Lock: ...
    @property
    def replicas(self) -> ReplicaRecords: ...


class Replica:
    """One controller of a lab with several."""

    def __init__(self, shared: _Shared, identity: str) -> None:
        self.identity = identity
        self.leadership = Leadership(shared.lock, identity)
        self.members = Members(identity, uptime)
        self.listeners: Sequence[trio.abc.Listener[Any]] = ()
        """Where other replicas connect."""
        self._records = shared.replicas
        self._registry: Registry | None = None
        self._peers: Peers | None = None

    @property
    def peers(self) -> Peers:
        """The other replicas. Only after `prepare`."""
        assert self._peers is not None
        return self._peers

    def prepare(
        self, address: str, listeners: Sequence[trio.abc.Listener[Any]], certificate: Certificate
    ) -> Registry:
        """Set the address for other replicas, and the listeners there."""
        self.listeners = listeners
        self._peers = Peers(self.members, certificate)
        self._registry = Registry(self._records, self.members, address)
        return self._registry

    def drive(self, reconciler: Reconciler) -> None:
        """Notify the reconciler of changes of the leader and of living replicas."""
        assert self._registry is not None
        self.leadership.on_change = reconciler.schedule_turn
        self._registry.on_change = lambda: reconciler.others_live(self.members.living)
        reconciler.others_live(self.members.living)

    async def relay(
        self, reconciler: Reconciler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Tell the leader about commands that wait for leases at this controller, until cancelled."""
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
                _log.debug("controller %s cannot be notified of waiting leases: %s", holder, error)

    async def leave(self) -> None:
        """Resign, and delete this replica's record. Call it when none of its tasks is running."""
        await self.leadership.resign()
        if self._registry is not None:
            await self._registry.leave()


def own_address(url: str) -> str:
    """The address of this host on the route to the host in `url`. Blocking: it may query DNS."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
