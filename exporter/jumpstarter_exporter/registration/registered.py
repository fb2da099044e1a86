"""An exporter whose boards are leased by a controller: one session for each lease.

A lease, its session and its devices outlive a controller or router that restarts and a network that is cut: the
status stream, the listening and the clients' tunnels come back by themselves. They do not outlive this process, but
the lease does: it stays its client's, and the next process of the same exporter takes it up.
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
from jumpstarter_proto.remote import Identity, Trust, options_of
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport, GetReportResponse

from jumpstarter_exporter import status
from jumpstarter_exporter.boards.claim import claimed
from jumpstarter_exporter.boards.events import (
    Action,
    Apply,
    Begin,
    Clean,
    Close,
    Decline,
    End,
    GiveBack,
    Lease,
    Lose,
    Phase,
    Reason,
    Tell,
    Wait,
)
from jumpstarter_exporter.boards.keeper import Keeper, Records
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.boards.record_file import RecordFile
from jumpstarter_exporter.config import ExporterConfig, load, with_identity
from jumpstarter_exporter.config.model import Enrolment
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.cores import keeping_open, living
from jumpstarter_exporter.devices.from_file import add_board
from jumpstarter_exporter.devices.hardware import lack_of
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.hooks.life import HOOK_FAILED, HookSeconds
from jumpstarter_exporter.host_health.watch import HealthWatch
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.rapid_failures import RapidFailures
from jumpstarter_exporter.registration.announcer import Announcer
from jumpstarter_exporter.registration.call_reports import CallReporter
from jumpstarter_exporter.registration.controller import Calls, Controller
from jumpstarter_exporter.registration.health import HealthReporter
from jumpstarter_exporter.registration.host import BoardRegistration, identity_of, registration_of
from jumpstarter_exporter.registration.host_users import HostUsers
from jumpstarter_exporter.registration.renewal import OwnRenewal
from jumpstarter_exporter.registration.serving import LeaseServer, Start
from jumpstarter_exporter.registration.tenant import Tenant
from jumpstarter_exporter.report import board_reports
from jumpstarter_exporter.services import report_of
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.state_directory import state_directory
from jumpstarter_exporter.status import Report, Status

__all__ = ["Registered", "registered_exporter"]

LOOK_SECONDS = 30.0
"""Between two looks for hardware without which nobody is given a lease."""
LEASE_OVER = "its lease is over, after which it was to end"
LEAVE_SECONDS = 5.0
"""For the controller to hear that we leave."""

_log = logging.getLogger(__name__)


def registered_exporter(
    config: ExporterConfig,
    inventory: Inventory | None = None,
    socket: Path | None = None,
    *,
    before: Registered | None = None,
    health: HealthWatch | None = None,
) -> Registered:
    """An exporter as its file says; `socket` is where the users of its host reach it.

    Its controller is told of the host's `health`.
    `before` is the same exporter, which has ended without leaving its controller; this one goes on for it.

    Raises:
        ConfigError: the configuration's devices make no sense.
        OptionError: its `grpcOptions` make none.
    """
    enrolment = config.enrolment
    if enrolment is None:
        raise JumpstarterUsageError("only an exporter with an identity can be registered")
    identity, trust = identity_of(enrolment)
    options = options_of(config.settings.grpc_options)
    records = RecordFile(state_directory(os.environ), config.board_name, config.file)
    if enrolment.host is not None:
        registration = registration_of(config)
        controller = Controller(
            enrolment.endpoint,
            trust,
            identity,
            options,
            register=registration.register,
            renewal=registration,
        )
        if before is not None:
            controller.go_on_for(before.controller)
        return Registered(
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

    controller = Controller(
        enrolment.endpoint, trust, identity, options, reread=reread, renewal=OwnRenewal(config)
    )
    if before is not None:
        controller.go_on_for(before.controller)
    return Registered(config, controller, inventory, records=records, socket=socket, health=health)


class Registered:
    """Serves leases, and the users of its host as far as leases let them; `serve` is all of it."""

    def __init__(
        self,
        config: ExporterConfig,
        controller: Controller,
        inventory: Inventory | None = None,
        *,
        records: Records | None = None,
        socket: Path | None = None,
        registration: BoardRegistration | None = None,
        health: HealthWatch | None = None,
    ) -> None:
        """Without `records` a restart knows nothing of who used the board. `registration` is the host's of it.

        `health` is what the controller is told of the host.
        """
        self._health = None if health is None else HealthReporter(controller, health)
        self._calls = CallReporter(controller)
        self._registration = registration
        self._trouble = f"not registered yet with {controller.endpoint}"
        """Why the controller does not lease it."""
        self._config = config
        self._socket = socket
        self._controller = controller
        self._hook_seconds = HookSeconds()
        self._log = BoardLog(config.board_name)
        self._inventory = inventory or Inventory()
        # What is wrong with it is said before anything is promised.
        self._devices = add_board(self._inventory, config)
        settings = config.settings
        occupancy = Occupancy(settings.occupancy.limits, prepares=settings.hooks.before_lease is not None)
        self._keeper = Keeper(occupancy, records, perform=self._perform, changed=self._announce)
        self.users = HostUsers(self._keeper, self._host_session)
        self._announcer = Announcer(
            controller,
            lambda: config.labels,
            self._reports,
            self._keeper.status,
        )
        self._said: object = ("", *self._keeper.status, [])
        """What the announcer has, and of which lease."""
        self._wanted: Tenant | None = None
        """The controller's last word."""
        self._is_heard = False
        """There was one."""
        self._released = ""
        """The last lease that was given back."""
        self._is_away = False
        """The controller cannot be heard now."""
        self._offer: tuple[str, list[Action]] | None = None
        """A lease that was accepted, and what is to be done when its controller knows that."""
        self._server: LeaseServer | None = None
        self._starts: deque[tuple[Lease, Start | None, str]] = deque()
        """Leases to serve: how they begin, or None and what they wait for."""
        self._changed = trio.Event()
        self._is_leaving = False
        """End when no lease is served."""
        self._stops = False
        """A lease is over behind which the board is to stop."""
        detection = config.settings.failure_detection
        self._failures = (
            RapidFailures(detection.max_rapid_failures, detection.rapid_failure_window) if detection else None
        )
        self._given_up = ""
        self._stays = False
        """It ends without leaving its controller."""
        self._ending = trio.Event()
        self.on_free: Callable[[], None] = lambda: None
        """Called when a `change` can be made."""
        self.is_alone: Callable[[], bool] = lambda: True
        """Whether the process has no other board: then it ends where this one is to."""
        self.code = ExitCode.OK
        """Of a process that has no other board."""
        self.reason = ""
        """Why it has ended, if it was by itself."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `end`, or a hook that ends it.

        Raises:
            BoardTakenError: another exporter of this host serves the board.
        """
        with self._log.bound():
            async with (
                claimed(
                    self._config.file,
                    socket="" if self._socket is None else str(self._socket),
                    endpoint=self._controller.endpoint,
                    exporter=self._config.exporter_name or "",
                ),
                living(self._devices),
                trio.open_nursery() as nursery,
            ):
                self._tasks = nursery
                await self._keeper.restore()
                self._withhold_for_hardware()
                self._announce()
                nursery.start_soon(self._keeper.run)
                nursery.start_soon(self.users.run)
                nursery.start_soon(keeping_open, self._devices)
                nursery.start_soon(self._follow)
                nursery.start_soon(self._announcer.run)
                if self._registration is not None:
                    nursery.start_soon(self._registration.keep)
                if self._health is not None:
                    nursery.start_soon(self._health.run)
                nursery.start_soon(self._calls.run)
                nursery.start_soon(self._announce_devices)
                nursery.start_soon(self._watch_hardware)
                nursery.start_soon(self._look_for_hardware)
                served = trio.Event()
                nursery.start_soon(self._serve_leases, served)
                print_line(
                    f"Serving leases of {self._controller.endpoint} with the board {shown(self._config.board_name)}",
                    flush=True,
                )
                task_status.started()
                await self._ending.wait()
                async with trio.open_nursery() as leaving:
                    # First, so that nobody is sent here any more.
                    leaving.start_soon(self._leave)
                    await served.wait()
                await self._calls.flush()
                nursery.cancel_scope.cancel()

    @property
    def controller(self) -> Controller:
        """The connections of this exporter."""
        return self._controller

    def is_exporter(self, enrolment: Enrolment | None) -> bool:
        """Whether that is this exporter of this controller. A new token makes no other one of it."""
        own = self._config.enrolment
        assert own is not None
        return enrolment is not None and (enrolment.endpoint, enrolment.namespace, enrolment.name) == (
            own.endpoint,
            own.namespace,
            own.name,
        )

    def stay(self) -> None:
        """Have `end` leave the controller with what it knows: the same exporter goes on, or `leave` follows."""
        self._stays = True

    async def leave(self) -> None:
        """Leave the controller behind an end at which it was to `stay`."""
        self._stays = False
        await self._leave()

    def end(self, code: ExitCode, reason: str = "") -> None:
        """Leave the controller; a lease that runs stays its client's."""
        if not self._ending.is_set():
            self.code = code
            self.reason = reason
            self._ending.set()

    @property
    def is_leased(self) -> bool:
        """Whether a lease is served, or is about to be."""
        return self._server is not None or bool(self._starts)

    async def until_ending(self) -> None:
        """Until `end`, or a hook that ends it."""
        await self._ending.wait()

    def end_after_lease(self) -> None:
        """The same when no lease is served."""
        self._is_leaving = True
        self._end_if_done()

    @property
    def use(self) -> str:
        """Who has the board, or what keeps it from being leased."""
        problem = self._registration.problem if self._registration is not None else ""
        return self._keeper.sentence or self._trouble or problem

    @property
    def user(self) -> str:
        """For whom a change has to wait."""
        return self._keeper.user

    def labels_changed(self) -> None:
        """Look at the labels of its configuration again: the controller is to know them."""
        self._announcer.devices_changed()
        if self._registration is not None:
            self._registration.look()

    def change(self, why: str) -> None:
        """Let no lease begin; `on_free` is called when nobody uses the board."""
        self._keeper.withhold(Reason.CHANGING, why)

    def keep(self) -> None:
        """Undo that."""
        self._keeper.release(Reason.CHANGING)

    def drain(self, why: str) -> None:
        """Keep the board from being leased, until `resume`, also over restarts. A lease that runs goes on."""
        self._keeper.withhold(Reason.DRAINED, why)

    def resume(self) -> None:
        """Undo that, and start the board again if it has stopped. If nobody knows who has it, nobody has."""
        self.start_again()
        self._keeper.release(Reason.DRAINED, Reason.UNKNOWN)

    def start_again(self) -> bool:
        """Let a board be leased again that has stopped; False if it has not. A controller that is away is asked now."""
        self._controller.hurry()
        if Reason.STOPPED not in self._keeper.withheld:
            return False
        if self._failures is not None:
            self._failures.forget()
        self._keeper.release(Reason.STOPPED)
        return True

    def _stop(self, code: ExitCode, reason: str) -> None:
        """End, if this process has no other board; else nobody leases this one before it is started again."""
        if self.is_alone():
            self.end(code, reason)
        elif Reason.STOPPED not in self._keeper.withheld:
            name = self._config.board_name
            why = f"{reason}; `jumpstarter-exporter resume {shown(name)}` starts it again"
            _log.error("the board %s is stopped: %s", name, why)
            self._keeper.withhold(Reason.STOPPED, why)

    async def _leave(self) -> None:
        with trio.move_on_after(LEAVE_SECONDS) as limit:
            try:
                if self._stays:
                    await self._announcer.stop()
                else:
                    await self._announcer.leave("Exporter shutting down")
            except JumpstarterError as error:
                _log.warning("the controller does not know that %s: %s", self._last_word, error)
        if limit.cancelled_caught:
            _log.warning("the controller does not know that %s: it does not answer", self._last_word)

    @property
    def _last_word(self) -> str:
        return "the board begins anew" if self._stays else "we leave"

    async def _announce_devices(self) -> None:
        with subscribed(self._devices) as changes:
            await anext(changes)  # what there is already is told with the registration
            async for _ in changes:
                self._announcer.devices_changed()

    async def _watch_hardware(self) -> None:
        with subscribed(self._devices) as changes:
            async for _ in changes:
                self._withhold_for_hardware()

    def _withhold_for_hardware(self) -> None:
        if (lack := lack_of(self._devices)) is not None:
            self._keeper.withhold(Reason.HARDWARE, lack.reason)
        else:
            self._keeper.release(Reason.HARDWARE)

    async def _look_for_hardware(self) -> None:
        """Nobody is there who would try: what does not say that it came back is opened from time to time."""
        with subscribed(self._devices) as changes:
            async for _ in changes:
                while self._to_look_for():
                    await trio.sleep(LOOK_SECONDS)
                    for slot in self._to_look_for():
                        # A lease may have come with the device before; or it has the board, and nobody knows.
                        if self._keeper.lease is None and Reason.UNKNOWN not in self._keeper.withheld:
                            await self.users.look_for(slot)

    def _to_look_for(self) -> list[Slot]:
        """What the board lacks for a lease, without that of which the host says when it comes."""
        lack = lack_of(self._devices)
        return [] if lack is None else [slot for slot in lack.slots if not slot.is_announced]

    def _reports(self) -> list[DriverInstanceReport]:
        return board_reports(self._devices)

    @property
    def report(self) -> GetReportResponse:
        """Of the devices that are there, whoever has them."""
        session = self.users.session
        if session is not None:
            return report_of(session)
        return GetReportResponse(reports=self._reports(), motd=self._config.settings.motd)

    def _host_session(self) -> Session:
        settings = self._config.settings
        return Session(
            self._devices,
            name=self._config.exporter_name,
            motd=settings.motd,
            board=self._log,
            on_call=self._calls.note,
        )

    # What the controller says.

    async def _follow(self) -> None:
        await self._controller.follow(
            self._introduce, self._told, self._failed, answer=self._answer, waits=self._waits
        )

    async def _introduce(self, calls: Calls) -> None:
        self._calls.disconnected()
        if self._health is not None:
            self._health.disconnected()
        await self._announcer.introduce(calls)
        if not self._is_away:  # else the next word from the controller says that it goes on
            self._trouble = ""
        if self._failures is not None:
            self._failures.began(trio.current_time())

    def _failed(self, error: Exception) -> None:
        self._is_away = True
        self._calls.disconnected()
        if self._health is not None:
            self._health.disconnected()
        self._trouble = f"not leased: {error}"
        if self._offer is not None:  # it is told anew by who can be heard again
            self._offer = None
            self._keeper.withdrawn()
        self._look_who_is_there()
        if self._failures is None:
            return
        self._failures.failed(trio.current_time())
        if self._failures.is_exceeded:
            self._given_up = (
                f"failureDetection: {self._failures.count} times in a row the exporter was not served by "
                f"{self._controller.endpoint} for {self._failures.window:g} s; the last reason was: {error}"
            )
            if self.is_alone():
                when = "now" if self._server is None else "after the lease, unless that gets better"
                _log.error(
                    "the exporter ends %s, for what started it to start it again: %s", when, self._given_up
                )
            self._end_if_done()

    def _end_if_done(self) -> None:
        """End if there is a reason for it and no lease."""
        if self.is_leased:
            return
        if self._failures is not None and self._failures.is_exceeded:
            self._stop(ExitCode.FAILED, self._given_up)
        if self._is_leaving:
            self.end(ExitCode.OK, LEASE_OVER)
        elif self._stops:
            self._stops = False
            self._stop(ExitCode.OK, LEASE_OVER)

    def _answer(self, tenant: Tenant) -> Sequence[status.Reason]:
        """Whether a lease that is offered is taken. What follows is done when its controller says that we have it."""
        actions = self._keeper.offered(Lease(tenant.lease, tenant.client, declinable=True))
        if any(isinstance(action, Decline) for action in actions):
            self._keeper.do([action for action in actions if not isinstance(action, Decline)])
            return self._reasons
        if any(isinstance(action, Begin) for action in actions):
            self._offer = (tenant.lease, actions)  # nothing of it is done, or written down, before
        else:  # what was there before a restart is put in order, whatever becomes of this one
            self._keeper.do(actions)
        return ()

    def _waits(self, tenant: Tenant | None) -> None:
        self._calls.connected()  # only controllers of ours say who waits
        if self._health is not None:
            self._health.connected()
        self._keeper.wants(None if tenant is None else Lease(tenant.lease, tenant.client, declinable=True))

    def _told(self, wanted: Tenant | None) -> None:
        self._wanted, self._is_heard, self._is_away = wanted, True, False
        self._trouble = ""
        if (offer := self._offer) is not None:
            self._offer = None
            if wanted is not None and wanted.lease == offer[0]:
                self._keeper.confirmed(offer[1])
            else:
                self._keeper.withdrawn()
        self._go_by_its_word()
        self._look_who_is_there()

    def _go_by_its_word(self) -> None:
        wanted = self._wanted
        if wanted is None:
            self._keeper.gone()
        else:
            if self._keeper.is_finished(wanted.lease) and self._server is None:
                self._give_back(wanted.lease)
            until = _for_people(wanted.until)
            self._keeper.assigned(Lease(wanted.lease, wanted.client, until=until), wanted.until, until)
        if (server := self._server) is not None:
            if wanted is None or wanted.lease != server.lease:
                server.ended.set()
            else:
                server.belongs_to(wanted.client)

    def _give_back(self, lease: str) -> None:
        """We have ended it, perhaps in a process before this one, and its controller does not know."""
        if lease != self._released:
            self._released = lease
            self._tasks.start_soon(self._controller.release, lease)

    def _look_who_is_there(self) -> None:
        self._keeper.left_alone(self._is_away and not (self._server is not None and self._server.is_used))

    # What is decided.

    def _perform(self, action: Action) -> None:
        match action:
            case Begin(lease, hook):
                self._begin(lease, Start.NEW if hook else Start.PREPARED)
            case Clean(lease):
                self._begin(lease, Start.OVER)
            case Wait(lease, reason):
                self._starts.append((lease, None, reason))
                self._wake()
            case Close(lease):
                if (server := self._server_of(lease)) is not None:
                    server.ended.set()
            case GiveBack(lease, reason):
                if (server := self._server_of(lease)) is not None:
                    server.give_back(reason)
            case End(lease, reason):
                _log.warning("lease %s is ended here: %s", lease.name, reason)
                if (server := self._server_of(lease)) is not None:
                    server.run_out()
            case Tell(text):
                self.users.tell(text)
            case Apply():
                self.on_free()
            case Lose(_, reason):
                _log.info("a user of this host loses the board: %s", reason)
            case _:
                pass

    def _begin(self, lease: Lease, start: Start) -> None:
        if (server := self._server_of(lease)) is not None:
            server.begin(start)
            return
        waiting = [one for one in self._starts if one[0].name != lease.name]
        self._starts = deque([*waiting, (lease, start, "")])
        self._wake()

    def _server_of(self, lease: Lease) -> LeaseServer | None:
        return self._server if self._server is not None and self._server.lease == lease.name else None

    def _announce(self) -> None:
        """Say how we are: in the words of the lease that is served, if it has the board.

        What a hook does its session says. Without one, a controller that has asked us first knows that the lease
        begins, and that it is over, and mostly hears the next status as soon.
        """
        lease, said = self._keeper.lease, self._keeper.status
        passing = False
        if lease is not None and lease.phase is not Phase.WAITING:
            server = self._server_of(lease)
            report = None if server is None else server.session.status.report
            if report is not None and report.status is Status.OFFLINE and not self.is_alone():
                return  # only the board stops, of which the controller hears next; its exporter stays
            if report is not None and report.status is not Status.AVAILABLE:
                said = (report.status, report.message)
            elif lease.phase in (Phase.PREPARING, Phase.LEASED) and (server is not None or self._starts):
                return  # in a moment its session says what it does
            else:
                passing = lease.phase is Phase.CLEANING or (
                    lease.phase is Phase.PREPARING and lease.declinable
                )
        if (news := ("" if lease is None else lease.name, *said, self._reasons)) != self._said:
            self._said = news
            self._announcer.become(*said, self._reasons, passing=passing)

    @property
    def _reasons(self) -> list[status.Reason]:
        return [status.Reason(code, sentence) for code, sentence in self._keeper.reasons]

    # Leases.

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve_leases(self, served: trio.Event) -> None:
        while not self._ending.is_set():
            if not self._starts:
                await self._until_changed()
                continue
            lease, start, obstacle = self._starts.popleft()
            current = self._keeper.lease
            if current is None or current.name != lease.name:
                continue  # it was closed before it was opened
            await self._serve(current, start, obstacle)
            self._end_if_done()
        served.set()

    async def _until_changed(self) -> None:
        await first_of(self._changed.wait, self._ending.wait)

    async def _serve(self, lease: Lease, start: Start | None, obstacle: str) -> None:
        server = LeaseServer(
            self._config,
            self._devices,
            self._controller,
            Tenant(lease.name, lease.client),
            self._hook_seconds,
            board=self._log,
            obstacle=obstacle,
            prepare=self._take_the_board,
            users_changed=self._look_who_is_there,
            record=self._record,
            on_call=self._calls.note,
        )
        self._server = server
        server.session.status.on_change = self._session_became
        if start is not None:
            server.begin(start)
        if self._is_heard and (self._wanted is None or self._wanted.lease != lease.name):
            server.ended.set()
        elif start is Start.OVER and not self._is_heard:
            server.run_out()
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
            self._released = lease.name
        if (current := self._keeper.lease) is not None and current.name == lease.name:
            self._end_if_done()  # before anybody hears that the board is free
            self._keeper.over(is_released=server.is_released)
        if self._is_heard and not (server.exiting and self._ending.is_set()):
            self._go_by_its_word()

    async def _take_the_board(self) -> None:
        """A lease begins: the users of the host, who do nothing on the board any more, make room for it."""
        server = self._server
        assert server is not None
        self.users.leased = server.session
        server.session.show_recordings_since(self._keeper.began)
        await self.users.leave(f"lease {server.lease} has the board")

    async def _record(self, phase: Phase) -> None:
        """The lease that is served is about to be so far: returns when a restart would know."""
        server, lease = self._server, self._keeper.lease
        if server is not None and lease is not None and lease.name == server.lease:
            if server.start is not Start.OVER:
                self._keeper.became(phase)
            await self._keeper.until_written()

    def _session_became(self, report: Report) -> None:
        server = self._server
        lease = self._keeper.lease
        if server is None or lease is None or lease.name != server.lease:
            return
        match report.status:
            case Status.LEASE_READY if server.start is not Start.OVER:
                self._keeper.became(Phase.LEASED)
            case Status.AFTER_LEASE_HOOK:
                self._keeper.became(Phase.CLEANING)
            case Status.BEFORE_LEASE_HOOK_FAILED | Status.AFTER_LEASE_HOOK_FAILED as failed:
                self._keeper.withhold(Reason.HOOK_FAILED, report.message, failed=failed)
            case _:
                self._announce()


def _for_people(end: float | None) -> str:
    """A time of day, with its date unless that is today's."""
    if end is None:
        return ""
    then, now = time.localtime(end), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)
