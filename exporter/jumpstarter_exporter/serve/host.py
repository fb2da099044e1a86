"""The exporter as a daemon: the boards of a host, on a unix socket and, if configured, on the network.

It ends on SIGTERM or SIGINT: no new calls, `GRACE_SECONDS` for running ones, then they are cancelled and all devices
are closed; a lease that runs stays its client's. A second signal ends it at once. SIGHUP has its configuration and its
certificate read again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.process import (
    Daemon,
    DescriptorStore,
    Inherited,
    exit_code_of,
    inherited_descriptors,
    open_daemon,
)
from jumpstarter_proto.rpc import Server
from jumpstarter_proto.run_folders import sweep
from jumpstarter_proto.tasks import collapsed, first_of
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config import Identities
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.devices.presence import follow_presence
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.paths import state_directory
from jumpstarter_exporter.record_clock import RECORD_CLOCK
from jumpstarter_exporter.recording.folder import last_change
from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.board import is_for_leases
from jumpstarter_exporter.serve.boards import GRACE_SECONDS, Boards, Reading, leaves, listen_at
from jumpstarter_exporter.serve.host_server import BoardRegistry, HostServer, Reloaded
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.shutdown import device_names_text, force_exit_on_signal, limit_shutdown_time

if TYPE_CHECKING:
    from jumpstarter_exporter.serve.discovery import Discovery

__all__ = ["END_SECONDS", "GRACE_SECONDS", "run", "status_text"]

MAX_STATUS_BOARDS = 6
"""Boards that the service's status names; of others it has only the number."""
END_SECONDS = 30.0
"""From the last hook to the end of the process, whatever blocking code drivers run."""
SLOW_END_SECONDS = 3.0
"""After this time the log names the devices that the process waits for."""
IDENTITY_LOOK_SECONDS = 5.0
"""Interval of the check whether the host was enrolled, or enrolled again."""
LEASED_END_SECONDS = 10.0
"""From a signal to the end, if all boards are for leases. Jumpstarter 0.9's exporter ends within the same time."""

Listener: TypeAlias = trio.abc.Listener[trio.abc.Stream]
_log = logging.getLogger(__name__)


async def run(
    files: Mapping[str, BoardFile],
    path: Path | None,
    network: Network | None,
    read: Reading,
    *,
    leads: bool = False,
    discovery: Discovery | None = None,
) -> ExitCode:
    """Serve all boards until a signal says otherwise. Says where it listens on stdout, in one line.

    `path` is the socket's; None is the usual place, or if there is only one board, and another exporter has that, one
    beside it. A socket that systemd hands over is used where it is the one at `path`, or there is no other. `files` are
    what `read` has read first; it is asked again for a reload. Boards of `discovery` are beside those of files. Whoever
    `leads` leaves the boards with `ownProcess` to their processes. A hook that ends the exporter ends its board, and
    the process with it if there is no other.

    Raises:
        ConfigError: the devices of the only configuration make no sense.
        GrpcOptionError: its `grpcOptions` make none.
        BoardTakenError: another exporter serves the only board.
        SocketError: another exporter has the socket, or it cannot be made.
        ListenError: the network address is taken or no address.
    """
    await trio.to_thread.run_sync(sweep)
    recordings = state_directory(os.environ) / "consoles"
    RECORD_CLOCK.reached(await trio.to_thread.run_sync(last_change, recordings))
    await trio.to_thread.run_sync(claim.remove_stale_claims)
    with ExitStack() as stack, open_daemon() as daemon:
        found = inherited_descriptors()
        inherited = _listener(found, path, stack)
        alone = next(iter(files.values())) if len(files) == 1 else None
        if inherited is not None:
            path = Path(inherited.getsockname())
            stack.enter_context(sockets.claimed_socket(path, is_inherited=True))
        elif path is None and alone and alone.config is not None and not leaves(alone, leads=leads):
            path = _any_place(alone.name, stack, must=not is_for_leases(alone.config))
        else:
            path = path or sockets.default_path()
            stack.enter_context(sockets.claimed_socket(path))
        host = _Host(
            daemon,
            path,
            network,
            read,
            leads=leads,
            discovery=discovery,
            inherited=inherited,
            stored=found.stored,
        )
        return await host.run(files)


def _listener(found: Inherited, path: Path | None, stack: ExitStack) -> socket.socket | None:
    """The host socket from systemd, closed with the `stack`; others are closed at once."""
    listeners = found.listeners
    for other, one in listeners.items():
        if other == path or (path is None and len(listeners) == 1):
            return stack.enter_context(one)
    for other, one in listeners.items():
        _log.warning("the socket %s from systemd is not used; connections to it are not answered", other)
        one.close()
    return None


def _any_place(board: str, stack: ExitStack, *, must: bool) -> Path | None:
    """The host socket, or a socket beside another exporter's; None if none can be created and none is needed."""
    try:
        host_socket = sockets.default_path()
        try:
            stack.enter_context(sockets.claimed_socket(host_socket))
        except sockets.SocketError as error:
            own = sockets.board_socket_path(host_socket, board)
            stack.enter_context(sockets.claimed_socket(own))
            _log.info("%s; users of this host reach the board %s at %s", error, board, own)
            return own
    except sockets.SocketError as error:
        if must:
            raise
        _log.warning("users of this host cannot use the board %s, which is for leases only: %s", board, error)
        return None
    return host_socket


def status_text(registry: BoardRegistry) -> str:
    """The boards of a host and their use, for `systemctl status`. Names and reasons come from peers."""
    names = registry.names

    def text(name: str) -> str:
        if (board := registry.served.get(name)) is not None:
            return board.use or "free"
        if name in registry.elsewhere:
            return "in its own process"
        return f"not served: {registry.problems.get(name, '')}"

    # Boards with problems or users come first.
    told = sorted(names, key=lambda name: text(name) == "free")
    said = [f"{shown(name)} {shown(text(name))}" for name in told[:MAX_STATUS_BOARDS]]
    more = [f"{len(names) - len(said)} more"] if len(names) > len(said) else []
    number = "1 board" if len(names) == 1 else f"{len(names) or 'no'} boards"
    return f"{number}: {'; '.join([*said, *more])}" if names else f"{number}"


def _host_identity() -> tuple[int, ...] | None:
    """The file with the host's own identity; None if there is none. Blocking."""
    try:
        status = Identities().host_path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Host:
    def __init__(
        self,
        daemon: Daemon,
        path: Path | None,
        network: Network | None,
        read: Reading,
        *,
        leads: bool = False,
        discovery: Discovery | None = None,
        inherited: socket.socket | None = None,
        stored: Mapping[str, int] | None = None,
    ) -> None:
        self._path = path
        self._inherited = inherited
        self._discovery = discovery
        self._network = network
        registry = BoardRegistry()
        self._registry = registry
        self._unread = ""
        """Why the last reload failed."""
        self._daemon, self._manager = daemon, daemon.manager
        daemon.status = self._status
        self._descriptors = DescriptorStore(self._manager, stored)
        self._boards = Boards(registry, path, read, leads=leads, descriptors=self._descriptors)
        self._leads = leads
        self._is_discovering = False
        self._is_telling = False
        self._identity = _host_identity()
        registry.leave, registry.resume, registry.reload = self._leave, self._boards.resume, self._reload
        self._tls = None if network is None else network.tls()
        self._servers: list[Server] = []
        """Listeners of the host socket."""

    async def run(self, files: Mapping[str, BoardFile]) -> ExitCode:
        """Run to the end of the process."""
        async with trio.open_nursery() as boards, trio.open_nursery() as nursery:
            nursery.start_soon(self._manager.run)
            if self._tls is not None:
                nursery.start_soon(self._tls.watch)
            await self._follow_devices(nursery)
            discovered = await self._discover(files, nursery)
            await self._boards.start(files, boards, nursery, discovered)
            self._nursery = nursery
            self._look_for_gone_boards()
            nursery.start_soon(self._watch_identity)
            if where := await self._listen(nursery):
                print_line(f"Listening on {' and '.join(where)}", flush=True)
            self._manager.ready()
            self._boards.begin()
            nursery.start_soon(self._descriptors.run)
            number = await self._wait_for_stop()
            if number is not None:
                _log.info("%s: ending", number.name)
            self._descriptors.hold()
            self._manager.stopping()
            nursery.start_soon(force_exit_on_signal, self._daemon)
            code = await self._end()
            nursery.cancel_scope.cancel()
        if code is not None:
            # A board's last hook may have ended it with an exit code.
            if number is None:
                return code
            if code is ExitCode.FAILED:
                return code
        return exit_code_of(number)

    async def _follow_devices(self, nursery: trio.Nursery) -> None:
        """Update devices of configured boards. Discovery uses the same watch of the host's devices."""
        follow = partial(follow_presence, self._boards.inventory, trio.CapacityLimiter(2))
        if self._discovery is None:
            nursery.start_soon(follow)  # the boards need not wait for it
        else:
            await nursery.start(follow)

    async def _discover(
        self, files: Mapping[str, BoardFile], nursery: trio.Nursery
    ) -> Mapping[str, BoardFile]:
        """Start discovery; it keeps the boards of discovered devices up to date."""
        if (discovery := self._discovery) is None:
            return {}
        boards = self._boards
        try:
            with collapsed():
                await nursery.start(discovery.run, boards, boards.inventory, files)
        except UdevError as error:
            if not files:
                raise
            _log.warning("only configured boards are served: %s", error)
            return {}
        self._is_discovering = True
        boards.rediscover, boards.on_free = discovery.reload, discovery.free
        self._registry.discovery = discovery
        return discovery.files

    def _look_for_gone_boards(self) -> None:
        """Retire boards that are gone, on a host that registers all of its boards."""
        if self._is_telling:
            self._boards.on_removed()
        if not self._leads or self._is_telling or not Identities().host_path.exists():
            return
        from jumpstarter_exporter.registration.host import GoneBoards, KnownBoards  # noqa: PLC0415 - hosts without a controller need none of it

        def known() -> KnownBoards:
            files = self._boards.files
            return KnownBoards(files.keys(), {file for file in files.values() if file}, self._is_discovering)

        gone = GoneBoards(known)
        self._is_telling = True
        self._boards.on_removed = gone.look
        self._nursery.start_soon(gone.run)

    async def _watch_identity(self) -> None:
        """Reload when the host was enrolled, or enrolled again."""
        while True:
            await trio.sleep(IDENTITY_LOOK_SECONDS)
            identity = await trio.to_thread.run_sync(_host_identity)
            if identity != self._identity:
                self._identity = identity
                _log.info("the identity of this host has changed")
                await self._try_reload()

    async def _listen(self, nursery: trio.Nursery) -> list[str]:
        where = []
        if self._path is not None:
            if (inherited := self._inherited) is not None:
                listener: Listener = trio.SocketListener(trio.socket.from_stdlib_socket(inherited))
            else:
                listener = listen_at(self._path)
            await self._serve(Server(HostServer(self._registry).services()), [listener], nursery)
            where.append(str(self._path))
        if self._network is not None:
            listeners = await self._network.listeners(self._tls)
            server = self._network.server(HostServer(self._registry, is_remote=True).services())
            await self._serve(server, listeners, nursery)
            where.append(self._network.address(listeners))
        return where

    async def _serve(self, server: Server, listeners: list[Listener], nursery: trio.Nursery) -> None:
        await nursery.start(server.serve, listeners)
        self._servers.append(server)

    async def _wait_for_stop(self) -> signal.Signals | None:
        """Wait for a signal that ends the process; None if all boards have ended by themselves."""
        number: signal.Signals | None = None

        async def reload() -> None:
            _log.info("SIGHUP")
            await self._try_reload()

        async def signalled() -> None:
            nonlocal number
            number = await self._daemon.wait_for_stop(reload)

        await first_of(self._boards.ended.wait, signalled)
        return number

    async def _try_reload(self) -> None:
        try:
            await self._reload()
        except JumpstarterError as error:
            _log.error("reload failed, nothing was changed: %s", error)

    def _leave(self) -> None:
        """See `Boards.leave`. Ports of boards that end before others are kept for the next start, too.

        When no lease is served any more, devices do not keep the process for longer than after a signal.
        """
        self._descriptors.hold()
        self._boards.leave()
        self._nursery.start_soon(self._bound_the_end)

    async def _reload(self) -> list[Reloaded]:
        """Reload; see `Boards.reload`. The certificate is reloaded, too, and the service manager is notified."""
        with self._manager.reloading():
            if self._tls is not None:
                await self._tls.look(always=True)
            try:
                done = await self._boards.reload()
            except JumpstarterError as error:
                self._unread = f"reload failed: {error}"
                raise
            self._unread = ""
            self._look_for_gone_boards()  # the host may have been enrolled meanwhile
            return done

    def _status(self) -> str:
        """The status line for `systemctl status`."""
        trouble = "" if self._tls is None else self._tls.trouble
        return "; ".join(filter(None, (status_text(self._registry), trouble, self._unread)))

    async def _bound_the_end(self) -> None:
        await self._boards.until_left()
        self._limit_shutdown_time(END_SECONDS)

    def _limit_shutdown_time(self, seconds: float) -> None:
        closings = self._boards.inventory.closings
        limit_shutdown_time(seconds, lambda: closings.names)

        async def say_why() -> None:
            await trio.sleep(SLOW_END_SECONDS)
            if names := closings.names:
                _log.warning(
                    "the exporter waits for %s to close, for %g s more at most",
                    device_names_text(names),
                    left,
                )

        left = seconds - SLOW_END_SECONDS
        if left > 0:
            trio.lowlevel.spawn_system_task(say_why)  # also after everything else has ended

    async def _end(self) -> ExitCode | None:
        """The exit code of the only board; None if there is none."""
        board = self._boards.host_socket_board
        if self._boards.are_all_leased:
            self._limit_shutdown_time(LEASED_END_SECONDS)
        await self._boards.finish()
        self._limit_shutdown_time(END_SECONDS)
        async with trio.open_nursery() as ending:
            for server in self._servers:
                ending.start_soon(server.shutdown, GRACE_SECONDS)
            ending.start_soon(self._boards.close)
        return None if board is None else board.code
