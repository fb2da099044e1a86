"""The exporter as a daemon: one session for local users, on a unix socket and, if asked, on the network.

It ends on SIGTERM or SIGINT: no new calls, `GRACE_SECONDS` for running ones, then they are cancelled and all devices
are closed. A second signal ends it at once. SIGHUP has its certificate read again; without one, it ends it, too.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.reach import EVERYWHERE, Reach
from jumpstarter_proto.rpc import Limits, Server, connections_allowed, tcp_listeners, unix_listener
from jumpstarter_proto.run_folders import sweep
from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter import sockets
from jumpstarter_exporter.config import ExporterConfig, build
from jumpstarter_exporter.ending import end_in_time, hurry
from jumpstarter_exporter.hooks.life import LOCAL_LEASE, SessionLife
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.passphrase import let_everybody_in, require_passphrase
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.user_reach import reach_limited_to

if TYPE_CHECKING:
    from jumpstarter_proto.rpc import ServerTls

__all__ = ["END_SECONDS", "GRACE_SECONDS", "ListenError", "Network", "run"]

GRACE_SECONDS = 0.5
"""Enough for a call that is about to answer; consoles and logs never end by themselves."""

END_SECONDS = 30.0
"""From a signal to the end of the process, whatever a driver's blocking code does."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger(__name__)


class ListenError(JumpstarterError):
    """The network address cannot be listened on."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True)
class Network:
    """Where to listen besides the socket."""

    host: str | None
    """None is every interface."""
    port: int
    certificate: Path | None = None
    key: Path | None = None
    """Without the two, in plaintext."""
    passphrase: str | None = None

    def tls(self) -> ServerTls | None:
        """The server's side of TLS. ListenError when the files are no certificate and key."""
        if self.certificate is None or self.key is None:
            return None
        from jumpstarter_proto.rpc import ServerTls  # noqa: PLC0415 - most exporters need no TLS

        try:
            return ServerTls(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ListenError(
                f"{self.certificate} and {self.key} cannot be used for TLS: {error.strerror or error}; "
                "give a PEM certificate chain and its key"
            ) from error


async def run(config: ExporterConfig, path: Path, network: Network | None) -> ExitCode:
    """Serve until a signal says otherwise. Says where it listens on stdout, in one line.

    Raises:
        ConfigError: the configuration's devices make no sense.
        SocketError: another exporter has the socket, or it cannot be made.
        ListenError: the network address is taken or no address.
    """
    await trio.to_thread.run_sync(sweep)
    root = build(config, lenient=True)
    settings = config.settings
    with ExitStack() as stack:
        stack.enter_context(sockets.claimed(path))
        board = BoardLog()
        stack.enter_context(board.bound())
        session = Session(
            root, name=settings.metadata.name, motd=settings.motd, begins_ready=False, board=board
        )
        async with session:
            servers = [(session.server, [_unix(path)], EVERYWHERE)]
            where = str(path)
            tls = None
            if network is not None:
                tls = network.tls()
                listeners = await _network(network, tls)
                servers.append((_public_server(session, network), listeners, settings.fetch.reach()))
                where += f" and {_address(network, listeners)}"
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
        _notify("READY=1")
        life.begin()
        number = await _told_to_end(signals, life, tls)
        if number is not None:
            _log.info("%s: ending", signal.Signals(number).name)
        _notify("STOPPING=1")
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


async def _network(network: Network, tls: ServerTls | None) -> list[trio.abc.Listener[trio.abc.Stream]]:
    context = None if tls is None else lambda: tls.context
    try:
        return list(await tcp_listeners(network.host, network.port, ssl_context=context))
    except OSError as error:
        where = f"{network.host or '*'}:{network.port}"
        raise ListenError(
            f"cannot listen on {where}: {error.strerror or error}; choose another --listen"
        ) from None


def _public_server(session: Session, network: Network) -> Server:
    check = let_everybody_in if network.passphrase is None else require_passphrase(network.passphrase)
    limits = Limits(connections=connections_allowed(Limits().connections))
    return session.new_server(check, limits=limits)


def _address(network: Network, listeners: list[trio.abc.Listener[trio.abc.Stream]]) -> str:
    port = network.port
    for listener in listeners:
        inner = getattr(listener, "transport_listener", listener)
        if port == 0 and isinstance(inner, trio.SocketListener):
            port = inner.socket.getsockname()[1]
    kind = "TLS" if network.certificate else "plaintext"
    return f"{network.host or '*'}:{port} ({kind}{', passphrase' if network.passphrase else ''})"


def _notify(state: str) -> None:
    """Tell systemd, if it wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError as error:
            _log.warning("systemd does not listen on %s: %s", address, error)
