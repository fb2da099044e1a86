"""A controller as a process: its services on TLS, its administration on a socket, and a router if asked."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
import trio.testing
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.remote import Kind, split_endpoint
from jumpstarter_proto.rpc import (
    Options,
    Server,
    connect_unix,
    server_ssl_context,
    tcp_listeners,
    unix_listener,
)

from jumpstarter_controller.certificates import Certificate, CertificateError, own_certificate
from jumpstarter_controller.engine import Engine
from jumpstarter_controller.folder import Addresses, DataError, DataFolder
from jumpstarter_controller.identity import Authenticator, Subject, TokenIssuer, random_key, signing_key
from jumpstarter_controller.lab import Client
from jumpstarter_controller.router import ROUTER_OPTIONS, RouterService, RouterTokens
from jumpstarter_controller.services import (
    ClientService,
    ControllerService,
    Guard,
    Listening,
    Router,
    Routers,
)
from jumpstarter_controller.services.admin_service import AdminService
from jumpstarter_controller.store import SqliteStore

__all__ = ["Settings", "administrated", "run"]

GRACE_SECONDS = 1.0
"""For calls that are about to answer; streams never end by themselves, and their callers come back."""
OPTIONS = Options(keepalive_interval=20.0, stream_window=64 * 1024, connection_window=1024 * 1024)

EVERY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 - what users write for it
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a controller is started with. Addresses are HOST:PORT; an empty host is every interface."""

    data: Path
    listen: str
    endpoint: str | None = None
    """How others reach it; otherwise as it listens."""
    with_router: bool = False
    router_listen: str = ":8083"
    router_endpoint: str | None = None
    routers: tuple[Router, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


async def run(settings: Settings) -> ExitCode:
    """Serve until SIGTERM or SIGINT. Says where it listens on stdout.

    Raises:
        DataError, StoreError, PrivateFileError, CertificateError: why it cannot start.
    """
    folder = DataFolder(settings.data)
    folder.prepare()
    with folder.locked() as alone:
        if not alone:
            raise DataError(f"another controller uses {settings.data}; stop it, or choose another --data")
        store = SqliteStore(folder.database)
        try:
            return await _run(settings, folder, Engine(store))
        finally:
            store.close()


async def _run(settings: Settings, folder: DataFolder, engine: Engine) -> ExitCode:
    certificate = _certificate(settings, folder)
    try:
        context = server_ssl_context(certificate.chain, certificate.key)
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(
            f"{certificate.chain} and {certificate.key} are no certificate with its key: {error}"
        ) from None
    listeners = await _listen(settings.listen, context)
    endpoint = settings.endpoint or _reachable(settings.listen, listeners)
    issuer = TokenIssuer(signing_key(folder.signing_key), endpoint)
    tokens = RouterTokens(random_key(folder.router_key))
    routers = list(settings.routers)
    servers: list[tuple[Server, Sequence[trio.abc.Listener[Any]]]] = []
    lines = [f"Listening on {endpoint}"]
    if settings.with_router:
        router_listeners = await _listen(settings.router_listen, context)
        reached = settings.router_endpoint or _reachable(settings.router_listen, router_listeners)
        routers.append(Router(reached))
        servers.append((Server([RouterService(tokens)], options=ROUTER_OPTIONS), router_listeners))
        lines.append(f"Router on {reached}")
    if certificate.self_signed:
        lines.append(f"Certificate fingerprint {certificate.fingerprint()}")
    guard = Guard(engine, Authenticator(issuer))
    listening = Listening()

    def rotate(client: Client) -> tuple[str, float]:
        return issuer.issue(Subject(Kind.CLIENT, client.namespace, client.name, client.uid))

    services = [
        ControllerService(engine, guard, listening, Routers(routers, tokens.issue)),
        ClientService(engine, guard, rotate),
    ]
    servers.append((Server(services, options=OPTIONS), listeners))
    addresses = Addresses(endpoint, certificate.pinned())
    folder.remember(addresses)
    admin = AdminService(engine, issuer, endpoint=endpoint, ca=addresses.ca)
    folder.socket.unlink(missing_ok=True)  # ours alone: we hold the lock
    servers.append((Server([admin]), [unix_listener(folder.socket)]))
    try:
        return await _serve(engine, servers, lines)
    finally:
        folder.socket.unlink(missing_ok=True)


async def _serve(
    engine: Engine, servers: list[tuple[Server, Sequence[trio.abc.Listener[Any]]]], lines: list[str]
) -> ExitCode:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            for server, listeners in servers:
                await nursery.start(server.serve, listeners)
            for line in lines:
                print(line, flush=True)  # noqa: T201 - what whoever started us waits for
            number = await anext(signals)
            _log.info("%s: ending", signal.Signals(number).name)
            async with trio.open_nursery() as ending:
                for server, _ in servers:
                    ending.start_soon(server.shutdown, GRACE_SECONDS)
            nursery.cancel_scope.cancel()
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK


@asynccontextmanager
async def administrated(data: Path) -> AsyncIterator[trio.abc.Stream]:
    """A connection to the AdminService of that folder: of the controller that runs, or of one for the moment.

    Raises:
        DataError: it has never run.
        RpcError: UNAVAILABLE, it runs but does not answer.
    """
    folder = DataFolder(data)
    folder.prepare()
    async with AsyncExitStack() as stack:
        if not stack.enter_context(folder.locked()):
            yield await connect_unix(folder.socket)
            return
        addresses = folder.addresses()
        store = SqliteStore(folder.database)
        stack.callback(store.close)
        engine = Engine(store)
        issuer = TokenIssuer(signing_key(folder.signing_key), addresses.endpoint)
        admin = AdminService(engine, issuer, endpoint=addresses.endpoint, ca=addresses.ca)
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            nursery.start_soon(Server([admin]).serve_connection, far)
            yield near
            nursery.cancel_scope.cancel()


def _certificate(settings: Settings, folder: DataFolder) -> Certificate:
    if (settings.certificate is None) != (settings.key is None):
        raise CertificateError(
            "--tls-cert and --tls-key belong together; give both, or neither for one made here"
        )
    if settings.certificate is not None and settings.key is not None:
        return Certificate(settings.certificate, settings.key, False)
    named = (settings.endpoint, settings.router_endpoint)
    hosts = [split_endpoint(one)[0] for one in named if one]
    listening = (settings.listen, settings.router_listen)
    hosts += [host for one in listening if (host := _split(one)[0]) not in EVERY_INTERFACE]
    return own_certificate(folder.path, hosts)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise DataError(f"{address!r} is no address to listen on; write it as [HOST]:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _listen(address: str, context: Any) -> list[trio.abc.Listener[Any]]:
    host, port = _split(address)
    try:
        return list(await tcp_listeners(host or None, port, ssl_context=context))
    except OSError as error:
        raise DataError(f"cannot listen on {address}: {error.strerror or error}; choose another") from None


def _reachable(address: str, listeners: Sequence[trio.abc.Listener[Any]]) -> str:
    """The address as others would write it: with this host's name for every interface, and the port that it got."""
    host, port = _split(address)
    inner = getattr(listeners[0], "transport_listener", listeners[0])
    if port == 0 and isinstance(inner, trio.SocketListener):
        port = inner.socket.getsockname()[1]
    if host in EVERY_INTERFACE:
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
