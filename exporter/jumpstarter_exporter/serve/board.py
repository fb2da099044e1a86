"""A board that is served by this process: for local users, or for the leases of a controller."""

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

from jumpstarter_exporter.boards.claim import claimed
from jumpstarter_exporter.boards.events import Action, Apply, Reason
from jumpstarter_exporter.boards.keeper import Keeper
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.devices.cores import keeping_open, living
from jumpstarter_exporter.devices.from_file import add_board
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.entrance import Use
from jumpstarter_exporter.hooks.life import HOOK_FAILED, LOCAL_LEASE, SessionLife
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.people import person_of
from jumpstarter_exporter.services import report_of
from jumpstarter_exporter.session import Session

if TYPE_CHECKING:
    from jumpstarter_exporter.host_health.watch import HealthWatch
    from jumpstarter_exporter.registration.registered import Registered

__all__ = ["Board", "LeasedBoard", "LocalBoard", "is_for_leases"]


def is_for_leases(config: ExporterConfig) -> bool:
    """Whether it has a controller."""
    return config.enrolment is not None


class Board(Protocol):
    """What the host does with a board, in this order: run, begin, finish, close."""

    name: str
    exiting: trio.Event
    """It wants to end, as when a hook with `onFailure: exit` has failed."""

    @property
    def reason(self) -> str:
        """Why, then."""

    @property
    def code(self) -> ExitCode:
        """Of the process, if it was to end by itself and there is no other board."""

    @property
    def exporter(self) -> str:
        """As what and of which controller it is leased; empty if none leases it."""

    @property
    def report(self) -> GetReportResponse:
        """Its devices, for users of this host."""

    @property
    def use(self) -> str:
        """Who has it, or what keeps it from being leased; empty when it is free, or no controller leases it."""

    @property
    def user(self) -> str:
        """For whom a change has to wait, as "lease NAME of ann"; empty when nobody uses it."""

    def change(self, why: str) -> None:
        """It is to begin anew, or to end: whoever made it is told when nobody uses it."""

    def keep(self) -> None:
        """It is not, after all."""

    def labels_changed(self) -> None:
        """Look at its labels again, and tell whoever is to know."""

    def start_again(self) -> bool:
        """Let it be leased again, if it has stopped by itself; False if it has not."""

    def drain(self, why: str) -> bool:
        """Keep it from being leased, until `resume`; False if no controller leases it."""

    def resume(self) -> bool:
        """Let it be leased again; False if no controller leases it."""

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """The session in which a user of the host makes that call. RpcError when they may not."""

    @property
    def reach(self) -> Reach:
        """How far its users on the network get with the exporter's hands."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until it is closed."""

    def begin(self) -> None:
        """Let users in."""

    def end_after_lease(self) -> None:
        """Have it want to end when no lease is served; at once, if it is for the users of the host."""

    def stays(self, config: ExporterConfig | None) -> bool:
        """Whether, made anew of that, it is the same exporter: then `finish` tells its controller of no end."""

    @property
    def is_leased(self) -> bool:
        """Whether a lease is served, for whose end `end_after_lease` waits."""

    async def until_ending(self) -> None:
        """Until it is about to close its devices: no lease is served any more, and its hooks are done."""

    async def finish(self) -> None:
        """The last hooks; each has its own time."""

    async def leave(self) -> None:
        """Tell its controller of the end, which `finish` did not: it is not made anew after all."""

    def close(self) -> None:
        """Have `run` end."""


class LocalBoard:
    """A board for the users of this host, who share one session, from its first hook to its last."""

    def __init__(
        self, config: ExporterConfig, inventory: Inventory, socket: Path, free: Callable[[], None]
    ) -> None:
        """`socket` is where its hooks reach it; `free` is called when a `change` can be made.

        ConfigError when its devices make no sense.
        """
        settings = config.settings
        self.name = config.board_name
        self.exiting = trio.Event()
        self._hooks = settings.hooks
        self._reach = settings.fetch.reach()
        self._file = config.file
        self._socket = socket
        self._log = BoardLog(self.name)
        self._devices = add_board(inventory, config)
        self._session = Session(
            self._devices,
            name=settings.metadata.name,
            motd=settings.motd,
            begins_ready=False,
            board=self._log,
        )
        self._free = free
        occupancy = Occupancy(settings.occupancy.limits, registered=False)
        self._keeper = Keeper(occupancy, perform=self._perform, changed=lambda: None)
        self._life: SessionLife | None = None
        self._closing = trio.Event()

    @property
    def reason(self) -> str:
        """Only a hook can end it."""
        return HOOK_FAILED if self._life is not None and self._life.exiting.is_set() else "it was to end"

    @property
    def code(self) -> ExitCode:
        """Failed, if it was a hook."""
        return ExitCode.FAILED if self._life is not None and self._life.exiting.is_set() else ExitCode.OK

    @property
    def report(self) -> GetReportResponse:
        """As GetReport tells it."""
        return report_of(self._session)

    exporter = ""
    use = ""
    """Any number of users share it."""

    @property
    def user(self) -> str:
        """Those of its users who do something, or did so a moment ago."""
        return self._keeper.user

    def change(self, why: str) -> None:
        """Its users hear that it is to begin anew when they have left."""
        self._keeper.withhold(Reason.CHANGING, why)
        if self.user:
            self._session.tell(f"this board ends, or begins anew, when nobody uses it: {why}")

    def keep(self) -> None:
        """It is not, after all."""
        self._keeper.release(Reason.CHANGING)

    def labels_changed(self) -> None:
        """Its users do not choose it by labels."""

    def start_again(self) -> bool:
        """It is not served any more when it has stopped."""
        return False

    def _perform(self, action: Action) -> None:
        if isinstance(action, Apply):
            self._free()

    def drain(self, why: str) -> bool:
        """There is nothing that it could be kept from."""
        return False

    def resume(self) -> bool:
        """The same."""
        return False

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """The one session of all of them."""
        if not self._keeper.is_user(call.connection) and not self._session.reads(use):
            self._keeper.local_call(call.connection, await person_of(call))
        return await self._session.enter(call, use)

    @property
    def reach(self) -> Reach:
        """As its file says."""
        return self._reach

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Its devices are closed at the end."""
        with self._log.bound():
            async with (
                claimed(self._file, socket=str(self._socket)),
                living(self._devices),
                self._session,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._keeper.run)
                nursery.start_soon(keeping_open, self._devices)
                nursery.start_soon(self._session.tree.keep_open)
                self._life = SessionLife(
                    self._session,
                    self._hooks,
                    nursery,
                    host=str(self._socket),
                    lease=LOCAL_LEASE,
                    board=self.name,
                )
                nursery.start_soon(self._watch_hooks, self._life)
                task_status.started()
                await self._closing.wait()
                nursery.cancel_scope.cancel()

    async def _watch_hooks(self, life: SessionLife) -> None:
        await life.exiting.wait()
        self.exiting.set()

    def begin(self) -> None:
        """Its beforeLease hook runs, if it has one."""
        assert self._life is not None
        self._life.begin()

    def end_after_lease(self) -> None:
        """It has no lease that anybody would wait for."""
        self.exiting.set()

    def stays(self, config: ExporterConfig | None) -> bool:
        """It is no exporter of a controller."""
        return False

    is_leased = False
    """Nobody would wait for the users of the host."""

    async def until_ending(self) -> None:
        """Behind its afterLease hook."""
        await self._closing.wait()

    async def finish(self) -> None:
        """Its afterLease hook, if it has one."""
        assert self._life is not None
        await self._life.end()

    async def leave(self) -> None:
        """Nobody is to hear of it."""

    def close(self) -> None:
        """Users who are connected see why, if it was a hook that ended it."""
        assert self._life is not None
        self._life.leave()
        self._closing.set()


class LeasedBoard:
    """A board that a controller leases. Users of this host get at it as far as leases let them."""

    def __init__(
        self,
        config: ExporterConfig,
        inventory: Inventory,
        socket: Path | None,
        *,
        free: Callable[[], None],
        is_alone: Callable[[], bool],
        before: Board | None = None,
        health: HealthWatch | None = None,
    ) -> None:
        """`socket` is where users of this host reach it; `free` is called when a `change` can be made.

        Its controller is told of the host's `health`.
        `before` is the same exporter, which has ended without telling its controller; this one goes on for it.
        Where it is to end by itself it does, if it `is_alone`; else it is not leased before it is resumed.
        ConfigError when its devices make no sense.
        """
        from jumpstarter_exporter.registration import registered_exporter  # noqa: PLC0415 - local boards need none of it

        self.name = config.board_name
        self.exiting = trio.Event()
        self.reach = config.settings.fetch.reach()
        self.exporter = str(config.enrolment)
        self._registered: Registered = registered_exporter(
            config,
            inventory,
            socket,
            before=before._registered if isinstance(before, LeasedBoard) else None,  # noqa: SLF001 - one class
            health=health,
        )
        self._registered.on_free = free
        self._registered.is_alone = is_alone
        self._ended = trio.Event()

    @property
    def reason(self) -> str:
        """As the exporter has it."""
        return self._registered.reason

    @property
    def code(self) -> ExitCode:
        """As the exporter has it."""
        return self._registered.code

    @property
    def report(self) -> GetReportResponse:
        """Of the devices that are there, whoever has them."""
        return self._registered.report

    @property
    def use(self) -> str:
        """As the exporter has it."""
        return self._registered.use

    @property
    def user(self) -> str:
        """The lease that has it, or the users of its host."""
        return self._registered.user

    def change(self, why: str) -> None:
        """No lease begins before that is done."""
        self._registered.change(why)

    def keep(self) -> None:
        """It is not, after all."""
        self._registered.keep()

    def labels_changed(self) -> None:
        """Its controller is to know."""
        self._registered.labels_changed()

    def start_again(self) -> bool:
        """The users of its host have had it all the time."""
        return self._registered.start_again()

    def drain(self, why: str) -> bool:
        """A lease that runs goes on."""
        self._registered.drain(why)
        return True

    def resume(self) -> bool:
        """It can be leased, unless something else is in the way."""
        self._registered.resume()
        return True

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """The host's users' own session, or the lease's."""
        return await self._registered.users.enter(call, use)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Its devices are closed at the end; a lease that runs stays its client's."""
        try:
            with collapsed():
                await self._registered.serve(task_status=task_status)
        finally:
            self._ended.set()
        self.exiting.set()

    def begin(self) -> None:
        """It registers by itself."""

    def end_after_lease(self) -> None:
        """Have it want to end when no lease is served."""
        self._registered.end_after_lease()

    def stays(self, config: ExporterConfig | None) -> bool:
        """By its endpoint, namespace and name."""
        is_same = config is not None and self._registered.is_exporter(config.enrolment)
        if is_same:
            self._registered.stay()
        return is_same

    @property
    def is_leased(self) -> bool:
        """As the exporter has it."""
        return self._registered.is_leased

    async def until_ending(self) -> None:
        """Behind its lease."""
        await self._registered.until_ending()

    async def finish(self) -> None:
        """The controller hears of it, unless it `stays`."""
        self._registered.end(ExitCode.OK)
        await self._ended.wait()

    async def leave(self) -> None:
        """The controller hears of it now."""
        await self._registered.leave()

    def close(self) -> None:
        """It is over already."""
