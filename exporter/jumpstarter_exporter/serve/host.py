"""The exporter as a daemon: the boards of a host, on a unix socket and, if asked, on the network.

It ends on SIGTERM or SIGINT: no new calls, `GRACE_SECONDS` for running ones, then they are cancelled and all devices
are closed; a lease that runs stays its client's. A second signal ends it at once. SIGHUP has its certificate read
again; without one it ends, too, after the leases that run.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import Server, unix_listener
from jumpstarter_proto.run_folders import sweep
from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.ending import end_in_time, hurry
from jumpstarter_exporter.errors import collapsed, single
from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.board import Board, LeasedBoard, LocalBoard, is_for_leases
from jumpstarter_exporter.serve.door import Door, Roll
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.notify import notify

__all__ = ["END_SECONDS", "GRACE_SECONDS", "run"]

GRACE_SECONDS = 0.5
"""Enough for a call that is about to answer; consoles and logs never end by themselves."""

END_SECONDS = 30.0
"""From the last hook to the end of the process, whatever a driver's blocking code does."""
LEASED_END_SECONDS = 10.0
"""From a signal to that, where all boards are for leases (wire.md 3.4)."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger(__name__)


async def run(
    configs: Sequence[ExporterConfig],
    path: Path | None,
    network: Network | None,
    problems: Mapping[str, str],
    elsewhere: Mapping[str, Path] | None = None,
) -> ExitCode:
    """Serve all boards until a signal says otherwise. Says where it listens on stdout, in one line.

    `path` is the socket's; None is the usual place, or if there is only one board, and another exporter has that, one
    beside it. `problems` are boards that cannot be served, and why; `elsewhere` the files of those that have processes
    of their own. A hook that ends the exporter ends its
    board, and the process with it if there is no other.

    Raises:
        ConfigError: the devices of the only configuration make no sense.
        OptionError: its `grpcOptions` make none.
        BoardTakenError: another exporter serves the only board.
        SocketError: another exporter has the socket, or it cannot be made.
        ListenError: the network address is taken or no address.
    """
    await trio.to_thread.run_sync(sweep)
    await trio.to_thread.run_sync(claim.sweep)
    with ExitStack() as stack, trio.open_signal_receiver(*_SIGNALS) as signals:
        alone = configs[0] if len(configs) == 1 and not problems and not elsewhere else None
        if path is None and alone is not None:
            path = _any_place(alone.board_name, stack, must=not is_for_leases(alone))
        else:
            path = path or sockets.default_path()
            stack.enter_context(sockets.claimed(path))
        return await _Host(path, network, problems, elsewhere).run(configs, signals)


def _any_place(board: str, stack: ExitStack, *, must: bool) -> Path | None:
    """The door, or a socket beside that of another exporter; None if there is no place for one, and need not be."""
    try:
        door = sockets.default_path()
        try:
            stack.enter_context(sockets.claimed(door))
        except sockets.SocketError as error:
            own = sockets.of_board(door, board)
            stack.enter_context(sockets.claimed(own))
            _log.info("%s; users of this host reach the board %s at %s", error, board, own)
            return own
    except sockets.SocketError as error:
        if must:
            raise
        _log.warning("users of this host cannot use the board %s, which is for leases only: %s", board, error)
        return None
    return door


class _Host:
    def __init__(
        self,
        path: Path | None,
        network: Network | None,
        problems: Mapping[str, str],
        elsewhere: Mapping[str, Path] | None = None,
    ) -> None:
        self._path = path
        self._network = network
        self._inventory = Inventory()
        self._roll = Roll(problems=dict(problems), elsewhere=dict(elsewhere or {}), leave=self._leave)
        self._tls = None if network is None else network.tls()
        self._servers: dict[str, list[Server]] = {}
        """Of one board each, by its name; those of the door under no name."""
        self._alone = False
        """There is one board, which is behind the door and has no socket of its own."""
        self._ended = trio.Event()
        """All of it has ended by itself."""
        self._is_leaving = False
        """It ends with its last board."""
        self._stack = ExitStack()

    async def run(self, configs: Sequence[ExporterConfig], signals: AsyncIterator[int]) -> ExitCode:
        """To the end of all."""
        self._alone = len(configs) == 1 and self._roll.names == []
        with self._stack:
            async with trio.open_nursery() as boards, trio.open_nursery() as nursery:
                if self._tls is not None:
                    nursery.start_soon(self._tls.watch)
                for config in configs:
                    await self._add(config, boards, nursery)
                if where := await self._listen(nursery):
                    print_line(f"Listening on {' and '.join(where)}", flush=True)
                notify("READY=1")
                for board in self._boards:
                    board.begin()
                    nursery.start_soon(self._watch, board)
                number = await self._told_to_end(signals)
                if number is not None:
                    _log.info("%s: ending", signal.Signals(number).name)
                notify("STOPPING=1")
                nursery.start_soon(hurry, signals)
                await self._end()
                nursery.cancel_scope.cancel()
        # A board's last hook may have wanted it at the very end.
        if self._alone and number is None:
            return self._boards[0].code
        if self._alone and any(board.code == ExitCode.FAILED for board in self._boards):
            return ExitCode.FAILED
        return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK

    @property
    def _boards(self) -> list[Board]:
        return list(self._roll.served.values())

    async def _add(self, config: ExporterConfig, boards: trio.Nursery, nursery: trio.Nursery) -> None:
        name = config.board_name
        board: Board
        listener: trio.abc.Listener[trio.abc.Stream] | None = None
        try:
            if not self._alone and (held := claim.holder(config.file)) is not None:
                raise held.error  # its socket is that process's, too
            if is_for_leases(config):
                listener = self._socket_of(name, must=False)
                own = None if listener is None or self._path is None else sockets.of_board(self._path, name)
                board = LeasedBoard(config, self._inventory, self._path if self._alone else own)
            else:
                assert self._path is not None
                path = self._path if self._alone else sockets.of_board(self._path, name)
                board = LocalBoard(config, self._inventory, path)
                listener = self._socket_of(name, must=True)
            with collapsed():
                await boards.start(self._run, board)
        except JumpstarterError as error:
            if listener is not None:
                await trio.aclose_forcefully(listener)
            if self._alone:
                raise
            if isinstance(error, claim.BoardTakenError):
                _log.warning("the board %s is left to its process: %s", name, error)
                self._roll.elsewhere[name] = config.file
            else:
                self._refuse(name, str(error))
            return
        self._roll.served[name] = board
        if listener is not None:
            await self._serve(name, board.server, [listener], nursery)

    def _socket_of(self, name: str, *, must: bool) -> trio.abc.Listener[trio.abc.Stream] | None:
        """A board's own, if there are others. SocketError if there `must` be one and cannot."""
        if self._alone or self._path is None:
            return None
        path = sockets.of_board(self._path, name)
        try:
            self._stack.enter_context(sockets.claimed(path))
            return _unix(path)
        except sockets.SocketError as error:
            if must:
                raise
            _log.warning("the board %s has no socket of its own: %s", name, error)
            return None

    async def _run(self, board: Board, *, task_status: trio.TaskStatus[None]) -> None:
        """To its end. A fault of ours in one board ends no other."""
        try:
            await board.run(task_status=task_status)
        except Exception as error:
            if board.name not in self._roll.served or self._alone:
                raise  # whoever starts it, or has no other, hears of it
            _log.exception("the board %s has failed", board.name)
            self._refuse(
                board.name, f"it has failed ({single(error)}); see the log, and restart the exporter"
            )
            del self._roll.served[board.name]
            for server in self._servers.pop(board.name, ()):
                await server.shutdown(0)

    def _refuse(self, name: str, problem: str) -> None:
        _log.error("the board %s is not served: %s", name, problem)
        self._roll.problems[name] = problem

    async def _listen(self, nursery: trio.Nursery) -> list[str]:
        where = []
        if self._path is not None:
            await self._serve("", Server(Door(self._roll).services()), [_unix(self._path)], nursery)
            where.append(str(self._path))
        if self._network is not None:
            listeners = await self._network.listeners(self._tls)
            server = self._network.server(Door(self._roll, is_remote=True).services())
            await self._serve("", server, listeners, nursery)
            where.append(self._network.address(listeners))
        return where

    async def _serve(
        self,
        name: str,
        server: Server,
        listeners: list[trio.abc.Listener[trio.abc.Stream]],
        nursery: trio.Nursery,
    ) -> None:
        await nursery.start(server.serve, listeners)
        self._servers.setdefault(name, []).append(server)

    async def _watch(self, board: Board) -> None:
        """Stop a board that wants to end; if it is the only one, the exporter ends."""
        await board.exiting.wait()
        # Users who ask have the time to see why.
        await trio.sleep(GRACE_SECONDS)
        if board.name not in self._roll.served:
            return  # it has failed
        if self._alone:
            self._ended.set()
            return
        self._refuse(board.name, f"{board.reason}; restart the exporter")
        await board.finish()
        del self._roll.served[board.name]
        for server in self._servers.pop(board.name, ()):
            await server.shutdown(GRACE_SECONDS)
        board.close()
        if self._is_leaving and not self._roll.served:
            self._ended.set()

    async def _told_to_end(self, signals: AsyncIterator[int]) -> int | None:
        """Wait for a signal, and say which, or for all to have ended."""
        number: int | None = None
        async with trio.open_nursery() as nursery:

            async def board() -> None:
                await self._ended.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(board)
            while (heard := await anext(signals)) == signal.SIGHUP:
                if self._tls is not None:
                    await self._tls.look(always=True)
                    continue
                _log.info("SIGHUP")
                self._leave()
            number = heard
            nursery.cancel_scope.cancel()
        return number

    def _leave(self) -> None:
        """End when no lease is served any more."""
        _log.info("ending after the leases that run")
        self._is_leaving = True
        for board in self._boards:
            board.end_after_lease()
        if not self._boards:
            self._ended.set()

    async def _end(self) -> None:
        boards = self._boards
        if all(isinstance(board, LeasedBoard) for board in boards):
            end_in_time(LEASED_END_SECONDS)
        async with trio.open_nursery() as finishing:
            for board in boards:
                finishing.start_soon(board.finish)  # hooks have times of their own
        end_in_time(END_SECONDS)
        async with trio.open_nursery() as ending:
            for servers in self._servers.values():
                for server in servers:
                    ending.start_soon(server.shutdown, GRACE_SECONDS)
        for board in boards:
            board.close()


def _unix(path: Path) -> trio.abc.Listener[trio.abc.Stream]:
    try:
        return unix_listener(path, mode=sockets.MODE, group=sockets.shared_group())
    except OSError as error:
        raise sockets.SocketError(
            f"no socket can be made at {path}: {error.strerror or error}; choose another with --socket"
        ) from None
