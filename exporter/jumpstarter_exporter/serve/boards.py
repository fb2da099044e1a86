"""Starts, stops and restarts the boards of a host as their files require.

`reload` reads the files again. What follows is done at once where nobody uses the board, else when they have left it;
a board whose file says what it said is not touched. A file that is broken changes nothing at the board that it was
for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.process import DescriptorStore
from jumpstarter_proto.rpc import Server, unix_listener
from jumpstarter_proto.tasks import collapsed, single
from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config.board_devices import check_board, first_fault
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.config.hosted import learn_hosted
from jumpstarter_exporter.config.model import ExporterConfig
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.board import LeasedBoard, LocalBoard, ServedBoard, is_for_leases
from jumpstarter_exporter.serve.host_server import BoardRegistry, BoardServer, Reloaded, ReloadOutcome
from jumpstarter_exporter.session.logs import unbind
from jumpstarter_exporter.session.services import services

if TYPE_CHECKING:
    from jumpstarter_exporter.host_health.watch import HealthWatch

__all__ = ["GRACE_SECONDS", "Boards", "Reading", "ReloadError", "leaves", "listen_at"]

MAX_IGNORED_KEYS = 5
"""Unknown keys of a file that a reload names; the log has all."""
GRACE_SECONDS = 0.5
"""Enough for a call that is about to return; consoles and log streams never end by themselves."""

Reading = Callable[[Mapping[str, BoardFile]], Mapping[str, BoardFile]]
"""Reads the files, given those that were read before. Blocking. Raises JumpstarterError if the boards are unknown."""

_log = logging.getLogger(__name__)


class ReloadError(JumpstarterError):
    """The files cannot be applied now."""

    status = "FAILED_PRECONDITION"


@dataclass(eq=False)
class _Entry:
    """One board."""

    name: str
    file: BoardFile | None = None
    """Its file's state; None if the file is gone."""
    board: ServedBoard | None = None
    """The board that is served, or is being started or stopped."""
    served: BoardFile | None = None
    """The file that it was made from."""
    servers: list[Server] = field(default_factory=list)
    own: ExitStack = field(default_factory=ExitStack)
    """It has its own socket."""
    has_socket: bool = False
    is_moving: bool = False
    """It is being started or stopped."""
    regrouping: str = ""
    """Why it gets or loses discovered devices when nobody uses it; empty if it does not."""
    is_given_up: bool = False
    """It is not served, and only tried again on request."""
    asked: str = ""
    """Why a change is pending."""
    handover: ExitStack | None = None
    """Ends when its hardware is released."""
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def config(self) -> ExporterConfig | None:
        return None if self.file is None else self.file.config

    @property
    def pending(self) -> str:
        """Why the served board differs from its file; empty if it does not, or if the file is invalid."""
        if self.board is None:
            return ""
        assert self.served is not None
        if self.file is None or self.file.is_empty:
            return "no device is assigned to it any more" if self.served.is_discovered else "its file is gone"
        if self.file.config is None or self.file.says_the_same(self.served):
            return ""
        return "its file has changed"

    @property
    def is_to_stop(self) -> bool:
        """Whether it must end or restart, and nobody uses it."""
        return self.board is not None and bool(self.pending) and not self.board.user

    def end_handover(self) -> None:
        """Boards need not wait for its hardware any more."""
        if self.handover is not None:
            self.handover.close()
            self.handover = None

    @property
    def is_discovered(self) -> bool:
        """Whether it has and had no file."""
        known = self.file or self.served
        return known is not None and known.is_discovered

    @property
    def is_settled(self) -> bool:
        """Nothing will change before a user leaves."""
        return not self.is_moving and (self.board is None or not self.pending or bool(self.board.user))


class Boards:
    """All boards of a host. Use it inside its `run`."""

    def __init__(
        self,
        registry: BoardRegistry,
        path: Path | None,
        read: Reading,
        *,
        leads: bool = False,
        descriptors: DescriptorStore | None = None,
    ) -> None:
        """`path` is the host socket. `registry` is kept up to date.

        For `leads` see `leaves`, for `descriptors` `Inventory`.
        """
        self.ended = trio.Event()
        """Set when the last board has ended by itself."""
        self.inventory = Inventory(descriptors)
        """Their devices."""
        self.rediscover: Callable[[Mapping[str, BoardFile]], Awaitable[Sequence[ConfigError]]] = _nothing
        """Called by a reload with the files that were read: which devices are discovered may depend on them.

        It returns what is wrong with files that say what is discovered.
        """
        self.on_free: Callable[[], None] = lambda: None
        """Called when a board that `show_discovered` lets wait is free, or when a board has ended."""
        self.on_removed: Callable[[], None] = lambda: None
        """Called when a board is gone with its file or devices."""
        self._registry = registry
        registry.file_of = lambda name: (
            None if (entry := self._entries.get(name)) is None else entry.file or entry.served
        )
        registry.default = lambda: "" if (entry := self._host_socket_entry) is None else entry.name
        self._configured: Mapping[str, BoardFile] = {}
        self._discovered: Mapping[str, BoardFile] = {}
        self._waiting: Mapping[str, str] = {}
        self._is_started = False
        self._path = path
        self._read = read
        self._leads = leads
        self._entries: dict[str, _Entry] = {}
        self._health: HealthWatch | None = None
        self._is_begun = False
        self._is_leaving = False
        self._is_ending = False
        self._reloading = trio.Lock()
        self._moved = Broadcast()

    @property
    def boards(self) -> list[ServedBoard]:
        """The served boards."""
        return list(self._registry.served.values())

    @property
    def _host_socket_entry(self) -> _Entry | None:
        """The only configured board, or without any the only discovered one.

        It is served on the host socket and has no socket of its own; the process ends with it.
        """
        entries = list(self._entries.values())
        candidates = [entry for entry in entries if not entry.is_discovered] or entries
        return candidates[0] if len(candidates) == 1 else None

    @property
    def host_socket_board(self) -> ServedBoard | None:
        """The board for users who name none; None if they must name one."""
        return None if (entry := self._host_socket_entry) is None else entry.board

    @property
    def are_all_leased(self) -> bool:
        """Whether controllers lease all boards that have files; discovered ones end at once."""
        configured = [one.board for one in self._entries.values() if one.board and not one.is_discovered]
        return all(isinstance(board, LeasedBoard) for board in configured)

    @property
    def files(self) -> Mapping[str, Path | None]:
        """The files of all boards; None for discovered ones."""
        return {
            entry.name: None if entry.is_discovered or entry.file is None else entry.file.path
            for entry in self._entries.values()
        }

    @property
    def users(self) -> Mapping[str, str]:
        """For each board the user that a change must wait for; empty if there is none."""
        return {entry.name: entry.board.user for entry in self._entries.values() if entry.board is not None}

    async def start(
        self,
        files: Mapping[str, BoardFile],
        boards: trio.Nursery,
        nursery: trio.Nursery,
        discovered: Mapping[str, BoardFile] | None = None,
    ) -> None:
        """Serve all of them. `boards` ends when all have ended; `nursery` is cancelled.

        Raises JumpstarterError when there is only one, and that cannot be served.
        """
        self._boards_nursery, self._nursery = boards, nursery
        self._configured = files
        self._discovered = self._discovered or discovered or {}
        self._entries = {name: _Entry(name, file) for name, file in {**self._discovered, **files}.items()}
        for entry in self._entries.values():
            if entry.file is None or entry.config is None:
                self._refuse(entry, _why(entry.file))
            elif leaves(entry.file, leads=self._leads):
                self._leave_elsewhere(entry, entry.file)
            else:
                await self._start(entry, must=entry is self._host_socket_entry)
        self._is_started = True
        self.show_discovered(self._discovered, self._waiting)  # devices may have been discovered meanwhile

    def begin(self) -> None:
        """Admit users: all sockets listen."""
        self._is_begun = True
        for entry in self._entries.values():
            if entry.board is not None:
                self._begin(entry, entry.board)

    # Reloading.

    async def reload(self) -> list[Reloaded]:
        """Read the files again, and do what can be done at once; says what became of each board.

        Files that are no board's are among the result if they are broken.
        Another reload meanwhile begins when this one has ended. What a cancellation leaves undone is done all the same.

        Raises:
            JumpstarterError: the files cannot be read; nothing has changed.
        """
        async with self._reloading:
            if self._is_leaving or self._is_ending:
                raise ReloadError("the exporter is about to end; start it again to have its files read")
            known = {
                entry.name: entry.file
                for entry in self._entries.values()
                if entry.file is not None and not entry.file.is_discovered
            }
            # A board that is being stopped is not served any more, from its users' view.
            before = {name: self._registry.served.get(name) for name in self._entries}
            discovered = {
                entry.name: self._devices_of(entry.name)
                for entry in self._entries.values()
                if entry.is_discovered
            }
            files = await trio.to_thread.run_sync(self._read, known)
            again = {name for name, board in self._registry.served.items() if board.start_again()}
            self._configured = files
            # Parts of it are done: the caller may leave, and the rest is still done.
            with trio.CancelScope(shield=True):
                broken = await self.rediscover(files)
            wanted = {**self._discovered, **files}
            for name in {*self._entries, *wanted}:
                self._take(self._entries.setdefault(name, _Entry(name)), wanted.get(name))
            self._advance()
            entries = dict(self._entries)
            while not all(entry.is_settled for entry in self._entries.values()):
                await self._moved.wait()
            names = sorted({*before, *entries})
            done = [self._reloaded(name, self._entries.get(name), before.get(name)) for name in names]
            done = [
                replace(one, text="no device is assigned to it any more; it is not served any more")
                if one.outcome is ReloadOutcome.REMOVED and one.name in discovered
                else one
                for one in done
            ]
            done = [
                replace(one, text="keeps running with changed devices: jumpstarter-exporter boards")
                if one.outcome is ReloadOutcome.UNCHANGED
                and discovered.get(one.name, {}) != self._devices_of(one.name, only=discovered)
                else one
                for one in done
            ]
            done = [
                replace(one, outcome=ReloadOutcome.RESTARTED, text="started again, as it had stopped")
                if one.name in again and one.outcome is ReloadOutcome.UNCHANGED
                else one
                for one in done
            ]
        for one in done:
            _log.info("%s: %s", one.name, one.text)  # errors were logged when they were new
        return [
            *done,
            *(Reloaded(error.file.name, ReloadOutcome.BROKEN, f"not taken up: {error}") for error in broken),
        ]

    def _devices_of(self, name: str, only: Collection[str] | None = None) -> Mapping[str, object]:
        """A board's devices by path; empty if it is not in `only` or not served."""
        if name not in self.inventory.boards or (only is not None and name not in only):
            return {}
        slots = self.inventory.boards[name].slots.items()
        return {path: (slot.spec.kind, dict(slot.spec.values)) for path, slot in slots}

    def show_discovered(self, files: Mapping[str, BoardFile], waiting: Mapping[str, str]) -> None:
        """Set the discovered boards; a file with the same name has precedence.

        No new user may use the `waiting` boards, for the reasons given; `on_free` is called when one is free.
        """
        self._discovered, self._waiting = files, waiting
        if not self._is_started:
            return
        for name in {*self._entries, *files} - {*self._configured}:
            entry = self._entries.setdefault(name, _Entry(name))
            before, file = entry.file, files.get(name)
            if before is None or file is None or not file.says_the_same(before):
                self._take(entry, file)
        for entry in self._entries.values():
            entry.regrouping = waiting.get(entry.name, "")
            if entry.board is not None and entry.is_discovered:
                entry.board.labels_changed()
        self._advance()

    def _take(self, entry: _Entry, file: BoardFile | None) -> None:
        entry.file = file
        entry.is_given_up = False
        if file is not None and file.config is not None and entry.pending:
            try:
                assert entry.served is not None
                assert entry.served.config is not None
                check_board(file.config, entry.served.config)  # while the current board can continue
            except JumpstarterError as error:
                wrong = error if isinstance(error, ConfigError) else ConfigError(str(error), file=file.path)
                entry.file = replace(file, config=None, error=wrong)

    def _reloaded(self, name: str, entry: _Entry | None, before: ServedBoard | None) -> Reloaded:
        if entry is None:
            return Reloaded(name, ReloadOutcome.REMOVED, "its file is gone; it is not served any more")
        if (board := entry.board) is None:
            if entry.config is None:
                is_empty = entry.file is not None and entry.file.is_empty
                outcome = ReloadOutcome.WAITING if is_empty else ReloadOutcome.BROKEN
                return Reloaded(name, outcome, f"not served: {_why(entry.file)}")
            if name in self._registry.elsewhere:
                outcome = ReloadOutcome.UNCHANGED if before is None else ReloadOutcome.REMOVED
                return Reloaded(name, outcome, "runs in its own process")
            if (other := self._in_the_way(entry)) is not None:
                user = other.board.user if other.board is not None else ""
                return Reloaded(name, ReloadOutcome.WAITING, f"begins after {user} of {shown(other.name)}")
            return Reloaded(
                name, ReloadOutcome.FAILED, f"not served: {self._registry.problems.get(name, '')}"
            )
        if entry.file is None:
            return Reloaded(name, ReloadOutcome.WAITING, f"its file is gone; it ends after {board.user}")
        if entry.pending or entry.regrouping:
            whom = board.user or "the users of a board with which it exchanges devices"
            return Reloaded(name, ReloadOutcome.WAITING, f"changes after {whom}{_ignoring(entry.config)}")
        if entry.config is None:
            return Reloaded(name, ReloadOutcome.BROKEN, f"stays as it was: {_why(entry.file)}")
        if board is before:
            return Reloaded(name, ReloadOutcome.UNCHANGED, "unchanged")
        outcome, text = (
            (ReloadOutcome.STARTED, "served") if before is None else (ReloadOutcome.RESTARTED, "restarted")
        )
        if (fault := first_fault(entry.config)) is not None:
            return Reloaded(name, ReloadOutcome.BROKEN, f"{text}, but for what has a mistake: {fault}")
        return Reloaded(name, outcome, f"{text}{_ignoring(entry.config)}")

    async def resume(self, name: str) -> list[str]:
        """Start boards that are not served: that one, or all. Returns those that are served then."""
        meant = [entry for entry in self._entries.values() if name in ("", entry.name)]
        while any(entry.is_moving for entry in meant):
            await self._moved.wait()
        tried = [
            entry
            for entry in meant
            if entry.board is None and entry.config is not None and entry.name not in self._registry.elsewhere
        ]
        for entry in tried:
            entry.is_given_up = False
        self._advance()
        while not all(entry.is_settled for entry in tried):
            await self._moved.wait()
        return [entry.name for entry in tried if entry.board is not None]

    def _advance(self) -> None:
        """Do what can be done now. Called after every change."""
        for entry in list(self._entries.values()):
            if entry.is_moving or self._is_ending:
                continue
            if (board := entry.board) is not None:
                pending = entry.pending or entry.regrouping
                change = pending or ("" if entry.config else _why(entry.file))
                if not entry.config and not pending and self._registry.changes.get(entry.name) != change:
                    _log.error("the board %s was not changed: %s", entry.name, change)
                self._registry.changes[entry.name] = change
                if pending != entry.asked:
                    entry.asked = pending
                    board.change(pending) if pending else board.keep()
                if entry.is_to_stop:
                    self._hand_over(entry)
                else:
                    entry.end_handover()
                if entry is not self._host_socket_entry and not entry.has_socket:
                    self._move(entry, self._give_socket)
            elif entry.file is None:
                del self._entries[entry.name]
                self._registry.problems.pop(entry.name, None)
                self._registry.elsewhere.pop(entry.name, None)
                self.on_removed()
            elif entry.config is None:
                self._refuse(entry, _why(entry.file))
            elif leaves(entry.file, leads=self._leads):
                self._leave_elsewhere(entry, entry.file)
            elif not entry.is_given_up and not self._is_leaving:
                if self._can_start(entry):
                    self._move(entry, self._start)
                else:
                    self._registry.problems[entry.name] = "its file was another board's, which is still used"
        self._moved.notify()

    def _can_start(self, entry: _Entry) -> bool:
        """Whether a board that is not served must be started now."""
        file = entry.file
        if file is None or file.config is None or leaves(file, leads=self._leads):
            return False
        is_wanted = not (entry.is_given_up or self._is_leaving or self._is_ending)
        return is_wanted and self._in_the_way(entry) is None

    def _in_the_way(self, entry: _Entry) -> _Entry | None:
        """Another board that still has the same file."""
        assert entry.file is not None
        path = entry.file.path
        others = [one for one in self._entries.values() if one is not entry and one.served is not None]
        return next((one for one in others if one.served is not None and one.served.path == path), None)

    def _apply(self, entry: _Entry) -> None:
        """Nobody uses it, so a pending change can be applied."""
        if entry.regrouping:
            self.on_free()
        self._stop_if_free(entry)
        self._advance()

    def _stop_if_free(self, entry: _Entry) -> None:
        if entry.is_to_stop and not entry.is_moving:
            self._hand_over(entry)
            self._move(entry, self._begin_anew)

    def _hand_over(self, entry: _Entry) -> None:
        """Other boards may get its hardware: they wait from now on until it is stopped."""
        if entry.handover is None:
            entry.handover = ExitStack()
            entry.handover.enter_context(self.inventory.closings.under_way())

    def _move(self, entry: _Entry, how: Callable[[_Entry], Awaitable[None]]) -> None:
        async def moving() -> None:
            unbind()  # the caller may be another board's task
            try:
                await how(entry)
            finally:
                entry.is_moving = False
            if entry.asked:  # it may be gone meanwhile
                self._stop_if_free(entry)
            self._advance()

        entry.is_moving = True
        self._nursery.start_soon(moving)

    # One board.

    async def _begin_anew(self, entry: _Entry) -> None:
        """Stop it and start it with its new file. It is unregistered only if the start fails."""
        board = entry.board
        assert board is not None
        is_untold = board.stays(entry.config)
        await self._stop(entry)
        can_start = self._can_start(entry)
        if is_untold and not (can_start and board.stays(entry.config)):
            is_untold = False
            await board.leave()
        if can_start:
            await self._start(entry, before=board if is_untold else None)
            if is_untold and entry.board is None:
                await board.leave()

    async def _start(self, entry: _Entry, *, must: bool = False, before: ServedBoard | None = None) -> None:
        """Serve it. What is wrong is its problem, or is raised if it `must` be served.

        `before` is the same exporter, of whose end its controller has not heard.
        """
        file = entry.file
        assert file is not None
        assert entry.config is not None
        entry.served, entry.ended, entry.asked = file, trio.Event(), ""
        listener: trio.abc.Listener[trio.abc.Stream] | None = None
        try:
            if entry is not self._host_socket_entry:
                _check_claim(entry.config.file)  # its socket would belong to that process, too
            listener = self._socket_of(entry, must=not is_for_leases(entry.config))
            await learn_hosted(entry.config)
            board = self._make(entry, entry.config, before)
            with collapsed():
                await self._boards_nursery.start(self._run, entry, board)
        except Exception as error:  # a fault in one board, or in its drivers, must not end the others
            if listener is not None:
                await trio.aclose_forcefully(listener)
            self._forget(entry)
            if must:
                raise
            if isinstance(error, claim.BoardTakenError):
                _log.warning("the board %s is served by its own process: %s", entry.name, error)
                entry.is_given_up = True
                self._leave_elsewhere(entry, file)
                return
            if not isinstance(error, JumpstarterError):
                _log.exception("the board %s cannot be served", entry.name)
            self._give_up(entry, str(error) or type(error).__name__)
            return
        entry.board = self._registry.served[entry.name] = board
        self._registry.problems.pop(entry.name, None)
        self._registry.elsewhere.pop(entry.name, None)
        if listener is not None:
            await self._serve(entry, board, listener)
        if self._is_begun:
            _log.info("the board %s is served with its new configuration", entry.name)
            self._begin(entry, board)
        if self._is_leaving:  # since it is being started
            board.end_after_lease()

    def _make(self, entry: _Entry, config: ExporterConfig, before: ServedBoard | None = None) -> ServedBoard:
        own = sockets.board_socket_path(self._path, entry.name) if self._path and entry.has_socket else None
        path = self._path if entry is self._host_socket_entry else own

        def free() -> None:
            self._apply(entry)

        if is_for_leases(config):
            return LeasedBoard(
                config,
                self.inventory,
                path,
                free=free,
                is_alone=lambda: entry is self._host_socket_entry,
                before=before,
                health=self._host_health(),
            )
        if path is None:
            raise sockets.SocketError(
                "users of this host cannot reach it, because no socket could be created; choose a path with --socket, "
                "and restart the exporter"
            )
        return LocalBoard(config, self.inventory, path, free)

    def _host_health(self) -> HealthWatch:
        """One for all boards that report it."""
        from jumpstarter_exporter.host_health.watch import HealthWatch  # noqa: PLC0415 - local boards need none of it

        if self._health is None:
            self._health = HealthWatch(self.inventory)
        return self._health

    async def _run(self, entry: _Entry, board: ServedBoard, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve it to its end. A fault of ours in one board does not end the others."""
        try:
            await board.run(task_status=task_status)
        except Exception as error:
            if entry.board is not board or entry is self._host_socket_entry:
                raise  # the caller that starts it, or has no other board, gets it
            _log.exception("the board %s has failed", board.name)
            if not entry.is_moving:  # otherwise the task that stops it does the rest
                self._forget(entry)
                self._give_up(
                    entry, f"it has failed ({single(error)}); see the log, and {_again(entry.name)}"
                )
                for server in entry.servers:
                    await server.shutdown(0)
                self._advance()
        finally:
            entry.ended.set()

    def _begin(self, entry: _Entry, board: ServedBoard) -> None:
        board.begin()
        self._nursery.start_soon(self._watch, entry, board)

    async def _watch(self, entry: _Entry, board: ServedBoard) -> None:
        """Stop a board that wants to end; if it is the only one, the exporter ends."""
        await board.exiting.wait()
        # Users have time to read the reason.
        await trio.sleep(GRACE_SECONDS)
        while entry.is_moving and entry.board is board:  # for example while it gets a socket of its own
            await self._moved.wait()
        if entry.board is not board or self._is_ending:
            return
        if entry is self._host_socket_entry:
            self.ended.set()
            return
        self._move(entry, self._stop_by_itself)

    async def _stop_by_itself(self, entry: _Entry) -> None:
        assert entry.board is not None
        problem = f"{entry.board.reason}; {_again(entry.name)}"
        entry.is_given_up = True
        await self._stop(entry, problem)
        if entry.is_given_up:  # the files were not reloaded meanwhile
            self._refuse(entry, problem)
        if self._is_leaving and not self._registry.served:
            self.ended.set()

    async def _stop(
        self, entry: _Entry, problem: str = "it is just ending, or beginning anew; try again"
    ) -> None:
        """Stop it after its last hook. Its users see the reason if it ended by itself."""
        board = entry.board
        assert board is not None
        await board.finish()
        if self._registry.served.pop(entry.name, None) is not None:
            self._registry.problems[entry.name] = problem
        async with trio.open_nursery() as ending:
            for server in entry.servers:
                ending.start_soon(server.shutdown, GRACE_SECONDS)
        board.close()
        await entry.ended.wait()
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        """The board is no longer served."""
        self._registry.served.pop(entry.name, None)
        self._registry.changes.pop(entry.name, None)
        entry.board = entry.served = None
        entry.end_handover()
        entry.servers = []
        entry.own.close()
        entry.has_socket = False
        if entry.name in self.inventory.boards:
            self.inventory.remove(entry.name)
        self.on_free()

    def _give_up(self, entry: _Entry, problem: str) -> None:
        """Stop trying to serve a board until somebody requests it."""
        entry.is_given_up = True
        self._refuse(entry, problem)

    def _leave_elsewhere(self, entry: _Entry, file: BoardFile) -> None:
        """Another process serves it, or will."""
        self._registry.problems.pop(entry.name, None)
        self._registry.elsewhere[entry.name] = file.path

    def _refuse(self, entry: _Entry, problem: str) -> None:
        self._registry.elsewhere.pop(entry.name, None)
        if self._registry.problems.get(entry.name) != problem:
            # It is not a fault that nothing is plugged in.
            level = logging.INFO if entry.file is not None and entry.file.is_empty else logging.ERROR
            _log.log(level, "the board %s is not served: %s", entry.name, problem)
        self._registry.problems[entry.name] = problem

    # Boards' own sockets.

    def _socket_of(self, entry: _Entry, *, must: bool) -> trio.abc.Listener[trio.abc.Stream] | None:
        """Create its own socket if there are other boards. SocketError if that fails and it `must` have one."""
        if entry is self._host_socket_entry or self._path is None:
            return None
        path = sockets.board_socket_path(self._path, entry.name)
        try:
            with ExitStack() as stack:
                stack.enter_context(sockets.claimed_socket(path))
                listener = listen_at(path)
                entry.own = stack.pop_all()
        except sockets.SocketError as error:
            if must:
                raise
            _log.warning("the board %s has no socket: %s", entry.name, error)
            return None
        entry.has_socket = True
        return listener

    async def _give_socket(self, entry: _Entry) -> None:
        """It was alone, and no longer is; connected users stay."""
        if entry.board is not None and (listener := self._socket_of(entry, must=False)) is not None:
            await self._serve(entry, entry.board, listener)
        entry.has_socket = True  # an error was logged already

    async def _serve(
        self, entry: _Entry, board: ServedBoard, listener: trio.abc.Listener[trio.abc.Stream]
    ) -> None:
        server = Server((*services(board), BoardServer(self._registry, entry.name)))
        await self._nursery.start(server.serve, [listener])
        entry.servers.append(server)

    # The end of all boards.

    def leave(self) -> None:
        """End when no lease is served any more."""
        leases = [f"{name}: {board.use}" for name, board in self._registry.served.items() if board.is_leased]
        _log.info("ending after the current leases%s", f" ({'; '.join(leases)})" if leases else "")
        self._is_leaving = True
        for board in self.boards:
            board.end_after_lease()
        if not self._registry.served and not any(entry.is_moving for entry in self._entries.values()):
            self.ended.set()

    async def until_left(self) -> None:
        """After `leave`: wait until each board is about to close its devices, or has done so."""
        while boards := self.boards:
            for board in boards:
                await board.until_ending()
            if boards == self.boards:
                return

    async def finish(self) -> None:
        """Run the last hooks of all boards; each has its own time limit."""
        self._is_ending = True
        async with trio.open_nursery() as finishing:
            for entry in self._entries.values():
                if entry.is_moving:
                    finishing.start_soon(self._until_still, entry)
                elif entry.board is not None:
                    finishing.start_soon(entry.board.finish)

    async def _until_still(self, entry: _Entry) -> None:
        while entry.is_moving:
            await self._moved.wait()
        if entry.board is not None:
            await entry.board.finish()

    async def close(self) -> None:
        """Let all boards end."""
        async with trio.open_nursery() as ending:
            for entry in self._entries.values():
                for server in entry.servers:
                    ending.start_soon(server.shutdown, GRACE_SECONDS)
        for entry in self._entries.values():
            if entry.board is not None:
                entry.board.close()
            entry.own.close()


async def _nothing(files: Mapping[str, BoardFile]) -> Sequence[ConfigError]:
    """Discovery is off."""
    return ()


def listen_at(path: Path) -> trio.abc.Listener[trio.abc.Stream]:
    """A listener at a socket's path. SocketError if it cannot be created."""
    try:
        return unix_listener(path, mode=sockets.MODE, group=sockets.shared_group())
    except OSError as error:
        raise sockets.SocketError(
            f"no socket can be made at {path}: {error.strerror or error}; choose another with --socket"
        ) from None


def leaves(file: BoardFile, *, leads: bool) -> bool:
    """Whether the board runs in its own process: the process that serves the whole folder `leads`."""
    return leads and file.config is not None and file.config.settings.own_process


def _check_claim(file: Path) -> None:
    """BoardTakenError if another process has the board of that file."""
    if (held := claim.claim_holder(file)) is not None:
        raise held.error


def _why(file: BoardFile | None) -> str:
    return "its file is gone" if file is None else str(file.error)


def _ignoring(config: ExporterConfig | None) -> str:
    """Return what of the file is ignored, as the end of a sentence."""
    keys = config.ignored if config is not None else []
    if not keys:
        return ""
    more = f"; and {len(keys) - MAX_IGNORED_KEYS} more" if len(keys) > MAX_IGNORED_KEYS else ""
    return f", and ignores {'; '.join(map(str, keys[:MAX_IGNORED_KEYS]))}{more}"


def _again(name: str) -> str:
    return f"`jumpstarter-exporter resume {shown(name)}` starts it again"
