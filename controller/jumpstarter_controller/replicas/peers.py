"""Connections between the controllers of a lab: TLS with one certificate, whose key only they have, on both ends.

Who shows another certificate is refused before a call is read, and is told nothing.
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
from jumpstarter_proto.remote import EndpointError, split_endpoint
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_tcp, open_channel, server_ssl_context

from jumpstarter_controller.process.certificates import Certificate
from jumpstarter_controller.replicas.members import Members

__all__ = ["CONNECT_SECONDS", "Peers", "peer_server_context"]

CONNECT_SECONDS = 3.0
"""One that does not answer by then is dead, whatever its record says."""
RETRY_SECONDS = 2.0
"""Between two calls of one that was silent."""

_log = logging.getLogger(__name__)


def peer_server_context(certificate: Certificate) -> ssl.SSLContext:
    """For connections of other replicas, and of nobody else."""
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
    """The other replicas, to be called."""

    def __init__(self, members: Members, certificate: Certificate) -> None:
        self.members = members
        self._context = _client_context(certificate.chain, certificate.key)
        self._silent: dict[str, str] = {}
        """Names of those that did not answer the last time, and where."""
        self._news = trio.Event()

    def names(self) -> list[str]:
        """Of those that may live."""
        return list(self.members.known)

    def answers(self, name: str) -> bool:
        """Whether it did, when it was last called where it is now; also if it never was."""
        return name not in self._silent or self._silent[name] != self.members.known.get(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Until cancelled, see who of the silent answers again, so that no call has to find out."""
        task_status.started()
        while True:
            self._silent = {name: one for name, one in self._silent.items() if not self.answers(name)}
            if not self._silent:
                self._news = trio.Event()
                await self._news.wait()
            await trio.sleep(RETRY_SECONDS)
            for name in list(self._silent):
                with suppress(RpcError):
                    async with self.reach(name):
                        _log.info("controller %s answers again", name)

    @asynccontextmanager
    async def reach(self, name: str) -> AsyncIterator[ReplicaServiceStub]:
        """A connection to one of them. RpcError: UNAVAILABLE, it cannot be reached, or is none."""
        address = self.members.known.get(name)
        if address is None:
            raise RpcError(StatusCode.UNAVAILABLE, f"controller {name} is not there")
        try:
            host, port = split_endpoint(address)
        except EndpointError as error:
            raise RpcError(
                StatusCode.UNAVAILABLE, f"controller {name} says wrongly where it is: {error}"
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
