"""The exporter as a daemon: one session for local users, on a unix socket and, if asked, on the network.

It ends on SIGTERM or SIGINT: no new calls, `GRACE_SECONDS` for running ones, then they are cancelled and all devices
are closed. A second signal ends it at once. SIGHUP has its certificate read again; without one, it ends it, too.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.reach import EVERYWHERE, Reach
from jumpstarter_proto.rpc import Server, unix_listener
from jumpstarter_proto.run_folders import sweep
from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.devices.from_file import add_board
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.ending import end_in_time, hurry
from jumpstarter_exporter.hooks.life import LOCAL_LEASE, SessionLife
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.serve import sockets
from jumpstarter_exporter.serve.network import Network
from jumpstarter_exporter.serve.notify import notify
from jumpstarter_exporter.services import services
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.user_reach import reach_limited_to

if TYPE_CHECKING:
    from jumpstarter_proto.rpc import ServerTls

__all__ = ["END_SECONDS", "GRACE_SECONDS", "run"]

GRACE_SECONDS = 0.5
"""Enough for a call that is about to answer; consoles and logs never end by themselves."""

END_SECONDS = 30.0
"""From a signal to the end of the process, whatever a driver's blocking code does."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger(__name__)


async def run(config: ExporterConfig, path: Path, network: Network | None) -> ExitCode:
    """Serve until a signal says otherwise. Says where it listens on stdout, in one line.

    Raises:
        ConfigError: the configuration's devices make no sense.
        SocketError: another exporter has the socket, or it cannot be made.
        ListenError: the network address is taken or no address.
    """
    await trio.to_thread.run_sync(sweep)
    devices = add_board(Inventory(), config)
    settings = config.settings
    with ExitStack() as stack:
        stack.enter_context(sockets.claimed(path))
        board = BoardLog()
        stack.enter_context(board.bound())
        session = Session(
            devices, name=settings.metadata.name, motd=settings.motd, begins_ready=False, board=board
        )
        async with session:
            servers = [(session.server, [_unix(path)], EVERYWHERE)]
            where = str(path)
            tls = None
            if network is not None:
                tls = network.tls()
                listeners = await network.listeners(tls)
                servers.append((network.server(services(session)), listeners, settings.fetch.reach()))
                where += f" and {network.address(listeners)}"
            with trio.open_signal_receiver(*_SIGNALS) as signals:
                async with trio.open_nursery() as watch:
                    watch.start_soon(session.tree.keep_open)
                    if tls is not None:
                        watch.start_soon(tls.watch)
                    life = SessionLife(session, settings.hooks, watch, host=str(path), lease=LOCAL_LEASE)
                    code = await _serve(servers, where, signals, life, tls)
                    watch.cancel_scope.cancel()
                return code


async def _serve(
    servers: list[tuple[Server, list[trio.abc.Listener[trio.abc.Stream]], Reach]],
    where: str,
    signals: AsyncIterator[int],
    life: SessionLife,
    tls: ServerTls | None,
) -> ExitCode:
    async with trio.open_nursery() as nursery:
        for server, listeners, reach in servers:
            with reach_limited_to(reach):
                await nursery.start(server.serve, listeners)
        print_line(f"Listening on {where}", flush=True)
        notify("READY=1")
        life.begin()
        number = await _told_to_end(signals, life, tls)
        if number is not None:
            _log.info("%s: ending", signal.Signals(number).name)
        notify("STOPPING=1")
        nursery.start_soon(hurry, signals)
        await life.end()  # its hooks have times of their own
        end_in_time(END_SECONDS)
        async with trio.open_nursery() as ending:
            for server, _, _ in servers:
                ending.start_soon(server.shutdown, GRACE_SECONDS)
        life.leave()
        nursery.cancel_scope.cancel()
    if life.exiting.is_set():
        return ExitCode.FAILED
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK


async def _told_to_end(signals: AsyncIterator[int], life: SessionLife, tls: ServerTls | None) -> int | None:
    """Wait for a signal, and say which, or for a hook that ends the exporter."""
    number: int | None = None
    async with trio.open_nursery() as nursery:

        async def hook() -> None:
            await life.exiting.wait()
            # Users who ask have the time to see why.
            await trio.sleep(GRACE_SECONDS)
            nursery.cancel_scope.cancel()

        nursery.start_soon(hook)
        while (number := await anext(signals)) == signal.SIGHUP and tls is not None:
            await tls.look(always=True)
        nursery.cancel_scope.cancel()
    return number


def _unix(path: Path) -> trio.abc.Listener[trio.abc.Stream]:
    try:
        return unix_listener(path, mode=sockets.MODE, group=sockets.shared_group())
    except OSError as error:
        raise sockets.SocketError(
            f"no socket can be made at {path}: {error.strerror or error}; choose another with --socket"
        ) from None
