"""An exporter whose boards are leased by a controller: one session for each lease.

A lease, its session and its devices outlive a controller or router that restarts and a network that is cut: the
status stream, the listening and the clients' tunnels come back by themselves. They do not outlive this process, but
the lease does: it stays its client's, and the next process of the same exporter takes it up.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError, JumpstarterUsageError
from jumpstarter_proto.remote import Identity, Kind, Trust, options_of
from jumpstarter_proto.run_folders import sweep
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.boards.claim import claimed
from jumpstarter_exporter.config import Enrolment, ExporterConfig, load, with_identity
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.cores import keeping_open, living
from jumpstarter_exporter.devices.from_file import add_board
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.ending import end_in_time, hurry
from jumpstarter_exporter.hooks.life import HOOK_FAILED, HookSeconds
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.rapid_failures import RapidFailures
from jumpstarter_exporter.registration.announcer import Announcer
from jumpstarter_exporter.registration.controller import Calls, Controller
from jumpstarter_exporter.registration.serving import LeaseServer
from jumpstarter_exporter.registration.tenancy import Tenancy, Tenant
from jumpstarter_exporter.report import board_reports
from jumpstarter_exporter.status import Report, Status

__all__ = ["Registered", "registered_exporter", "run_registered"]

LEAVE_SECONDS = 5.0
"""For the controller to hear that we leave."""
END_SECONDS = 10.0
"""From a signal to the end of the process, whatever a driver's blocking code does (wire.md 3.4)."""

_log = logging.getLogger(__name__)


async def run_registered(config: ExporterConfig) -> ExitCode:
    """Serve leases until a signal, or until `exitOnLeaseEnd`, `failureDetection` or a hook with `onFailure: exit`.

    A lease that runs is not given back.

    SIGTERM and SIGINT end it within `END_SECONDS`, a second one at once; SIGHUP ends it after the current lease.

    Raises:
        ConfigError: the configuration's devices make no sense.
        OptionError: its `grpcOptions` make none.
    """
    await trio.to_thread.run_sync(sweep)
    await trio.to_thread.run_sync(claim.sweep)
    return await registered_exporter(config).run()


def registered_exporter(config: ExporterConfig, inventory: Inventory | None = None) -> Registered:
    """An exporter as its file says; see `run_registered` for what it raises."""
    enrolment = config.enrolment
    if enrolment is None:
        raise JumpstarterUsageError("only an exporter with an identity can be registered")
    identity, trust = _identity(enrolment)

    def reread() -> tuple[Identity, Trust]:
        return _identity(with_identity(load(config.file, lenient=True)).enrolment or enrolment)

    options = options_of(config.settings.grpc_options)
    controller = Controller(enrolment.endpoint, trust, identity, options, reread=reread)
    return Registered(config, controller, inventory)


def _identity(enrolment: Enrolment) -> tuple[Identity, Trust]:
    return (
        Identity(Kind.EXPORTER, enrolment.namespace, enrolment.name, enrolment.token),
        Trust(ca=enrolment.tls.ca, insecure=enrolment.tls.insecure),
    )


class Registered:
    """Serves leases; `serve` is all of it, `run` hears the process's signals besides."""

    def __init__(
        self, config: ExporterConfig, controller: Controller, inventory: Inventory | None = None
    ) -> None:
        self._config = config
        self._controller = controller
        self._tenancy = Tenancy()
        self._hook_seconds = HookSeconds()
        self._log = BoardLog()
        self._changed = trio.Event()
        self._inventory = inventory or Inventory()
        # What is wrong with it is said before anything is promised.
        self._devices = add_board(self._inventory, config)
        self._announcer = Announcer(
            controller,
            config.settings.metadata.labels,
            self._reports,
            (Status.AVAILABLE, "Exporter registered and available"),
        )
        self._after_lease = False
        """End when nobody uses the board."""
        detection = config.settings.failure_detection
        self._failures = (
            RapidFailures(detection.max_rapid_failures, detection.rapid_failure_window) if detection else None
        )
        self._given_up = ""
        self._ending = trio.Event()
        self._code = ExitCode.OK
        self.reason = ""
        """Why it has ended, if it was by itself."""

    async def run(self) -> ExitCode:
        """Until a signal ends it."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear_signals, signals)
                nursery.start_soon(self._end_in_time)
                await self.serve()
                nursery.cancel_scope.cancel()
        return self._code

    async def _end_in_time(self) -> None:
        await self._ending.wait()
        end_in_time(END_SECONDS)

    async def serve(self) -> ExitCode:
        """Until `end`, or a hook that ends it."""
        with self._log.bound():
            async with (
                claimed(
                    self._config.file,
                    endpoint=self._controller.endpoint,
                    exporter=self._config.exporter_name or "",
                ),
                living(self._devices),
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(keeping_open, self._devices)
                nursery.start_soon(self._controller.follow, self._introduce, self._told, self._failed)
                nursery.start_soon(self._announcer.run)
                nursery.start_soon(self._announce_devices)
                served = trio.Event()
                nursery.start_soon(self._serve_leases, served)
                print_line(f"Serving leases of {self._controller.endpoint}", flush=True)
                await self._ending.wait()
                async with trio.open_nursery() as leaving:
                    # First, so that nobody is sent here any more.
                    leaving.start_soon(self._leave)
                    await served.wait()
                nursery.cancel_scope.cancel()
        return self._code

    async def _hear_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                _log.info("%s: ending", signal.Signals(number).name)
                self.end(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK)
                break
            _log.info("SIGHUP: ending after the lease")
            self._after_lease = True
            self._end_if_done()
        await hurry(signals)

    def end(self, code: ExitCode, reason: str = "") -> None:
        """Leave the controller; a lease that runs stays its client's."""
        if not self._ending.is_set():
            self._code = code
            self.reason = reason
            self._ending.set()

    async def _leave(self) -> None:
        with trio.move_on_after(LEAVE_SECONDS) as limit:
            try:
                await self._announcer.leave("Exporter shutting down")
            except JumpstarterError as error:
                _log.warning("the controller does not know that we leave: %s", error)
        if limit.cancelled_caught:
            _log.warning("the controller does not know that we leave: it does not answer")

    async def _announce_devices(self) -> None:
        with subscribed(self._inventory) as changes:
            await anext(changes)  # what there is already is told with the registration
            async for _ in changes:
                self._announcer.devices_changed()

    def _reports(self) -> list[DriverInstanceReport]:
        return board_reports(self._devices)

    async def _introduce(self, calls: Calls) -> None:
        await self._announcer.introduce(calls)
        if self._failures is not None:
            self._failures.began(trio.current_time())

    def _failed(self, error: Exception) -> None:
        if self._failures is None:
            return
        self._failures.failed(trio.current_time())
        if self._failures.is_exceeded:
            self._given_up = (
                f"failureDetection: {self._failures.count} times in a row the exporter was not served by "
                f"{self._controller.endpoint} for {self._failures.window:g} s; the last reason was: {error}"
            )
            when = "now" if self._tenancy.served is None else "after the lease, unless that gets better"
            _log.error(
                "the exporter ends %s, for what started it to start it again: %s", when, self._given_up
            )
            self._end_if_done()

    def _end_if_done(self) -> None:
        """End if there is a reason for it and no lease."""
        if self._tenancy.served is not None:
            return
        if self._failures is not None and self._failures.is_exceeded:
            self.end(ExitCode.FAILED, self._given_up)
        elif self._after_lease:
            self.end(ExitCode.OK, "its lease is over, after which it was to end")

    def _told(self, wanted: Tenant | None) -> None:
        self._tenancy.told(wanted)
        self._changed.set()
        self._changed = trio.Event()

    async def _serve_leases(self, served: trio.Event) -> None:
        while not self._ending.is_set():
            tenant = self._tenancy.begin()
            if tenant is None:
                await self._until_changed()
                continue
            await self._serve(tenant)
            self._tenancy.done()
            self._after_lease |= self._config.settings.exit_on_lease_end
            self._end_if_done()
            self._announcer.become(Status.AVAILABLE, "Available for new lease")
        served.set()

    async def _until_changed(self) -> None:
        async with trio.open_nursery() as nursery:

            async def first(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(first, self._changed)
            nursery.start_soon(first, self._ending)

    async def _serve(self, tenant: Tenant) -> None:
        server = LeaseServer(
            self._config, self._devices, self._controller, tenant, self._hook_seconds, board=self._log
        )
        server.session.status.on_change = self._session_became
        async with trio.open_nursery() as nursery:

            async def ended() -> None:
                while not self._tenancy.is_over:
                    server.belongs_to(self._tenancy.client)
                    await self._changed.wait()
                server.ended.set()

            async def stopping() -> None:
                await self._ending.wait()
                server.stopping.set()

            nursery.start_soon(ended)
            nursery.start_soon(stopping)
            await server.run()
            nursery.cancel_scope.cancel()
        if server.exiting:
            self.end(ExitCode.FAILED, HOOK_FAILED)

    def _session_became(self, report: Report) -> None:
        # Available is for the next lease, and said when the board is.
        if report.status is not Status.AVAILABLE:
            self._announcer.become(report.status, report.message)
