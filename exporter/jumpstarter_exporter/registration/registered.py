"""An exporter whose boards are leased by a controller: one session for each lease.

A lease, its session and its devices outlive a controller or router that restarts and a network that is cut: the
status stream, the listening and the clients' tunnels come back by themselves.
"""

from __future__ import annotations

import logging
import signal
import tempfile
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import unix_listener
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport, ListenResponse

from jumpstarter_exporter.config import ExporterConfig, build
from jumpstarter_exporter.hooks.life import SessionLife
from jumpstarter_exporter.registration.controller import Controller
from jumpstarter_exporter.registration.tenancy import Tenancy, Tenant
from jumpstarter_exporter.report import instance_reports
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.status import Report, Status
from jumpstarter_exporter.tree import Tree

__all__ = ["run_registered"]

LAST_LOOK_SECONDS = 1.0
"""After its last status a session stays, so that its users see how it ended."""
REASON_SECONDS = 10.0
"""A lease whose board its hook refused is kept so long, for its user to see why."""
GRACE_SECONDS = 0.5
LEAVE_SECONDS = 10.0
TUNNELS = 64
"""Connections to one lease at a time."""

_log = logging.getLogger(__name__)


async def run_registered(config: ExporterConfig) -> ExitCode:
    """Serve leases until SIGTERM, SIGINT or a hook with `onFailure: exit`. A lease that runs is not given back.

    Raises:
        ConfigError: the configuration's devices make no sense.
    """
    settings = config.settings
    identity = Identity(
        Kind.EXPORTER, settings.metadata.namespace or "", settings.metadata.name or "", settings.token or ""
    )
    trust = Trust(ca=settings.tls.ca, insecure=settings.tls.insecure)
    controller = Controller(settings.endpoint or "", trust, identity)
    return await _Registered(config, controller).run()


class _Registered:
    def __init__(self, config: ExporterConfig, controller: Controller) -> None:
        self._config = config
        self._controller = controller
        self._tenancy = Tenancy()
        self._changed = trio.Event()
        self._status = (Status.AVAILABLE, "Exporter registered and available")
        self._reporting = trio.Event()
        self._exiting = trio.Event()
        build(config)  # what is wrong with it is said before anything is promised

    async def run(self) -> ExitCode:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._controller.follow, self._reports, lambda: self._status, self._told)
                nursery.start_soon(self._report_changes)
                nursery.start_soon(self._serve_leases)
                nursery.start_soon(self._end_on_exit, nursery.cancel_scope)
                print(f"Serving leases of {self._config.settings.endpoint}", flush=True)  # noqa: T201
                number = await anext(signals)
                _log.info("%s: ending", signal.Signals(number).name)
                nursery.cancel_scope.cancel()
        with trio.move_on_after(LEAVE_SECONDS):
            try:
                await self._controller.leave()
            except JumpstarterError as error:
                _log.warning("the controller does not know that we leave: %s", error)
        if self._exiting.is_set():
            return ExitCode.FAILED
        return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK

    async def _end_on_exit(self, scope: trio.CancelScope) -> None:
        await self._exiting.wait()
        signal.raise_signal(signal.SIGTERM)

    def _reports(self) -> list[DriverInstanceReport]:
        return instance_reports(Tree(build(self._config)))

    def _told(self, wanted: Tenant | None) -> None:
        self._tenancy.told(wanted)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _become(self, status: Status, message: str) -> None:
        self._status = (status, message)
        self._reporting.set()

    async def _report_changes(self) -> None:
        """The latest wins: what came meanwhile is history."""
        while True:
            await self._reporting.wait()
            self._reporting = trio.Event()
            await self._controller.report(*self._status)

    async def _serve_leases(self) -> None:
        while True:
            tenant = self._tenancy.begin()
            if tenant is None:
                await self._changed.wait()
                continue
            try:
                await self._serve(tenant)
            finally:
                self._tenancy.done()
            self._become(Status.AVAILABLE, "Available for new lease")

    async def _serve(self, tenant: Tenant) -> None:
        """One lease, from its first hook to its last."""
        settings = self._config.settings
        _log.info("lease %s of %s begins", tenant.lease, tenant.client)
        session = Session(
            build(self._config),
            name=settings.metadata.name,
            lease=tenant.lease,
            motd=settings.motd,
            begins_ready=False,
        )
        with tempfile.TemporaryDirectory(prefix="jumpstarter-lease-") as folder:
            socket = Path(folder) / "socket"
            session.status.on_change = self._session_became
            async with session, trio.open_nursery() as nursery:
                await nursery.start(session.server.serve, [unix_listener(socket)])
                nursery.start_soon(session.tree.keep_open)
                life = SessionLife(
                    session,
                    settings.hooks,
                    nursery,
                    host=str(socket),
                    lease=tenant.lease,
                    client=tenant.client,
                )
                limit = trio.CapacityLimiter(TUNNELS)

                def arrived(connection: ListenResponse) -> None:
                    nursery.start_soon(self._tunnel, session, connection, limit)

                nursery.start_soon(self._controller.listen, tenant.lease, arrived)
                life.begin()
                ours = await self._until_over(session, life)
                await life.end()
                if life.exiting.is_set():
                    self._exiting.set()
                elif ours:
                    await self._release(tenant)
                await trio.sleep(LAST_LOOK_SECONDS)
                await session.server.shutdown(GRACE_SECONDS)
                nursery.cancel_scope.cancel()
        _log.info("lease %s is over", tenant.lease)

    def _session_became(self, report: Report) -> None:
        # Available is for the next lease, and said when the board is.
        if report.status is not Status.AVAILABLE:
            self._become(report.status, report.message)

    async def _until_over(self, session: Session, life: SessionLife) -> bool:
        """Wait for the lease's end. Whether it is we who have to tell the controller."""
        async with trio.open_nursery() as nursery:

            async def first(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            async def by_controller() -> None:
                while not self._tenancy.is_over:
                    await self._changed.wait()
                nursery.cancel_scope.cancel()

            async def refused() -> None:
                await life.releasing.wait()
                # Whoever leased it asks for the reason first, and then mostly gives it back themselves.
                await trio.sleep(REASON_SECONDS)
                nursery.cancel_scope.cancel()

            for event in (session.end_requested, life.exiting):
                nursery.start_soon(first, event)
            nursery.start_soon(refused)
            nursery.start_soon(by_controller)
        return not self._tenancy.is_over

    async def _release(self, tenant: Tenant) -> None:
        """Give it back; when the controller has ended it meanwhile, that is as good."""
        async with trio.open_nursery() as nursery:

            async def ended() -> None:
                while not self._tenancy.is_over:
                    await self._changed.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(ended)
            await self._controller.release(tenant.lease)
            nursery.cancel_scope.cancel()

    async def _tunnel(
        self, session: Session, connection: ListenResponse, limit: trio.CapacityLimiter
    ) -> None:
        async with limit:
            try:
                async with self._controller.tunnel(connection) as stream:
                    await session.serve_connection(stream)
            except JumpstarterError as error:
                _log.info("a client's connection could not be taken: %s; it will dial again", error)
