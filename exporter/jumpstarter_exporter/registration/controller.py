"""What an exporter asks of its controller. Whatever fails is tried again as long as the process lives."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Backoff, Identity, Trust, open_controller, open_router_stream
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import (
    DriverInstanceReport,
    ListenRequest,
    ListenResponse,
    RegisterRequest,
    ReleaseLeaseRequest,
    ReportStatusRequest,
    StatusRequest,
    UnregisterRequest,
)

from jumpstarter_exporter.registration.tenancy import Tenant
from jumpstarter_exporter.status import Status

__all__ = ["Controller"]

CALL_SECONDS = 30.0
GONE_FOR_GOOD = frozenset((StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION))
"""Of a lease that is not ours any more: there is nothing left to release."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Controller:
    """Connections to one controller as one exporter."""

    def __init__(self, endpoint: str, trust: Trust, identity: Identity) -> None:
        self._endpoint = endpoint
        self._trust = trust
        self._identity = identity

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[ControllerServiceStub]:
        async with open_controller(self._endpoint, self._trust, self._identity) as channel:
            yield ControllerServiceStub(channel)

    async def follow(
        self,
        reports: Callable[[], list[DriverInstanceReport]],
        status: Callable[[], tuple[Status, str]],
        told: Callable[[Tenant | None], None],
    ) -> None:
        """Register, say how we are, and hear whose we are; again and again, until cancelled."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                async with self._open() as stub:
                    request = RegisterRequest(labels={}, reports=reports())
                    await stub.Register(request, timeout=CALL_SECONDS)
                    await _report(stub, *status())
                    _log.info("registered with %s", self._endpoint)
                    async with stub.Status(StatusRequest()) as call:
                        async for message in call:
                            backoff.reset()
                            leased = message.leased and message.lease_name
                            told(Tenant(message.lease_name, message.client_name) if leased else None)
                    reason = "it ended the status stream"
            except JumpstarterError as error:
                reason = str(error)
            delay = backoff.next()
            _log.warning("no controller at %s: %s; trying again in %.0f s", self._endpoint, reason, delay)
            await trio.sleep(delay)

    async def listen(self, lease: str, arrived: Callable[[ListenResponse], None]) -> None:
        """Hear of connections to a lease, until cancelled."""
        backoff = Backoff(0.3, 10.0)
        while True:
            try:
                async with self._open() as stub, stub.Listen(ListenRequest(lease_name=lease)) as call:
                    async for connection in call:
                        backoff.reset()
                        arrived(connection)
            except JumpstarterError as error:
                _log.info("not listening for lease %s: %s", lease, error)
            await trio.sleep(backoff.next())

    @asynccontextmanager
    async def tunnel(self, connection: ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        """The byte stream to a client. RpcError if its router cannot be reached."""
        async with open_router_stream(
            connection.router_endpoint, self._trust, connection.router_token
        ) as stream:
            yield stream

    async def report(self, status: Status, message: str) -> None:
        """Tell our status, until it has been taken or we are cancelled."""
        await self._insist("report the status", lambda stub: _report(stub, status, message))

    async def release(self, lease: str) -> None:
        """Give a lease back, until it has been taken or we are cancelled."""

        async def call(stub: ControllerServiceStub) -> None:
            try:
                await stub.ReleaseLease(ReleaseLeaseRequest(name=lease), timeout=CALL_SECONDS)
            except RpcError as error:
                if error.code not in GONE_FOR_GOOD:
                    raise
                _log.info("lease %s: %s", lease, error)

        await self._insist("release the lease", call)

    async def leave(self) -> None:
        """Say goodbye, once. RpcError if nobody hears it."""
        async with self._open() as stub:
            await _report(stub, Status.OFFLINE, "Exporter shutting down")
            await stub.Unregister(UnregisterRequest(reason="Exporter shutdown"), timeout=CALL_SECONDS)

    async def _insist(self, what: str, ask: Callable[[ControllerServiceStub], Awaitable[None]]) -> None:
        backoff = Backoff(0.3, 10.0)
        while True:
            try:
                async with self._open() as stub:
                    await ask(stub)
                    return
            except JumpstarterError as error:
                _log.info("could not %s: %s", what, error)
            await trio.sleep(backoff.next())


async def _report(stub: ControllerServiceStub, status: Status, message: str) -> None:
    request = ReportStatusRequest(status=f"EXPORTER_STATUS_{status.name}", message=message)
    try:
        await stub.ReportStatus(request, timeout=CALL_SECONDS)
    except RpcError as error:
        if error.code is not StatusCode.UNIMPLEMENTED:  # a controller before 0.8
            raise
