"""A session's life in a trio loop: what the machine decides is told and done here."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from jumpstarter_proto.hook_times import running_hook
from jumpstarter_proto.run_folders import RunFolder

from jumpstarter_exporter.boards.events import Phase
from jumpstarter_exporter.config.model import Hook, Hooks
from jumpstarter_exporter.hooks.machine import Action, Event, HookPlan, Life
from jumpstarter_exporter.hooks.runner import environment_of, run_hook
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.status import Status

__all__ = ["HOOK_FAILED", "LOCAL_LEASE", "HookSeconds", "SessionLife"]

HOOK_FAILED = "one of its hooks has failed, with onFailure: exit"
"""Why a board is not served any more."""
LOCAL_LEASE = "standalone"
"""A daemon's hooks find it as the name of their lease, as Jumpstarter's do."""
MOTD_BYTES = 64 * 1024

_log = logging.getLogger(__name__)
# What hooks print is for users, however little the exporter's own log is to say.
logging.getLogger("hook").setLevel(logging.INFO)


@dataclass
class HookSeconds:
    """How long the beforeLease hook took the last time that it prepared a board; None before that."""

    before_lease: float | None = None


class SessionLife:
    """Runs a session's hooks around its use. `nursery` has to outlive it; cancelling that ends a hook that runs."""

    def __init__(
        self,
        session: Session,
        hooks: Hooks,
        nursery: trio.Nursery,
        *,
        host: str,
        lease: str,
        client: str = "",
        board: str = "",
        seconds: HookSeconds | None = None,
        record: Callable[[Phase], Awaitable[None]] | None = None,
    ) -> None:
        """`board` is the one that is meant at `host`, if that is where several are.

        `seconds` is of all sessions of a board: each says how long its hook will take by the one before.

        `record` is awaited before users hear that a beforeLease hook has made the board ready, and before the
        afterLease hook begins.
        """
        self.exiting = trio.Event()
        """The exporter has to end, with exit code 1: a hook with `onFailure: exit` failed."""
        self.releasing = trio.Event()
        """The lease is to be given back: it is over, or its beforeLease hook refused the board."""
        self._session = session
        self._hooks = hooks
        self._nursery = nursery
        self._environment = {"host": host, "lease": lease, "client": client, "board": board}
        self._seconds = seconds or HookSeconds()
        self._record = record
        self._over = trio.Event()
        self._farewell = ""
        self._machine = Life(
            HookPlan(
                hooks.before_lease.on_failure if hooks.before_lease else None,
                hooks.after_lease.on_failure if hooks.after_lease else None,
            )
        )

    @property
    def is_over(self) -> bool:
        """Nothing more will be done."""
        return self._over.is_set()

    def begin(self) -> None:
        """Start the beforeLease hook; without one, the board is ready at once."""
        self._apply(self._machine.send(Event.BEGIN))

    def go_on(self) -> None:
        """Begin where another process has ended: the board is ready, and its beforeLease hook has run."""
        self._apply(self._machine.go_on())

    async def end(self) -> None:
        """The user is done: run the afterLease hook, after the beforeLease hook if that still runs."""
        self._apply(self._machine.send(Event.END))
        await self._over.wait()

    def leave(self) -> None:
        """Say that the exporter ends, if a hook made it. Users have had the time to see why, which is lost then."""
        if self._farewell:
            self._tell(Status.OFFLINE, self._farewell)
            self._farewell = ""

    def _tell(self, status: Status, message: str) -> None:
        with self._session.log.bound():
            _log.info("%s: %s", status.name, message)
        self._session.status.become(status, message)

    def _apply(self, happened: list[Action | tuple[Status, str]]) -> None:
        for what in happened:
            match what:
                case (Status.OFFLINE, str() as message):
                    self._farewell = message
                case (Status.BEFORE_LEASE_HOOK as status, str()):
                    self._tell(status, running_hook(self._seconds.before_lease))
                case (Status() as status, str() as message):
                    self._tell(status, message)
                case Action.RUN_BEFORE if self._hooks.before_lease:
                    self._nursery.start_soon(self._run, self._hooks.before_lease, "beforeLease")
                case Action.RUN_AFTER if self._hooks.after_lease:
                    self._nursery.start_soon(self._run, self._hooks.after_lease, "afterLease")
                case Action.EXIT:
                    self.exiting.set()
                case Action.RELEASE:
                    self.releasing.set()
                case _:
                    pass  # users are let in from the start, so that they see what the hook says
        if self._machine.is_over:
            self._over.set()

    async def _run(self, hook: Hook, kind: str) -> None:
        self._session.log.bind()
        if kind == "afterLease" and self._record is not None:
            await self._record(Phase.CLEANING)
        began = trio.current_time()
        try:
            failure = await self._with_motd(hook, kind)
        except Exception as error:  # whatever it is, it is this hook's failure and not the exporter's
            _log.exception("the %s hook", kind)
            failure = f"Hook could not be run: {error}"
        if kind == "beforeLease" and not failure:
            self._seconds.before_lease = trio.current_time() - began
        if self._record is not None and self._machine.is_ready_after(failure):
            await self._record(Phase.LEASED)
        self._apply(self._machine.hook_ended(failure))

    async def _with_motd(self, hook: Hook, kind: str) -> str:
        logger = logging.getLogger(f"hook.{kind}")
        if kind != "beforeLease":
            return await run_hook(hook, environment_of(os.environ, motd=None, **self._environment), logger)
        with RunFolder("jumpstarter-hook-") as folder:
            motd = folder / "motd"
            failure = await run_hook(hook, environment_of(os.environ, motd=motd, **self._environment), logger)
            if motd.is_file() and not motd.is_symlink():
                with motd.open("rb") as file:
                    text = file.read(MOTD_BYTES).decode("utf-8", "replace")
                self._session.motd = "\n".join(part for part in (self._session.motd, text.rstrip()) if part)
            return failure
