"""A board that this process serves: for local users, or for leases of a controller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.reach import Reach
from jumpstarter_proto.rpc import ServerCall
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1.jumpstarter_pb2 import GetReportResponse

from jumpstarter_exporter.boards.claim import exclusive_claim
from jumpstarter_exporter.boards.events import ApplyChange, OccupancyAction, WithheldReason
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.boards.occupancy_runner import OccupancyRunner
from jumpstarter_exporter.callers import caller_name
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.hooks.session_hooks import HOOK_FAILED, LOCAL_LEASE, SessionHooks
from jumpstarter_exporter.session.logs import BoardLog
from jumpstarter_exporter.session.selection import CallUse
from jumpstarter_exporter.session.services import report_of
from jumpstarter_exporter.session.session import Session

if TYPE_CHECKING:
    from jumpstarter_exporter.host_health.watch import HealthWatch
    from jumpstarter_exporter.registration.registered_exporter import RegisteredExporter

__all__ = ["LeasedBoard", "LocalBoard", "ServedBoard", "is_for_leases"]


def is_for_leases(config: ExporterConfig) -> bool:
    """Whether the board has a controller."""
    return config.enrolment is not None


class ServedBoard(Protocol):
    """A board as the host uses it, in this order: run, begin, finish, close."""

    name: str
    exiting: trio.Event
    """Set when it must end, for example when a hook with `onFailure: exit` failed."""

    @property
    def reason(self) -> str:
        """Why it must end."""

    @property
    def code(self) -> ExitCode:
        """Exit code of the process if it ends by itself and serves no other board."""

    @property
    def exporter(self) -> str:
        """The exporter's name and controller; empty if no controller leases it."""

    @property
    def report(self) -> GetReportResponse:
        """Its devices, for local users."""

    @property
    def devices(self) -> BoardDevices:
        """Its devices."""

    @property
    def use(self) -> str:
        """Who uses it, or why it cannot be leased; empty if it is free, or if no controller leases it."""

    @property
    def user(self) -> str:
        """The user that a change must wait for, such as "lease NAME of ann"; empty if there is none."""

    def change(self, why: str) -> None:
        """A change or an end is pending: the owner's `free` is called when nobody uses the board."""

    def keep(self) -> None:
        """The change is cancelled."""

    def labels_changed(self) -> None:
        """Read its labels again and report them."""

    def start_again(self) -> bool:
        """Let it be leased again after it stopped by itself; False if it did not."""

    def drain(self, why: str) -> bool:
        """Keep it from being leased until `resume`; False if no controller leases it."""

    def resume(self) -> bool:
        """Let it be leased again; False if no controller leases it."""

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """The session for a local user's call. RpcError if the user may not make it."""

    @property
    def reach(self) -> Reach:
        """Which hosts its users from the network can reach through the exporter."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve it until it is closed."""

    def begin(self) -> None:
        """Admit users."""

    def end_after_lease(self) -> None:
        """Let it end when no lease is served; at once if it is for local users."""

    def stays(self, config: ExporterConfig | None) -> bool:
        """Whether it remains the same exporter with that configuration: then `finish` keeps its registration."""

    @property
    def is_leased(self) -> bool:
        """Whether a lease is served, whose end `end_after_lease` waits for."""

    async def until_ending(self) -> None:
        """Wait until it is about to close its devices: no lease is served, and its hooks are done."""

    async def finish(self) -> None:
        """Run the last hooks; each has its own time limit."""

    async def leave(self) -> None:
        """Unregister it after `finish` kept the registration: it is not started again."""

    def close(self) -> None:
        """Let `run` end."""


class LocalBoard:
    """A board for local users, who share one session, from its first hook to its last."""

    def __init__(
        self, config: ExporterConfig, inventory: Inventory, socket: Path, free: Callable[[], None]
    ) -> None:
        """`socket` is where its hooks reach it; `free` is called when nobody uses it and a change is pending.

        ConfigError if its devices are invalid.
        """
        settings = config.settings
        self.name = config.board_name
        self.exiting = trio.Event()
        self._hooks = settings.hooks
        self._reach = settings.fetch.reach()
        self._file = config.file
        self._socket = socket
        self._log = BoardLog(self.name)
        self.devices = add_board(inventory, config)
        self._session = Session(
            self.devices,
            name=self.name,
            motd=settings.motd,
            begins_ready=False,
            board=self._log,
        )
        self._free = free
        occupancy = Occupancy(settings.occupancy.limits, registered=False)
        self._occupancy = OccupancyRunner(occupancy, perform=self._perform, changed=lambda: None)
        self._session_hooks: SessionHooks | None = None
        self._closing = trio.Event()

    @property
    def reason(self) -> str:
        """Only a hook can end it."""
        return (
            HOOK_FAILED
            if self._session_hooks is not None and self._session_hooks.exiting.is_set()
            else "it was to end"
        )

    @property
    def code(self) -> ExitCode:
        """FAILED if a hook ended it."""
        return (
            ExitCode.FAILED
            if self._session_hooks is not None and self._session_hooks.exiting.is_set()
            else ExitCode.OK
        )

    @property
    def report(self) -> GetReportResponse:
        """As in GetReport."""
        return report_of(self._session)

    exporter = ""
    use = ""
    """Any number of users share it."""

    @property
    def user(self) -> str:
        """The users of active or recently closed connections."""
        return self._occupancy.user

    def change(self, why: str) -> None:
        """Notify users that it restarts when they have left."""
        self._occupancy.withhold(WithheldReason.CHANGING, why)
        if self.user:
            self._session.notify(f"this board stops or restarts when it is not in use: {why}")

    def keep(self) -> None:
        """The change is cancelled."""
        self._occupancy.release(WithheldReason.CHANGING)

    def labels_changed(self) -> None:
        """Local users do not choose it by labels."""

    def start_again(self) -> bool:
        """Always False: a stopped board is no longer served."""
        return False

    def _perform(self, action: OccupancyAction) -> None:
        if isinstance(action, ApplyChange):
            self._free()

    def drain(self, why: str) -> bool:
        """Always False: no controller leases it."""
        return False

    def resume(self) -> bool:
        """Always False: no controller leases it."""
        return False

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """The session that all users share."""
        if not self._occupancy.is_user(call.connection) and not self._session.reads(use):
            self._occupancy.local_call(call.connection, await caller_name(call))
        return await self._session.enter(call, use)

    @property
    def reach(self) -> Reach:
        """The limit from its file."""
        return self._reach

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve it. Its devices are closed when this returns."""
        with self._log.bound():
            async with (
                exclusive_claim(self._file, socket=str(self._socket)),
                managed_cores(self.devices),
                self._session,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._occupancy.run)
                nursery.start_soon(keeping_open, self.devices)
                nursery.start_soon(self._session.tree.keep_open)
                self._session_hooks = SessionHooks(
                    self._session,
                    self._hooks,
                    nursery,
                    host=str(self._socket),
                    lease=LOCAL_LEASE,
                    board=self.name,
                )
                nursery.start_soon(self._watch_hooks, self._session_hooks)
                task_status.started()
                await self._closing.wait()
                nursery.cancel_scope.cancel()

    async def _watch_hooks(self, hooks: SessionHooks) -> None:
        await hooks.exiting.wait()
        self.exiting.set()

    def begin(self) -> None:
        """Start its beforeLease hook, if it has one."""
        assert self._session_hooks is not None
        self._session_hooks.begin()

    def end_after_lease(self) -> None:
        """End at once: there is no lease."""
        self.exiting.set()

    def stays(self, config: ExporterConfig | None) -> bool:
        """Always False: it is not registered."""
        return False

    is_leased = False
    """Local users are not waited for."""

    async def until_ending(self) -> None:
        """Wait until its afterLease hook is done."""
        await self._closing.wait()

    async def finish(self) -> None:
        """Run its afterLease hook, if it has one."""
        assert self._session_hooks is not None
        await self._session_hooks.end()

    async def leave(self) -> None:
        """Nothing to do: it is not registered."""

    def close(self) -> None:
        """Close it. Connected users see the reason if a hook ended it."""
        assert self._session_hooks is not None
        self._session_hooks.leave()
        self._closing.set()


class LeasedBoard:
    """A board that a controller leases. Local users may use it when no lease excludes them."""

    def __init__(
        self,
        config: ExporterConfig,
        inventory: Inventory,
        socket: Path | None,
        *,
        free: Callable[[], None],
        is_alone: Callable[[], bool],
        before: ServedBoard | None = None,
        health: HealthWatch | None = None,
    ) -> None:
        """`socket` is where users of this host reach it; `free` is called when a `change` can be made.

        Its controller is told of the host's `health`.
        `before` is the same exporter, which has ended without telling its controller; this one goes on for it.
        Where it is to end by itself it does, if it `is_alone`; else it is not leased before it is resumed.
        ConfigError when its devices make no sense.
        """
        from jumpstarter_exporter.registration import create_registered_exporter  # noqa: PLC0415 - local boards need none of it

        self.name = config.board_name
        self.exiting = trio.Event()
        self.reach = config.settings.fetch.reach()
        self.exporter = str(config.enrolment)
        self._registered: RegisteredExporter = create_registered_exporter(
            config,
            inventory,
            socket,
            before=before._registered if isinstance(before, LeasedBoard) else None,  # noqa: SLF001 - the same class
            health=health,
        )
        self._registered.on_free = free
        self._registered.is_alone = is_alone
        self._ended = trio.Event()

    @property
    def reason(self) -> str:
        """The exporter's reason."""
        return self._registered.reason

    @property
    def code(self) -> ExitCode:
        """The exporter's exit code."""
        return self._registered.code

    @property
    def report(self) -> GetReportResponse:
        """The report of the current devices, whoever uses them."""
        return self._registered.report

    @property
    def devices(self) -> BoardDevices:
        """The current devices."""
        return self._registered.devices

    @property
    def use(self) -> str:
        """Who uses it, or why it cannot be leased."""
        return self._registered.use

    @property
    def user(self) -> str:
        """The lease that has it, or its local users."""
        return self._registered.user

    def change(self, why: str) -> None:
        """Let no further lease begin before the change."""
        self._registered.withhold_for_change(why)

    def keep(self) -> None:
        """The change is cancelled."""
        self._registered.release_change()

    def labels_changed(self) -> None:
        """Report them to the controller."""
        self._registered.labels_changed()

    def start_again(self) -> bool:
        """Let it be leased again."""
        return self._registered.start_again()

    def drain(self, why: str) -> bool:
        """A current lease continues."""
        self._registered.drain(why)
        return True

    def resume(self) -> bool:
        """It can be leased unless something else prevents it."""
        self._registered.resume()
        return True

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """The local users' session, or the lease's."""
        return await self._registered.users.enter(call, use)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve it. Its devices are closed when this returns; a current lease stays with its client."""
        try:
            with collapsed():
                await self._registered.serve(task_status=task_status)
        finally:
            self._ended.set()
        self.exiting.set()

    def begin(self) -> None:
        """Nothing to do: it registers by itself."""

    def end_after_lease(self) -> None:
        """Let it end when no lease is served."""
        self._registered.end_after_lease()

    def stays(self, config: ExporterConfig | None) -> bool:
        """Compares endpoint, namespace and name."""
        is_same = config is not None and self._registered.is_exporter(config.enrolment)
        if is_same:
            self._registered.keep_registration()
        return is_same

    @property
    def is_leased(self) -> bool:
        """Whether a lease is served."""
        return self._registered.is_leased

    async def until_ending(self) -> None:
        """Wait until its lease is over."""
        await self._registered.until_ending()

    async def finish(self) -> None:
        """End, and unregister unless `stays` was true."""
        self._registered.end(ExitCode.OK)
        await self._ended.wait()

    async def leave(self) -> None:
        """Unregister now."""
        await self._registered.unregister()

    def close(self) -> None:
        """Nothing to do: it has ended."""
