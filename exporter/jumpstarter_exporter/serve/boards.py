"""The boards of a host as their files say: served, not served any more, served anew when a file has changed.

`reload` reads the files again. What follows is done at once where nobody uses the board, else when they have left it; a
board whose file says what it said is not touched. A file that is broken changes nothing at the board that it was for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.documents import ConfigError
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.process import DescriptorStore
from jumpstarter_proto.rpc import Server, unix_listener
from jumpstarter_proto.tasks import collapsed, single
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.config.model import ExporterConfig
from jumpstarter_exporter.devices.from_file import check_board, first_fault
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.logs import unbind
from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.board import Board, LeasedBoard, LocalBoard, is_for_leases
from jumpstarter_exporter.serve.door import Outcome, OwnDoor, Reloaded, Roll
from jumpstarter_exporter.services import services

if TYPE_CHECKING:
    from jumpstarter_exporter.host_health.watch import HealthWatch

__all__ = ["GRACE_SECONDS", "Boards", "Reading", "ReloadError", "leaves", "listen_at"]

GRACE_SECONDS = 0.5
"""Enough for a call that is about to answer; consoles and logs never end by themselves."""

Reading = Callable[[Mapping[str, BoardFile]], Mapping[str, BoardFile]]
"""Reads the files; gets what was read before. Blocking. Raises JumpstarterError: that says nothing about boards."""

_log = logging.getLogger(__name__)


class ReloadError(JumpstarterError):
    """The files cannot be taken up now."""

    status = "FAILED_PRECONDITION"


@dataclass(eq=False)
class _Entry:
    """One board."""

    name: str
    file: BoardFile | None = None
    """What it is to be; None when its file is gone."""
    board: Board | None = None
    """What is served, or is being started or stopped."""
    served: BoardFile | None = None
    """Of which it was made."""
    servers: list[Server] = field(default_factory=list)
    own: ExitStack = field(default_factory=ExitStack)
    """Its own socket."""
    has_socket: bool = False
    is_moving: bool = False
    """It is being started or stopped."""
    regrouping: str = ""
    """Why it is to get or to lose discovered devices when nobody uses it; empty if it is not."""
    is_given_up: bool = False
    """It is not served, and not tried again before somebody says so."""
    asked: str = ""
    """Why it has been asked to change."""
    handover: ExitStack | None = None
    """Ends when its hardware is released."""
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def config(self) -> ExporterConfig | None:
        return None if self.file is None else self.file.config

    @property
    def pending(self) -> str:
        """Why what is served is not what it is to be; empty if it is, or its file is broken."""
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
        """Whether it is to end, or to begin anew, and nobody uses it."""
        return self.board is not None and bool(self.pending) and not self.board.user

    def end_handover(self) -> None:
        """Nobody is to wait for what it has."""
        if self.handover is not None:
            self.handover.close()
            self.handover = None

    @property
    def is_discovered(self) -> bool:
        """Whether it has no file, and had none."""
        known = self.file or self.served
        return known is not None and known.is_discovered

    @property
    def is_settled(self) -> bool:
        """Nothing happens to it before somebody leaves it."""
        return not self.is_moving and (self.board is None or not self.pending or bool(self.board.user))


class Boards:
    """All of one host's. Use it inside of its `run`."""

    def __init__(
        self,
        roll: Roll,
        path: Path | None,
        read: Reading,
        *,
        leads: bool = False,
        descriptors: DescriptorStore | None = None,
    ) -> None:
        """`path` is the door's socket. `roll` is kept true. For `leads` see `leaves`, for `descriptors` `Inventory`."""
        self.ended = trio.Event()
        """The last board has ended by itself."""
        self.inventory = Inventory(descriptors)
        """What they consist of."""
        self.rediscover: Callable[[Mapping[str, BoardFile]], Awaitable[Sequence[ConfigError]]] = _nothing
        """Called by a reload with the files that were read: which devices are discovered may depend on them.

        It returns what is wrong with files that say what is discovered.
        """
        self.on_free: Callable[[], None] = lambda: None
        """Called when nobody uses one of the boards that `show_discovered` has let wait, or one has ended."""
        self.on_removed: Callable[[], None] = lambda: None
        """Called when a board is gone with its file, or its devices."""
        self._roll = roll
        roll.file_of = lambda name: (
            None if (entry := self._entries.get(name)) is None else entry.file or entry.served
        )
        roll.default = lambda: "" if (entry := self._at_door) is None else entry.name
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
        self._moved = trio.Event()

    @property
    def boards(self) -> list[Board]:
        """Those that are served."""
        return list(self._roll.served.values())

    @property
    def _at_door(self) -> _Entry | None:
        """The only configured board, or without any the only one that was discovered.

        It is behind the door and has no socket of its own; the process ends with it.
        """
        entries = list(self._entries.values())
        at_door = [entry for entry in entries if not entry.is_discovered] or entries
        return at_door[0] if len(at_door) == 1 else None

    @property
    def door_board(self) -> Board | None:
        """What users get who name no board; None if they have to."""
        return None if (entry := self._at_door) is None else entry.board

    @property
    def are_all_leased(self) -> bool:
        """Whether controllers lease all that have files; discovered ones take no time to end either."""
        configured = [one.board for one in self._entries.values() if one.board and not one.is_discovered]
        return all(isinstance(board, LeasedBoard) for board in configured)

    @property
    def files(self) -> Mapping[str, Path | None]:
        """Of all boards that there are to be; None for discovered ones."""
        return {
            entry.name: None if entry.is_discovered or entry.file is None else entry.file.path
            for entry in self._entries.values()
        }

    @property
    def users(self) -> Mapping[str, str]:
        """For whom a change of each board has to wait, by its name; empty for those that nobody uses."""
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
                await self._start(entry, must=entry is self._at_door)
        self._is_started = True
        self.show_discovered(self._discovered, self._waiting)  # others may have come meanwhile

    def begin(self) -> None:
        """Let users in: everything listens."""
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
            # What is just being stopped is not served any more, as its users see it.
            before = {name: self._roll.served.get(name) for name in self._entries}
            discovered = {
                entry.name: self._devices_of(entry.name)
                for entry in self._entries.values()
                if entry.is_discovered
            }
            files = await trio.to_thread.run_sync(self._read, known)
            again = {name for name, board in self._roll.served.items() if board.start_again()}
            self._configured = files
            # Some of it is done: whoever has asked may leave, and the rest follows all the same.
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
                if one.outcome is Outcome.REMOVED and one.name in discovered
                else one
                for one in done
            ]
            done = [
                replace(one, text="goes on, with devices that have changed: jumpstarter-exporter boards")
                if one.outcome is Outcome.UNCHANGED
                and discovered.get(one.name, {}) != self._devices_of(one.name, only=discovered)
                else one
                for one in done
            ]
            done = [
                replace(one, outcome=Outcome.RESTARTED, text="started again, as it had stopped")
                if one.name in again and one.outcome is Outcome.UNCHANGED
                else one
                for one in done
            ]
        for one in done:
            _log.info("%s: %s", one.name, one.text)  # what is wrong was said when it was new
        return [
            *done,
            *(Reloaded(error.file.name, Outcome.BROKEN, f"not taken up: {error}") for error in broken),
        ]

    def _devices_of(self, name: str, only: Collection[str] | None = None) -> Mapping[str, object]:
        """What the devices of a board are, by their paths; nothing of one that is not among `only`, or not served."""
        if name not in self.inventory.boards or (only is not None and name not in only):
            return {}
        slots = self.inventory.boards[name].slots.items()
        return {path: (slot.spec.kind, dict(slot.spec.values)) for path, slot in slots}

    def show_discovered(self, files: Mapping[str, BoardFile], waiting: Mapping[str, str]) -> None:
        """These are the discovered boards; a file with the name of one counts before it.

        Nobody new is to use those that are `waiting`, for the reason there; `on_free` is called when one is free.
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
                check_board(file.config, entry.served.config)  # while what runs can go on
            except JumpstarterError as error:
                wrong = error if isinstance(error, ConfigError) else ConfigError(str(error), file=file.path)
                entry.file = replace(file, config=None, error=wrong)

    def _reloaded(self, name: str, entry: _Entry | None, before: Board | None) -> Reloaded:
        if entry is None:
            return Reloaded(name, Outcome.REMOVED, "its file is gone; it is not served any more")
        if (board := entry.board) is None:
            if entry.config is None:
                is_empty = entry.file is not None and entry.file.is_empty
                outcome = Outcome.WAITING if is_empty else Outcome.BROKEN
                return Reloaded(name, outcome, f"not served: {_why(entry.file)}")
            if name in self._roll.elsewhere:
                outcome = Outcome.UNCHANGED if before is None else Outcome.REMOVED
                return Reloaded(name, outcome, "left to a process of its own")
            if (other := self._in_the_way(entry)) is not None:
                user = other.board.user if other.board is not None else ""
                return Reloaded(name, Outcome.WAITING, f"begins after {user} of {shown(other.name)}")
            return Reloaded(name, Outcome.FAILED, f"not served: {self._roll.problems.get(name, '')}")
        if entry.file is None:
            return Reloaded(name, Outcome.WAITING, f"its file is gone; it ends after {board.user}")
        if entry.pending or entry.regrouping:
            whom = board.user or "those who use a board with which it exchanges devices"
            return Reloaded(name, Outcome.WAITING, f"changes after {whom}")
        if entry.config is None:
            return Reloaded(name, Outcome.BROKEN, f"goes on as it was: {_why(entry.file)}")
        if board is before:
            return Reloaded(name, Outcome.UNCHANGED, "unchanged")
        outcome, text = (Outcome.STARTED, "served") if before is None else (Outcome.RESTARTED, "restarted")
        if (fault := first_fault(entry.config)) is not None:
            return Reloaded(name, Outcome.BROKEN, f"{text}, but for what has a mistake: {fault}")
        return Reloaded(name, outcome, text)

    async def resume(self, name: str) -> list[str]:
        """Serve what is not served, if it can be: that board, or all. Says which are, then."""
        meant = [entry for entry in self._entries.values() if name in ("", entry.name)]
        while any(entry.is_moving for entry in meant):
            await self._moved.wait()
        tried = [
            entry
            for entry in meant
            if entry.board is None and entry.config is not None and entry.name not in self._roll.elsewhere
        ]
        for entry in tried:
            entry.is_given_up = False
        self._advance()
        while not all(entry.is_settled for entry in tried):
            await self._moved.wait()
        return [entry.name for entry in tried if entry.board is not None]

    def _advance(self) -> None:
        """Begin what can be done now. To be called whenever something has changed."""
        for entry in list(self._entries.values()):
            if entry.is_moving or self._is_ending:
                continue
            if (board := entry.board) is not None:
                pending = entry.pending or entry.regrouping
                change = pending or ("" if entry.config else _why(entry.file))
                if not entry.config and not pending and self._roll.changes.get(entry.name) != change:
                    _log.error("the board %s goes on as it was: %s", entry.name, change)
                self._roll.changes[entry.name] = change
                if pending != entry.asked:
                    entry.asked = pending
                    board.change(pending) if pending else board.keep()
                if entry.is_to_stop:
                    self._hand_over(entry)
                else:
                    entry.end_handover()
                if entry is not self._at_door and not entry.has_socket:
                    self._move(entry, self._give_socket)
            elif entry.file is None:
                del self._entries[entry.name]
                self._roll.problems.pop(entry.name, None)
                self._roll.elsewhere.pop(entry.name, None)
                self.on_removed()
            elif entry.config is None:
                self._refuse(entry, _why(entry.file))
            elif leaves(entry.file, leads=self._leads):
                self._leave_elsewhere(entry, entry.file)
            elif not entry.is_given_up and not self._is_leaving:
                if self._can_start(entry):
                    self._move(entry, self._start)
                else:
                    self._roll.problems[entry.name] = "its file was another board's, which is still used"
        self._moved.set()
        self._moved = trio.Event()

    def _can_start(self, entry: _Entry) -> bool:
        """Whether a board that is not served is to be, now."""
        file = entry.file
        if file is None or file.config is None or leaves(file, leads=self._leads):
            return False
        is_wanted = not (entry.is_given_up or self._is_leaving or self._is_ending)
        return is_wanted and self._in_the_way(entry) is None

    def _in_the_way(self, entry: _Entry) -> _Entry | None:
        """Another board that has the same file still."""
        assert entry.file is not None
        path = entry.file.path
        others = [one for one in self._entries.values() if one is not entry and one.served is not None]
        return next((one for one in others if one.served is not None and one.served.path == path), None)

    def _apply(self, entry: _Entry) -> None:
        """Nobody uses it, so what is pending can be done."""
        if entry.regrouping:
            self.on_free()
        self._stop_if_free(entry)
        self._advance()

    def _stop_if_free(self, entry: _Entry) -> None:
        if entry.is_to_stop and not entry.is_moving:
            self._hand_over(entry)
            self._move(entry, self._begin_anew)

    def _hand_over(self, entry: _Entry) -> None:
        """Other boards may be given what it has: they wait for that from now on, until it is stopped."""
        if entry.handover is None:
            entry.handover = ExitStack()
            entry.handover.enter_context(self.inventory.closings.under_way())

    def _move(self, entry: _Entry, how: Callable[[_Entry], Awaitable[None]]) -> None:
        async def moving() -> None:
            unbind()  # it may be a board's own task that has found out that another can begin
            try:
                await how(entry)
            finally:
                entry.is_moving = False
            if entry.asked:  # it may have been left meanwhile
                self._stop_if_free(entry)
            self._advance()

        entry.is_moving = True
        self._nursery.start_soon(moving)

    # One board.

    async def _begin_anew(self, entry: _Entry) -> None:
        """Stop it, and serve it as it is to be now. Its controller hears of an end only if that is not done."""
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

    async def _start(self, entry: _Entry, *, must: bool = False, before: Board | None = None) -> None:
        """Serve it. What is wrong is its problem, or is raised if it `must` be served.

        `before` is the same exporter, of whose end its controller has not heard.
        """
        file = entry.file
        assert file is not None
        assert entry.config is not None
        entry.served, entry.ended, entry.asked = file, trio.Event(), ""
        listener: trio.abc.Listener[trio.abc.Stream] | None = None
        try:
            if entry is not self._at_door:
                _check_claim(entry.config.file)  # a socket of its own would be that process's, too
            listener = self._socket_of(entry, must=not is_for_leases(entry.config))
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
                _log.warning("the board %s is left to its process: %s", entry.name, error)
                entry.is_given_up = True
                self._leave_elsewhere(entry, file)
                return
            if not isinstance(error, JumpstarterError):
                _log.exception("the board %s cannot be served", entry.name)
            self._give_up(entry, str(error) or type(error).__name__)
            return
        entry.board = self._roll.served[entry.name] = board
        self._roll.problems.pop(entry.name, None)
        self._roll.elsewhere.pop(entry.name, None)
        if listener is not None:
            await self._serve(entry, board, listener)
        if self._is_begun:
            _log.info("the board %s is served as it is configured now", entry.name)
            self._begin(entry, board)
        if self._is_leaving:  # since it is being started
            board.end_after_lease()

    def _make(self, entry: _Entry, config: ExporterConfig, before: Board | None = None) -> Board:
        own = sockets.of_board(self._path, entry.name) if self._path and entry.has_socket else None
        path = self._path if entry is self._at_door else own

        def free() -> None:
            self._apply(entry)

        if is_for_leases(config):
            return LeasedBoard(
                config,
                self.inventory,
                path,
                free=free,
                is_alone=lambda: entry is self._at_door,
                before=before,
                health=self._host_health(),
            )
        if path is None:
            raise sockets.SocketError(
                "users of this host cannot reach it, as there is no place for a socket; choose one with --socket, and "
                "start the exporter again"
            )
        return LocalBoard(config, self.inventory, path, free)

    def _host_health(self) -> HealthWatch:
        """One for all boards that tell of it."""
        from jumpstarter_exporter.host_health.watch import HealthWatch  # noqa: PLC0415 - local boards need none of it

        if self._health is None:
            self._health = HealthWatch(self.inventory)
        return self._health

    async def _run(self, entry: _Entry, board: Board, *, task_status: trio.TaskStatus[None]) -> None:
        """To its end. A fault of ours in one board ends no other."""
        try:
            await board.run(task_status=task_status)
        except Exception as error:
            if entry.board is not board or entry is self._at_door:
                raise  # whoever starts it, or has no other, hears of it
            _log.exception("the board %s has failed", board.name)
            if not entry.is_moving:  # else whoever stops it does the rest
                self._forget(entry)
                self._give_up(
                    entry, f"it has failed ({single(error)}); see the log, and {_again(entry.name)}"
                )
                for server in entry.servers:
                    await server.shutdown(0)
                self._advance()
        finally:
            entry.ended.set()

    def _begin(self, entry: _Entry, board: Board) -> None:
        board.begin()
        self._nursery.start_soon(self._watch, entry, board)

    async def _watch(self, entry: _Entry, board: Board) -> None:
        """Stop a board that wants to end; if it is the only one, the exporter ends."""
        await board.exiting.wait()
        # Users who ask have the time to see why.
        await trio.sleep(GRACE_SECONDS)
        while entry.is_moving and entry.board is board:  # as when it gets a socket of its own
            await self._moved.wait()
        if entry.board is not board or self._is_ending:
            return
        if entry is self._at_door:
            self.ended.set()
            return
        self._move(entry, self._stop_by_itself)

    async def _stop_by_itself(self, entry: _Entry) -> None:
        assert entry.board is not None
        problem = f"{entry.board.reason}; {_again(entry.name)}"
        entry.is_given_up = True
        await self._stop(entry, problem)
        if entry.is_given_up:  # nobody has had the files read again meanwhile
            self._refuse(entry, problem)
        if self._is_leaving and not self._roll.served:
            self.ended.set()

    async def _stop(
        self, entry: _Entry, problem: str = "it is just ending, or beginning anew; try again"
    ) -> None:
        """Serve it no more, after its last hook. Its users see why, if that made it end."""
        board = entry.board
        assert board is not None
        await board.finish()
        if self._roll.served.pop(entry.name, None) is not None:
            self._roll.problems[entry.name] = problem
        async with trio.open_nursery() as ending:
            for server in entry.servers:
                ending.start_soon(server.shutdown, GRACE_SECONDS)
        board.close()
        await entry.ended.wait()
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        """What was served is no more."""
        self._roll.served.pop(entry.name, None)
        self._roll.changes.pop(entry.name, None)
        entry.board = entry.served = None
        entry.end_handover()
        entry.servers = []
        entry.own.close()
        entry.has_socket = False
        if entry.name in self.inventory.boards:
            self.inventory.remove(entry.name)
        self.on_free()

    def _give_up(self, entry: _Entry, problem: str) -> None:
        """It is not tried again before somebody says so."""
        entry.is_given_up = True
        self._refuse(entry, problem)

    def _leave_elsewhere(self, entry: _Entry, file: BoardFile) -> None:
        """Another process has it, or is to have it."""
        self._roll.problems.pop(entry.name, None)
        self._roll.elsewhere[entry.name] = file.path

    def _refuse(self, entry: _Entry, problem: str) -> None:
        self._roll.elsewhere.pop(entry.name, None)
        if self._roll.problems.get(entry.name) != problem:
            # That nothing is plugged in is no fault.
            level = logging.INFO if entry.file is not None and entry.file.is_empty else logging.ERROR
            _log.log(level, "the board %s is not served: %s", entry.name, problem)
        self._roll.problems[entry.name] = problem

    # Sockets of their own.

    def _socket_of(self, entry: _Entry, *, must: bool) -> trio.abc.Listener[trio.abc.Stream] | None:
        """A board's own, if there are others. SocketError if there `must` be one and cannot."""
        if entry is self._at_door or self._path is None:
            return None
        path = sockets.of_board(self._path, entry.name)
        try:
            with ExitStack() as stack:
                stack.enter_context(sockets.claimed(path))
                listener = listen_at(path)
                entry.own = stack.pop_all()
        except sockets.SocketError as error:
            if must:
                raise
            _log.warning("the board %s has no socket of its own: %s", entry.name, error)
            return None
        entry.has_socket = True
        return listener

    async def _give_socket(self, entry: _Entry) -> None:
        """It was alone, and is not any more; who has come in meanwhile stays."""
        if entry.board is not None and (listener := self._socket_of(entry, must=False)) is not None:
            await self._serve(entry, entry.board, listener)
        entry.has_socket = True  # if it could not be made, that was said once

    async def _serve(self, entry: _Entry, board: Board, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        server = Server((*services(board), OwnDoor(self._roll, entry.name)))
        await self._nursery.start(server.serve, [listener])
        entry.servers.append(server)

    # The end of all.

    def leave(self) -> None:
        """End when no lease is served any more."""
        leases = [f"{name}: {board.use}" for name, board in self._roll.served.items() if board.is_leased]
        _log.info("ending after the leases that run%s", f" ({'; '.join(leases)})" if leases else "")
        self._is_leaving = True
        for board in self.boards:
            board.end_after_lease()
        if not self._roll.served and not any(entry.is_moving for entry in self._entries.values()):
            self.ended.set()

    async def until_left(self) -> None:
        """Behind `leave`: until each board is about to close its devices, or has done so."""
        while boards := self.boards:
            for board in boards:
                await board.until_ending()
            if boards == self.boards:
                return

    async def finish(self) -> None:
        """The last hooks of all of them; each has its own time."""
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
        """Have all of them end."""
        async with trio.open_nursery() as ending:
            for entry in self._entries.values():
                for server in entry.servers:
                    ending.start_soon(server.shutdown, GRACE_SECONDS)
        for entry in self._entries.values():
            if entry.board is not None:
                entry.board.close()
            entry.own.close()


async def _nothing(files: Mapping[str, BoardFile]) -> Sequence[ConfigError]:
    """Nothing is discovered."""
    return ()


def listen_at(path: Path) -> trio.abc.Listener[trio.abc.Stream]:
    """A listener at a socket's path. SocketError when it cannot be made."""
    try:
        return unix_listener(path, mode=sockets.MODE, group=sockets.shared_group())
    except OSError as error:
        raise sockets.SocketError(
            f"no socket can be made at {path}: {error.strerror or error}; choose another with --socket"
        ) from None


def leaves(file: BoardFile, *, leads: bool) -> bool:
    """Whether the board is left to a process of its own: whoever serves all of a folder `leads`."""
    return leads and file.config is not None and file.config.settings.own_process


def _check_claim(file: Path) -> None:
    """BoardTakenError if another process has the board of that file."""
    if (held := claim.holder(file)) is not None:
        raise held.error


def _why(file: BoardFile | None) -> str:
    return "its file is gone" if file is None else str(file.error)


def _again(name: str) -> str:
    return f"`jumpstarter-exporter resume {shown(name)}` starts it again"
