"""What controller and router share as processes: listeners, serving and shutdown."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import trio
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.process import exit_code_of, keep_what_is_there, open_daemon
from jumpstarter_proto.reflection.servicer import Reflection
from jumpstarter_proto.rpc import (
    ConnectionLimits,
    Interceptor,
    Options,
    Server,
    ServerTls,
    Servicer,
    cause_of,
    connections_allowed,
    tcp_listeners,
)
from jumpstarter_proto.terminal import print_line

from jumpstarter_controller.process.certificates import Certificate, CertificateError
from jumpstarter_controller.process.health import Health
from jumpstarter_controller.process.http_pages import Page, serve_http
from jumpstarter_controller.process.startup import Startup

__all__ = [
    "EVERY_INTERFACE",
    "Background",
    "ListenAddressError",
    "ListeningServer",
    "given_certificate",
    "listen",
    "metrics_on",
    "probe_pages",
    "reachable",
    "serve",
    "split_address",
    "tls_of",
]

GRACE_SECONDS = 5.0
"""The grace period of unary calls at shutdown."""
STREAM_SECONDS = 0.2
"""The grace period of a controller's streams at shutdown. They have no end of their own, and peers reopen them."""
EVERY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 - what users write for it
_log = logging.getLogger(__name__)


Background: TypeAlias = Callable[..., Awaitable[object]]
"""A task that lasts as long as the process; takes `task_status`."""


class ListenAddressError(JumpstarterError):
    """The listen address cannot be used."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class ListeningServer:
    """A server and its listeners."""

    server: Server
    listeners: Sequence[trio.abc.Listener[Any]]
    health: Health | None = None
    stream_seconds: float = STREAM_SECONDS
    """The grace period of streams at shutdown."""

    @classmethod
    def public(
        cls,
        services: Sequence[Servicer],
        listeners: Sequence[trio.abc.Listener[Any]],
        options: Options,
        stream_seconds: float = STREAM_SECONDS,
        interceptors: Sequence[Interceptor] = (),
    ) -> ListeningServer:
        """A server with health checking and reflection."""
        health = Health(services)
        everything = [*services, health, Reflection([*services, health])]
        limits = ConnectionLimits(connections=connections_allowed(ConnectionLimits().connections))
        return cls(
            Server(everything, interceptors=interceptors, options=options, limits=limits),
            listeners,
            health,
            stream_seconds,
        )


def split_address(address: str, option: str = "--listen") -> tuple[str, int]:
    """Host and port of `[HOST]:PORT`; an empty host is every interface. AddressError if it is written otherwise."""
    try:
        return split_host_port(address, to_listen=True, example="0.0.0.0:8082")
    except AddressSyntaxError as error:
        raise ListenAddressError(f"{option}: {error}") from None


async def listen(
    address: str, tls: ServerTls | None, context: ssl.SSLContext | None = None, *, option: str = "--listen"
) -> list[trio.abc.Listener[Any]]:
    """Listeners on `[HOST]:PORT`, with TLS by files or by a context, if given. AddressError if that cannot be.

    `option` is the one that the user gives for this address.
    """
    host, port = split_address(address, option)
    contexts = context if tls is None else lambda: tls.context
    try:
        return list(await tcp_listeners(host or None, port, ssl_context=contexts))
    except OSError as error:
        raise ListenAddressError(
            f"cannot listen on {address}: {error.strerror or error}; choose another address with {option}"
        ) from None


def reachable(address: str, listeners: Sequence[trio.abc.Listener[Any]], name: str | None = None) -> str:
    """The address as others would write it: `name`, or this host's, for every interface, and the port that it got."""
    host, port = split_address(address)
    inner = getattr(listeners[0], "transport_listener", listeners[0])
    if port == 0 and isinstance(inner, trio.SocketListener):
        port = inner.socket.getsockname()[1]
    if host in EVERY_INTERFACE:
        host = name or socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def given_certificate(chain: Path | None, key: Path | None) -> Certificate | None:
    """The certificate of `--tls-cert` and `--tls-key`; None without them. CertificateError: only one was given."""
    if chain is not None and key is not None:
        return Certificate(chain, key, False)
    if chain is not None or key is not None:
        raise CertificateError(
            "--tls-cert and --tls-key belong together; give both, or neither for one made here"
        )
    return None


def tls_of(certificate: Certificate) -> ServerTls:
    """The TLS settings of a server. CertificateError: the files are invalid."""
    try:
        return ServerTls(certificate.chain, certificate.key)
    except OSError as error:  # ssl.SSLError is one
        for file in (certificate.chain, certificate.key):
            if not os.access(file, os.R_OK, effective_ids=True):
                reason = os.strerror(errno.EACCES if file.exists() else errno.ENOENT)
                raise CertificateError(
                    f"{file} cannot be read: {reason}; check the path, and let this user read it"
                ) from None
        raise CertificateError(
            f"{certificate.chain} and {certificate.key} are not a certificate and its key "
            f"({cause_of(error)}); give both as PEM, the chain and its own key"
        ) from None


def probe_pages(
    page: Callable[[], Awaitable[Page]],
    served: Sequence[ListeningServer],
    trouble: Callable[[], str] = lambda: "",
    warning: Callable[[], str] = lambda: "",
) -> dict[str, Callable[[], Awaitable[Page]]]:
    """What scrapers and probes are answered, by path.

    `page` makes /metrics. /readyz is 503 while something that is `served` takes no calls, or there is `trouble`.
    What will be one is a `warning`, made in a thread: both pages have it beside their "ok".
    """

    async def ready() -> Page:
        if not all(one.health.serving for one in served if one.health is not None):
            return Page(b"it is shutting down\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        if sentence := trouble():
            return Page(f"{sentence}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        return await healthy()

    async def healthy() -> Page:
        sentence = await trio.to_thread.run_sync(warning, abandon_on_cancel=True)
        return Page(f"ok\nwarning: {sentence}\n".encode() if sentence else b"ok\n")

    return {"/metrics": page, "/healthz": healthy, "/readyz": ready}


async def metrics_on(
    address: str, pages: Mapping[str, Callable[[], Awaitable[Page]]]
) -> tuple[Background, str]:
    """Return the server of these pages on `[HOST]:PORT`, for scrapers and probes, and the line to print about it."""
    listeners = await listen(address, None, option="--metrics-listen")
    return partial(serve_http, listeners, pages), f"Metrics on http://{reachable(address, listeners)}/metrics"


async def serve(
    served: Sequence[ListeningServer],
    lines: Sequence[str],
    *background: Background,
    tls: ServerTls,
    status: Callable[[], str] = lambda: "",
    unread: Callable[[], str] = lambda: "",
    startup: Startup | None = None,
) -> ExitCode:
    """Serve until SIGTERM or SIGINT; prints `lines` as soon as everything listens. SIGHUP reloads `tls`.

    The service manager is notified of each step and of the `status`. `unread` is called in a thread at SIGHUP, and
    returns a sentence about changes that need a restart.

    At the end, connections get a GOAWAY, unary calls may complete, and streams get a short time. A second signal ends
    the process immediately.

    The `background` tasks start before serving, with `task_status`, and end after it. `startup` is the state of the
    process so far.
    """
    changed = ""

    async def reload() -> None:
        nonlocal changed
        with manager.reloading():
            await tls.look(always=True)
            changed = await trio.to_thread.run_sync(unread, abandon_on_cancel=True)
            if changed:
                _log.warning("%s", changed)

    with contextlib.ExitStack() as stack:
        if startup is None:
            startup = Startup(stack.enter_context(open_daemon()))
        daemon, manager = startup.daemon, startup.daemon.manager
        daemon.status = lambda: "; ".join(filter(None, (status(), tls.trouble, changed)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.run)
            for task in background:
                await nursery.start(task)
            for one in served:
                await nursery.start(one.server.serve, one.listeners)
            keep_what_is_there()
            for line in lines:
                print_line(line, flush=True)
            nursery.start_soon(tls.watch)
            manager.ready()
            number = await daemon.wait_for_stop(reload)
            manager.stopping()
            _log.info("%s: ending; a second signal ends it at once", number.name)
            async with trio.open_nursery() as ending:
                ending.start_soon(_end, served, ending.cancel_scope)
                await daemon.wait_for_stop()
                _log.warning("second signal: ending at once")
                ending.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    return exit_code_of(number)


async def _end(served: Sequence[ListeningServer], ended: trio.CancelScope) -> None:
    """Send GOAWAY, let calls complete, and then cancel `ended`."""
    for one in served:
        if one.health is not None:
            one.health.leave()
    async with trio.open_nursery() as nursery:
        for one in served:
            nursery.start_soon(partial(one.server.shutdown, GRACE_SECONDS, streams=one.stream_seconds))
    ended.cancel()
