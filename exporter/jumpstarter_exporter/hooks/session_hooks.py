"""Runs the hooks of a session, as the state machine decides, and reports its status."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.hook_times import running_hook
from jumpstarter_proto.run_folders import RunFolder

from jumpstarter_exporter.boards.events import ServingPhase
from jumpstarter_exporter.config.model import Hook, Hooks
from jumpstarter_exporter.hooks.machine import HookPlan, SessionAction, SessionEvent, SessionMachine
from jumpstarter_exporter.hooks.runner import environment_of, run_hook
from jumpstarter_exporter.session.session import Session

__all__ = ["HOOK_FAILED", "LOCAL_LEASE", "HookSeconds", "SessionHooks"]

HOOK_FAILED = "one of its hooks has failed, with onFailure: exit"
"""Why a board is no longer served."""
LOCAL_LEASE = "standalone"
"""The name of the lease for hooks of a daemon without a controller, as in Jumpstarter 0.9."""
MOTD_BYTES = 64 * 1024

_log = logging.getLogger(__name__)
# Output of hooks is for users, whatever level the exporter's own log has.
logging.getLogger("hook").setLevel(logging.INFO)


@dataclass
class HookSeconds:
    """Duration of the last successful beforeLease hook; None before that."""

    before_lease: float | None = None


class SessionHooks:
    """Runs a session's hooks. `nursery` must outlive it; cancelling it ends a running hook."""

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
        record: Callable[[ServingPhase], Awaitable[None]] | None = None,
    ) -> None:
        """`board` is the hooks' board if there are several at `host`.

        `seconds` is shared by all sessions of a board: each estimates its hook's duration by the one before. `record`
        is awaited before users learn that a beforeLease hook has made the board ready, and before the afterLease hook
        begins.
        """
        self.exiting = trio.Event()
        """Set when a hook with `onFailure: exit` failed: the exporter must end with exit code 1."""
        self.releasing = trio.Event()
        """Set when the lease must be returned: it is over, or its beforeLease hook failed."""
        self._session = session
        self._hooks = hooks
        self._nursery = nursery
        self._environment = {"host": host, "lease": lease, "client": client, "board": board}
        self._seconds = seconds or HookSeconds()
        self._record = record
        self._over = trio.Event()
        self._farewell = ""
        self._machine = SessionMachine(
            HookPlan(
                hooks.before_lease.on_failure if hooks.before_lease else None,
                hooks.after_lease.on_failure if hooks.after_lease else None,
            )
        )

    @property
    def is_over(self) -> bool:
        """Whether all hooks are done."""
        return self._over.is_set()

    def begin(self) -> None:
        """Start the beforeLease hook; without one, the board is ready at once."""
        self._apply(self._machine.send(SessionEvent.BEGIN))

    def go_on(self) -> None:
        """Continue from an earlier process: the board is ready, and its beforeLease hook has run."""
        self._apply(self._machine.go_on())

    async def end(self) -> None:
        """The user is done: run the afterLease hook, after the beforeLease hook if that still runs."""
        self._apply(self._machine.send(SessionEvent.END))
        await self._over.wait()

    def leave(self) -> None:
        """Report OFFLINE if a hook ends the exporter. Call it when users have had time to read the reason."""
        if self._farewell:
            self._tell(ExporterStatus.OFFLINE, self._farewell)
            self._farewell = ""

    def _tell(self, status: ExporterStatus, message: str) -> None:
        with self._session.log.bound():
            _log.info("%s: %s", status.name, message)
        self._session.status.change(status, message)

    def _apply(self, happened: list[SessionAction | tuple[ExporterStatus, str]]) -> None:
        for what in happened:
            match what:
                case (ExporterStatus.OFFLINE, str() as message):
                    self._farewell = message
                case (ExporterStatus.BEFORE_LEASE_HOOK as status, str()):
                    self._tell(status, running_hook(self._seconds.before_lease))
                case (ExporterStatus() as status, str() as message):
                    self._tell(status, message)
                case SessionAction.RUN_BEFORE if self._hooks.before_lease:
                    self._nursery.start_soon(self._run, self._hooks.before_lease, "beforeLease")
                case SessionAction.RUN_AFTER if self._hooks.after_lease:
                    self._nursery.start_soon(self._run, self._hooks.after_lease, "afterLease")
                case SessionAction.EXIT:
                    self.exiting.set()
                case SessionAction.RELEASE:
                    self.releasing.set()
                case _:
                    pass  # users are admitted from the start, so that they see the hook's output
        if self._machine.is_over:
            self._over.set()

    async def _run(self, hook: Hook, kind: str) -> None:
        self._session.log.bind()
        if kind == "afterLease" and self._record is not None:
            await self._record(ServingPhase.CLEANING)
        began = trio.current_time()
        try:
            failure = await self._with_motd(hook, kind)
        except Exception as error:  # whatever it is, it is this hook's failure and not the exporter's
            _log.exception("the %s hook", kind)
            failure = f"Hook could not be run: {error}"
        if kind == "beforeLease" and not failure:
            self._seconds.before_lease = trio.current_time() - began
        if self._record is not None and self._machine.is_ready_after(failure):
            await self._record(ServingPhase.LEASED)
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
