"""Connections between the controllers of a lab: mutual TLS with one shared certificate.

A peer with another certificate is rejected in the handshake.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

import trio
from jumpstarter_proto.lab.v1.replicas_grpc import ReplicaServiceStub
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.remote import EndpointError, split_endpoint
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_tcp, open_channel, server_ssl_context

from jumpstarter_controller.process.certificates import Certificate
from jumpstarter_controller.replicas.members import Members

__all__ = ["CONNECT_SECONDS", "Peers", "peer_server_context"]

CONNECT_SECONDS = 3.0
"""A controller that does not answer within this time is dead, whatever its record says."""
RETRY_SECONDS = 2.0
"""Between two attempts to reach a controller that did not answer."""

_log = logging.getLogger(__name__)


def peer_server_context(certificate: Certificate) -> ssl.SSLContext:
    """A TLS context for a server that accepts other replicas only."""
    context = server_ssl_context(certificate.chain, certificate.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate.chain)
    return context


def _client_context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who has the key is a replica, at whatever address
    context.load_verify_locations(chain)
    context.load_cert_chain(chain, key, password=lambda: "")
    context.set_alpn_protocols(["h2"])
    return context


class Peers:
    """Clients for the other replicas."""

    def __init__(self, members: Members, certificate: Certificate) -> None:
        self.members = members
        self._context = _client_context(certificate.chain, certificate.key)
        self._silent: dict[str, str] = {}
        """Replicas that did not answer the last call, with their address at that time."""
        self._news = AutoResetEvent()

    def names(self) -> list[str]:
        """Names of the replicas that may be alive."""
        return list(self.members.known)

    def answers(self, name: str) -> bool:
        """Whether it answered the last call at its present address, or was never called."""
        return name not in self._silent or self._silent[name] != self.members.known.get(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Reconnect to silent replicas until cancelled, so that no call has to wait for a time-out."""
        task_status.started()
        while True:
            self._silent = {name: one for name, one in self._silent.items() if not self.answers(name)}
            if not self._silent:
                await self._news.wait()
            await trio.sleep(RETRY_SECONDS)
            for name in list(self._silent):
                with suppress(RpcError):
                    async with self.reach(name):
                        _log.info("controller %s answers again", name)

    @asynccontextmanager
    async def reach(self, name: str) -> AsyncIterator[ReplicaServiceStub]:
        """A stub for one of them. RpcError: UNAVAILABLE, it is unknown or cannot be reached."""
        address = self.members.known.get(name)
        if address is None:
            raise RpcError(StatusCode.UNAVAILABLE, f"controller {name} is unknown")
        try:
            host, port = split_endpoint(address)
        except EndpointError as error:
            raise RpcError(
                StatusCode.UNAVAILABLE, f"controller {name} has an invalid address: {error}"
            ) from None
        try:
            stream = await connect_tcp(host, port, ssl_context=self._context, timeout=CONNECT_SECONDS)
        except RpcError:
            self._silent[name] = address
            self._news.set()
            raise
        self._silent.pop(name, None)
        async with open_channel(stream, authority=address, scheme="https") as channel:
            yield ReplicaServiceStub(channel)
