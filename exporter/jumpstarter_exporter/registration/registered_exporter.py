"""An exporter whose board is leased through a controller. Each lease has a session of its own.

A lease, its session and its devices survive a restart of the controller or router and a broken network: the status
stream, the Listen stream and the clients' tunnels are opened again. Session and devices end with this process, but the
lease does not: the next process of the same exporter resumes it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError, JumpstarterUsageError
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.remote import Identity, Trust, options_of
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport, GetReportResponse

from jumpstarter_exporter import status
from jumpstarter_exporter.boards.claim import exclusive_claim
from jumpstarter_exporter.boards.events import (
    ApplyChange,
    BeginLease,
    CleanUpLease,
    CloseWaitingSession,
    CutConnection,
    DeclineLease,
    DelayLease,
    EndLease,
    NotifyLocalUsers,
    OccupancyAction,
    ReturnLease,
    ServedLease,
    ServingPhase,
    WithheldReason,
)
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.boards.occupancy_runner import OccupancyRunner, RecordStore
from jumpstarter_exporter.boards.record_file import RecordFile
from jumpstarter_exporter.config import ExporterConfig, load, with_identity
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.config.model import Enrolment
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.hardware import missing_hardware
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.hooks.session_hooks import HOOK_FAILED, HookSeconds
from jumpstarter_exporter.host_health.watch import HealthWatch
from jumpstarter_exporter.paths import state_directory
from jumpstarter_exporter.registration.call_reports import CallReporter
from jumpstarter_exporter.registration.controller import ControllerConnection, RegistrationCalls
from jumpstarter_exporter.registration.health import HealthReporter
from jumpstarter_exporter.registration.host import BoardRegistration, identity_of, registration_of
from jumpstarter_exporter.registration.host_users import HostUsers
from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment
from jumpstarter_exporter.registration.lease_server import LeaseServer, LeaseStart
from jumpstarter_exporter.registration.rapid_failures import RapidFailures
from jumpstarter_exporter.registration.renewal import OwnRenewal
from jumpstarter_exporter.registration.status_reporter import StatusReporter
from jumpstarter_exporter.session.logs import BoardLog
from jumpstarter_exporter.session.report import NAME, add_hooks, board_reports
from jumpstarter_exporter.session.services import report_of
from jumpstarter_exporter.session.session import Session
from jumpstarter_exporter.status import StatusReport

__all__ = ["RegisteredExporter", "create_registered_exporter"]

PROBE_SECONDS = 30.0
"""Interval of the checks for missing hardware that keeps the board from being leased."""
LEASE_OVER = "its lease has ended (exitOnLeaseEnd)"
LEAVE_SECONDS = 5.0
"""Limit for telling the controller that the exporter ends."""

_log = logging.getLogger(__name__)


def create_registered_exporter(
    config: ExporterConfig,
    inventory: Inventory | None = None,
    socket: Path | None = None,
    *,
    before: RegisteredExporter | None = None,
    health: HealthWatch | None = None,
) -> RegisteredExporter:
    """The exporter that a configuration describes; users of the host reach it through `socket`.

    The controller gets reports of the host's `health`. `before` is the same exporter, which has ended with its
    registration kept; the new one continues its sequence of reports.

    Raises:
        ConfigError: the configuration's devices are invalid.
        GrpcOptionError: its `grpcOptions` are invalid.
    """
    enrolment = config.enrolment
    if enrolment is None:
        raise JumpstarterUsageError("an exporter without an identity cannot be registered")
    identity, trust = identity_of(enrolment)
    options = options_of(config.settings.grpc_options)
    records = RecordFile(state_directory(os.environ), config.board_name, config.file)
    if enrolment.host is not None:
        registration = registration_of(config)
        controller = ControllerConnection(
            enrolment.endpoint,
            trust,
            identity,
            options,
            register=registration.register,
            renewal=registration,
        )
        if before is not None:
            controller.continue_sequence_of(before.controller)
        return RegisteredExporter(
            config,
            controller,
            inventory,
            records=records,
            socket=socket,
            registration=registration,
            health=health,
        )

    def read() -> tuple[Identity, Trust]:
        current = config if config.discovered is not None else load(config.file, lenient=True)
        return identity_of(with_identity(current).enrolment or enrolment)

    async def reread() -> tuple[Identity, Trust]:
        return await trio.to_thread.run_sync(read)

    controller = ControllerConnection(
        enrolment.endpoint, trust, identity, options, reread=reread, renewal=OwnRenewal(config)
    )
    if before is not None:
        controller.continue_sequence_of(before.controller)
    return RegisteredExporter(config, controller, inventory, records=records, socket=socket, health=health)


class RegisteredExporter:
    """Serves leases, and admits users of the host when no lease excludes them. `serve` runs all of it."""

    def __init__(
        self,
        config: ExporterConfig,
        controller: ControllerConnection,
        inventory: Inventory | None = None,
        *,
        records: RecordStore | None = None,
        socket: Path | None = None,
        registration: BoardRegistration | None = None,
        health: HealthWatch | None = None,
    ) -> None:
        """Without `records` nothing is known after a restart.

        `registration` is needed if the host registers the board. `health` is reported to the controller.
        """
        self._health = None if health is None else HealthReporter(controller, health)
        self._calls = CallReporter(controller)
        self._registration = registration
        self._problem = f"not registered yet with {controller.endpoint}"
        """Why the controller does not lease the board."""
        self._config = config
        self._socket = socket
        self._controller = controller
        self._hook_seconds = HookSeconds()
        self._log = BoardLog(config.board_name)
        self._inventory = inventory or Inventory()
        # An invalid board must fail here, before anything is promised to a user.
        self.devices = add_board(self._inventory, config)
        settings = config.settings
        occupancy = Occupancy(settings.occupancy.limits, prepares=settings.hooks.before_lease is not None)
        self._occupancy = OccupancyRunner(occupancy, records, perform=self._perform, changed=self._announce)
        self.users = HostUsers(self._occupancy, self._host_session)
        self._status_reporter = StatusReporter(
            controller,
            lambda: config.labels,
            self._registered_reports,
            self._occupancy.status,
        )
        self._reported: object = ("", *self._occupancy.status, [])
        """The status that the reporter has, and the lease that it belongs to."""
        self._assigned: LeaseAssignment | None = None
        """The assignment that the controller sent last."""
        self._is_assigned_known = False
        """The controller has sent an assignment, or that there is none."""
        self._last_returned = ""
        """The lease that was returned last."""
        self._is_disconnected = False
        """The status stream is broken."""
        self._accepted: tuple[str, list[OccupancyAction]] | None = None
        """An offered lease that was accepted, with the actions to perform when the controller confirms it."""
        self._server: LeaseServer | None = None
        self._pending: deque[tuple[ServedLease, LeaseStart | None, str]] = deque()
        """Leases to serve, with their start; None and the obstacle if they must wait."""
        self._changed = Broadcast()
        self._is_leaving = False
        """End as soon as no lease is served."""
        self._stops = False
        """The board must stop when the current lease is over."""
        detection = config.settings.failure_detection
        self._failures = (
            RapidFailures(detection.max_rapid_failures, detection.rapid_failure_window) if detection else None
        )
        self._give_up_reason = ""
        self._keeps_registration = False
        """`end` does not unregister the exporter."""
        self._ending = trio.Event()
        self.on_free: Callable[[], None] = lambda: None
        """Called when nobody uses the board and a pending change can be applied."""
        self.is_alone: Callable[[], bool] = lambda: True
        """Whether the process serves no other board, so that it ends with this one."""
        self.code = ExitCode.OK
        """Exit code of a process that serves no other board."""
        self.reason = ""
        """Why the exporter ended by itself."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `end` is called or a hook ends the exporter.

        A cancellation closes the devices and keeps the lease.

        Raises:
            BoardTakenError: another process of this host serves the board.
        """
        with self._log.bound():
            async with (
                exclusive_claim(
                    self._config.file,
                    socket="" if self._socket is None else str(self._socket),
                    endpoint=self._controller.endpoint,
                    exporter=self._config.exporter_name or "",
                ),
                managed_cores(self.devices),
                trio.open_nursery() as nursery,
            ):
                self._tasks = nursery
                await self._occupancy.restore()
                self._withhold_for_hardware()
                self._announce()
                nursery.start_soon(self._occupancy.run)
                nursery.start_soon(self.users.run)
                nursery.start_soon(keeping_open, self.devices)
                nursery.start_soon(self._follow)
                nursery.start_soon(self._status_reporter.run)
                if self._registration is not None:
                    nursery.start_soon(self._registration.keep)
                if self._health is not None:
                    nursery.start_soon(self._health.run)
                nursery.start_soon(self._calls.run)
                nursery.start_soon(self._announce_devices)
                nursery.start_soon(self._watch_hardware)
                nursery.start_soon(self._probe_missing_hardware)
                served = trio.Event()
                nursery.start_soon(self._serve_leases, served)
                print_line(
                    f"Serving leases of {self._controller.endpoint} with the board {shown(self._config.board_name)}",
                    flush=True,
                )
                task_status.started()
                await self._ending.wait()
                async with trio.open_nursery() as leaving:
                    # Unregister first, so that the controller assigns no further lease.
                    leaving.start_soon(self._unregister)
                    await served.wait()
                await self._calls.flush()
                nursery.cancel_scope.cancel()

    @property
    def controller(self) -> ControllerConnection:
        """The connection to the controller."""
        return self._controller

    def is_exporter(self, enrolment: Enrolment | None) -> bool:
        """Whether the enrolment names this exporter. A new token does not change that."""
        own = self._config.enrolment
        assert own is not None
        return enrolment is not None and (enrolment.endpoint, enrolment.namespace, enrolment.name) == (
            own.endpoint,
            own.namespace,
            own.name,
        )

    def keep_registration(self) -> None:
        """Let `end` keep the registration: the same exporter continues, or `unregister` follows."""
        self._keeps_registration = True

    async def unregister(self) -> None:
        """Unregister after an `end` that kept the registration."""
        self._keeps_registration = False
        await self._unregister()

    def end(self, code: ExitCode, reason: str = "") -> None:
        """Unregister and end. A lease that is being served stays with its client."""
        if not self._ending.is_set():
            self.code = code
            self.reason = reason
            self._ending.set()

    @property
    def is_leased(self) -> bool:
        """Whether a lease is served or about to be served."""
        return self._server is not None or bool(self._pending)

    async def until_ending(self) -> None:
        """Wait until `end` is called or a hook ends the exporter."""
        await self._ending.wait()

    def end_after_lease(self) -> None:
        """End when no lease is served."""
        self._is_leaving = True
        self._end_if_done()

    @property
    def use(self) -> str:
        """Who uses the board, or why it cannot be leased."""
        problem = self._registration.problem if self._registration is not None else ""
        return self._occupancy.sentence or self._problem or problem

    @property
    def user(self) -> str:
        """The user that a change must wait for; empty if there is none."""
        return self._occupancy.user

    def labels_changed(self) -> None:
        """Read the configuration's labels again and report them to the controller."""
        self._status_reporter.devices_changed()
        if self._registration is not None:
            self._registration.look()

    def withhold_for_change(self, why: str) -> None:
        """Let no further lease begin. `on_free` is called when nobody uses the board."""
        self._occupancy.withhold(WithheldReason.CHANGING, why)

    def release_change(self) -> None:
        """Cancel the pending change."""
        self._occupancy.release(WithheldReason.CHANGING)

    def drain(self, why: str) -> None:
        """Keep the board from being leased until `resume`, also after a restart. A current lease continues."""
        self._occupancy.withhold(WithheldReason.DRAINED, why)

    def resume(self) -> None:
        """End a drain and start a stopped board again. If it is not known who has the board, treat it as free."""
        self.start_again()
        self._occupancy.release(WithheldReason.DRAINED, WithheldReason.UNKNOWN)

    def start_again(self) -> bool:
        """Allow leases again after a stop; False if the board was not stopped.

        A connection that waits is retried now.
        """
        self._controller.retry_now()
        if WithheldReason.STOPPED not in self._occupancy.withheld:
            return False
        if self._failures is not None:
            self._failures.forget()
        self._occupancy.release(WithheldReason.STOPPED)
        return True

    def _stop(self, code: ExitCode, reason: str) -> None:
        """End if the process serves no other board; otherwise the board is not leased until it is started again."""
        if self.is_alone():
            self.end(code, reason)
        elif WithheldReason.STOPPED not in self._occupancy.withheld:
            name = self._config.board_name
            why = f"{reason}; `jumpstarter-exporter resume {shown(name)}` starts it again"
            _log.error("the board %s is stopped: %s", name, why)
            self._occupancy.withhold(WithheldReason.STOPPED, why)

    async def _unregister(self) -> None:
        with trio.move_on_after(LEAVE_SECONDS) as limit:
            try:
                if self._keeps_registration:
                    await self._status_reporter.stop()
                else:
                    await self._status_reporter.unregister("Exporter shutting down")
            except JumpstarterError as error:
                _log.warning("could not tell the controller that %s: %s", self._ending_notice, error)
        if limit.cancelled_caught:
            _log.warning("could not tell the controller that %s: no answer", self._ending_notice)

    @property
    def _ending_notice(self) -> str:
        return "the board restarts" if self._keeps_registration else "this exporter ends"

    async def _announce_devices(self) -> None:
        with subscribed(self.devices) as changes:
            await anext(changes)  # the registration has reported the devices that exist
            async for _ in changes:
                self._status_reporter.devices_changed()

    async def _watch_hardware(self) -> None:
        with subscribed(self.devices) as changes:
            async for _ in changes:
                self._withhold_for_hardware()

    def _withhold_for_hardware(self) -> None:
        if (lack := missing_hardware(self.devices)) is not None:
            self._occupancy.withhold(WithheldReason.HARDWARE, lack.reason)
        else:
            self._occupancy.release(WithheldReason.HARDWARE)

    async def _probe_missing_hardware(self) -> None:
        """Open devices with missing hardware from time to time if nothing reports that the hardware returned."""
        with subscribed(self.devices) as changes:
            async for _ in changes:
                while self._slots_to_probe():
                    await trio.sleep(PROBE_SECONDS)
                    for slot in self._slots_to_probe():
                        # A lease may have begun at the device before, or nobody knows who has the board.
                        if (
                            self._occupancy.lease is None
                            and WithheldReason.UNKNOWN not in self._occupancy.withheld
                        ):
                            await self.users.probe(slot)

    def _slots_to_probe(self) -> list[Slot]:
        """The missing devices whose return the host does not announce."""
        lack = missing_hardware(self.devices)
        return [] if lack is None else [slot for slot in lack.slots if not slot.is_announced]

    def _reports(self) -> list[DriverInstanceReport]:
        return board_reports(self.devices)

    def _registered_reports(self) -> list[DriverInstanceReport]:
        reports = self._reports()
        add_hooks(reports, self._config.settings.hooks)
        return reports

    @property
    def report(self) -> GetReportResponse:
        """The report of the current devices, whoever uses them."""
        session = self.users.session
        if session is not None:
            return report_of(session)
        name = {NAME: self._config.board_name}
        return GetReportResponse(labels=name, reports=self._reports(), motd=self._config.settings.motd)

    def _host_session(self) -> Session:
        settings = self._config.settings
        return Session(
            self.devices,
            name=self._config.board_name,  # which users of the host know, unlike that of the lab
            motd=settings.motd,
            board=self._log,
            on_call=self._calls.note,
        )

    # Messages from the controller.

    async def _follow(self) -> None:
        await self._controller.follow(
            self._register,
            self._assignment_received,
            self._conversation_failed,
            on_offer=self._answer_offer,
            on_waiting_lease=self._waiting_lease_changed,
        )

    async def _register(self, calls: RegistrationCalls) -> None:
        self._calls.disconnected()
        if self._health is not None:
            self._health.disconnected()
        await self._status_reporter.register(calls)
        if not self._is_disconnected:  # otherwise the next message from the controller clears it
            self._problem = ""
        if self._failures is not None:
            self._failures.began(trio.current_time())

    def _conversation_failed(self, error: Exception) -> None:
        self._is_disconnected = True
        self._calls.disconnected()
        if self._health is not None:
            self._health.disconnected()
        self._problem = f"not leased: {error}"
        if self._accepted is not None:  # after a reconnect the controller offers it again
            self._accepted = None
            self._occupancy.withdrawn()
        self._update_left_alone()
        if self._failures is None:
            return
        self._failures.failed(trio.current_time())
        if self._failures.is_exceeded:
            self._give_up_reason = (
                f"failureDetection: {self._failures.count} times in a row the exporter was not served by "
                f"{self._controller.endpoint} for {self._failures.window:g} s; the last reason was: {error}"
            )
            if self.is_alone():
                when = "now" if self._server is None else "after the lease, unless that gets better"
                _log.error(
                    "the exporter ends %s, for what started it to start it again: %s",
                    when,
                    self._give_up_reason,
                )
            self._end_if_done()

    def _end_if_done(self) -> None:
        """End or stop if that is due and no lease is served."""
        if self.is_leased:
            return
        if self._failures is not None and self._failures.is_exceeded:
            self._stop(ExitCode.FAILED, self._give_up_reason)
        if self._is_leaving:
            self.end(ExitCode.OK, LEASE_OVER)
        elif self._stops:
            self._stops = False
            self._stop(ExitCode.OK, LEASE_OVER)

    def _answer_offer(self, assignment: LeaseAssignment) -> Sequence[status.StatusReason]:
        """Accept or decline an offered lease. The actions are performed when the controller confirms the lease."""
        actions = self._occupancy.offered(ServedLease(assignment.lease, assignment.client, declinable=True))
        if any(isinstance(action, DeclineLease) for action in actions):
            self._occupancy.do([action for action in actions if not isinstance(action, DeclineLease)])
            return self._reasons
        if any(isinstance(action, BeginLease) for action in actions):
            self._accepted = (
                assignment.lease,
                actions,
            )  # nothing is performed or recorded before the confirmation
        else:  # the board is cleaned up after a restart, whatever happens to this offer
            self._occupancy.do(actions)
        return ()

    def _waiting_lease_changed(self, assignment: LeaseAssignment | None) -> None:
        self._calls.connected()  # only our controllers send the waiting lease
        if self._health is not None:
            self._health.connected()
        self._occupancy.wants(
            None if assignment is None else ServedLease(assignment.lease, assignment.client, declinable=True)
        )

    def _assignment_received(self, wanted: LeaseAssignment | None) -> None:
        self._assigned, self._is_assigned_known, self._is_disconnected = wanted, True, False
        self._problem = ""
        if (offer := self._accepted) is not None:
            self._accepted = None
            if wanted is not None and wanted.lease == offer[0]:
                self._occupancy.confirmed(offer[1])
            else:
                self._occupancy.withdrawn()
        self._apply_assignment()
        self._update_left_alone()

    def _apply_assignment(self) -> None:
        wanted = self._assigned
        if wanted is None:
            self._occupancy.gone()
        else:
            if self._occupancy.is_finished(wanted.lease) and self._server is None:
                self._return_lease(wanted.lease)
            until = _local_time_text(wanted.until)
            self._occupancy.assigned(
                ServedLease(wanted.lease, wanted.client, until=until), wanted.until, until
            )
        if (server := self._server) is not None:
            if wanted is None or wanted.lease != server.lease:
                server.ended.set()
            else:
                server.set_client(wanted.client)

    def _return_lease(self, lease: str) -> None:
        """The lease was ended by this or an earlier process, and the controller does not know."""
        if lease != self._last_returned:
            self._last_returned = lease
            self._tasks.start_soon(self._controller.release, lease)

    def _update_left_alone(self) -> None:
        self._occupancy.left_alone(
            self._is_disconnected and not (self._server is not None and self._server.is_used)
        )

    # Actions that the occupancy decided.

    def _perform(self, action: OccupancyAction) -> None:
        match action:
            case BeginLease(lease, hook):
                self._begin(lease, LeaseStart.NEW if hook else LeaseStart.PREPARED)
            case CleanUpLease(lease):
                self._begin(lease, LeaseStart.OVER)
            case DelayLease(lease, reason):
                self._pending.append((lease, None, reason))
                self._wake()
            case CloseWaitingSession(lease):
                if (server := self._server_of(lease)) is not None:
                    server.ended.set()
            case ReturnLease(lease, reason):
                if (server := self._server_of(lease)) is not None:
                    server.return_lease(reason)
            case EndLease(lease, reason):
                _log.warning("this exporter ends lease %s: %s", lease.name, reason)
                if (server := self._server_of(lease)) is not None:
                    server.expire()
            case NotifyLocalUsers(text):
                self.users.notify(text)
            case ApplyChange():
                self.on_free()
            case CutConnection(_, reason):
                _log.info("a local user's connection to the board is closed: %s", reason)
            case _:
                pass

    def _begin(self, lease: ServedLease, start: LeaseStart) -> None:
        if (server := self._server_of(lease)) is not None:
            server.begin(start)
            return
        waiting = [one for one in self._pending if one[0].name != lease.name]
        self._pending = deque([*waiting, (lease, start, "")])
        self._wake()

    def _server_of(self, lease: ServedLease) -> LeaseServer | None:
        return self._server if self._server is not None and self._server.lease == lease.name else None

    def _announce(self) -> None:
        """Report the status: of the lease's session if it has the board, otherwise the occupancy's.

        The session reports its hooks. Without a hook, a controller that offers leases knows that the lease begins and
        ends, and the next status usually follows at once; such a status is `passing`.
        """
        lease, said = self._occupancy.lease, self._occupancy.status
        passing = False
        if lease is not None and lease.phase is not ServingPhase.WAITING:
            server = self._server_of(lease)
            report = None if server is None else server.session.status.report
            if report is not None and report.status is ExporterStatus.OFFLINE and not self.is_alone():
                return  # only the board stops, which is reported next; the exporter stays registered
            if report is not None and report.status is not ExporterStatus.AVAILABLE:
                said = (report.status, report.message)
            elif lease.phase in (ServingPhase.PREPARING, ServingPhase.LEASED) and (
                server is not None or self._pending
            ):
                return  # its session reports in a moment
            else:
                passing = lease.phase is ServingPhase.CLEANING or (
                    lease.phase is ServingPhase.PREPARING and lease.declinable
                )
        if (news := ("" if lease is None else lease.name, *said, self._reasons)) != self._reported:
            self._reported = news
            self._status_reporter.set_status(*said, self._reasons, passing=passing)

    @property
    def _reasons(self) -> list[status.StatusReason]:
        return [status.StatusReason(code, sentence) for code, sentence in self._occupancy.reasons]

    # Serving leases.

    def _wake(self) -> None:
        self._changed.notify()

    async def _serve_leases(self, served: trio.Event) -> None:
        while not self._ending.is_set():
            if not self._pending:
                await self._until_changed()
                continue
            lease, start, obstacle = self._pending.popleft()
            current = self._occupancy.lease
            if current is None or current.name != lease.name:
                continue  # it was closed before its session was opened
            await self._serve(current, start, obstacle)
            self._end_if_done()
        served.set()

    async def _until_changed(self) -> None:
        await first_of(self._changed.next.wait, self._ending.wait)

    async def _serve(self, lease: ServedLease, start: LeaseStart | None, obstacle: str) -> None:
        server = LeaseServer(
            self._config,
            self.devices,
            self._controller,
            LeaseAssignment(lease.name, lease.client),
            self._hook_seconds,
            board=self._log,
            obstacle=obstacle,
            prepare=self._take_board,
            users_changed=self._update_left_alone,
            record=self._record,
            on_call=self._calls.note,
        )
        self._server = server
        server.session.status.on_change = self._session_status_changed
        if start is not None:
            server.begin(start)
        if self._is_assigned_known and (self._assigned is None or self._assigned.lease != lease.name):
            server.ended.set()
        elif start is LeaseStart.OVER and not self._is_assigned_known:
            server.expire()
        async with trio.open_nursery() as nursery:

            async def stopping() -> None:
                await self._ending.wait()
                server.stopping.set()

            nursery.start_soon(stopping)
            await server.run()
            nursery.cancel_scope.cancel()
        self.users.leased = None
        self._server = None
        if server.is_kept:
            return
        if server.exiting:
            self._stop(ExitCode.FAILED, HOOK_FAILED)
        self._stops |= self._config.settings.exit_on_lease_end and server.is_begun
        if server.is_released:
            self._last_returned = lease.name
        if (current := self._occupancy.lease) is not None and current.name == lease.name:
            self._end_if_done()  # before anybody learns that the board is free
            self._occupancy.over(is_released=server.is_released)
        if self._is_assigned_known and not (server.exiting and self._ending.is_set()):
            self._apply_assignment()

    async def _take_board(self) -> None:
        """A lease begins: close the session of the host's users, who no longer use the board."""
        server = self._server
        assert server is not None
        self.users.leased = server.session
        server.session.show_recordings_since(self._occupancy.began)
        await self.users.leave(f"lease {server.lease} has the board")

    async def _record(self, phase: ServingPhase) -> None:
        """Record the phase that the served lease is about to enter. Returns when a restart would know it."""
        server, lease = self._server, self._occupancy.lease
        if server is not None and lease is not None and lease.name == server.lease:
            if server.start is not LeaseStart.OVER:
                self._occupancy.became(phase)
            await self._occupancy.until_written()

    def _session_status_changed(self, report: StatusReport) -> None:
        server = self._server
        lease = self._occupancy.lease
        if server is None or lease is None or lease.name != server.lease:
            return
        match report.status:
            case ExporterStatus.LEASE_READY if server.start is not LeaseStart.OVER:
                self._occupancy.became(ServingPhase.LEASED)
            case ExporterStatus.AFTER_LEASE_HOOK:
                self._occupancy.became(ServingPhase.CLEANING)
            case ExporterStatus.BEFORE_LEASE_HOOK_FAILED | ExporterStatus.AFTER_LEASE_HOOK_FAILED as failed:
                self._occupancy.withhold(WithheldReason.HOOK_FAILED, report.message, failed=failed)
            case _:
                self._announce()


def _local_time_text(end: float | None) -> str:
    """A local time; with the date unless it is today."""
    if end is None:
        return ""
    then, now = time.localtime(end), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)
