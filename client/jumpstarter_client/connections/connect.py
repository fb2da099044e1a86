"""Connect to an exporter: the named one, the local daemon, a built-in one, or the exporter of a leased board."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import (
    Caller,
    Channel,
    Metadata,
    Options,
    RpcError,
    StatusCode,
    connect_tcp,
    connect_unix,
    open_channel,
)
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.connections.endpoint import (
    LOOK,
    BuiltIn,
    Tcp,
    Unix,
    board_metadata,
    board_socket,
    candidates,
    override_metadata,
    passphrase_metadata,
    selected_board,
)
from jumpstarter_client.connections.refusals import TLS_ADVICE, Refusals
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.node import Allowed
from jumpstarter_client.transport import ReconnectingChannel, open_reconnecting
from jumpstarter_client.tree import open_client

if TYPE_CHECKING:
    from jumpstarter_client.lease.board import ReadyBoard

__all__ = ["connect", "connect_async", "env", "open_host"]

CONNECT_SECONDS = 10.0
KEEPALIVE = Options(keepalive_interval=20.0)
"""For TCP, where a dead connection is silent. Unix sockets do not need it."""

_NOTHING_NAMED = "no exporter found; name one with --host"
_log = logging.getLogger(__name__)


class NoExporterHereError(ConnectError):
    """None was named, and none runs on this machine. `is_certain`: there is also none that could be meant."""

    def __init__(self, reason: str, exit_code: ExitCode, next_step: str, *, is_certain: bool = True) -> None:
        super().__init__(f"{reason}; {next_step}")
        self.reason = reason
        self.exit_code = exit_code
        self.is_certain = is_certain


class _BuiltInExporter(Protocol):
    """The interface of the exporter package, which is imported by name, as the client does not depend on it."""

    async def connect(self) -> trio.abc.Stream: ...
    def listen(self) -> AbstractAsyncContextManager[str]: ...


@asynccontextmanager
async def connect_async(
    host: str | None = None,
    *,
    config: str | Path | None = None,
    board: str | None = None,
    allowed: Allowed | None = None,
    request: LeaseRequest | None = None,
    on_message: Callable[[str], None] | None = None,
    on_lease_end: Callable[[str], None] | None = None,
    timeout: float = CONNECT_SECONDS,
    looks: bool = False,
) -> AsyncIterator[DriverClient]:
    """Connect during the block and yield the root of the exporter's devices.

    `request` leases a board of a controller for the block. If the connection to it is lost, running calls fail, and the
    next call waits for a new connection. `on_message` gets messages for the user (default: standard error).
    `on_lease_end` gets the reason if the lease ends, in the same event loop; calls fail with it from then on.

    `host` is the path of a socket or HOST:PORT; by default the order of `endpoint.candidates` applies. `config` starts
    a built-in exporter from that file. `board` selects one of several boards of the host (default: JUMPSTARTER_BOARD).
    If nothing is named and this machine has no exporter, the only lease that `jumpstarter lease create` created here is
    used, and `on_message` is told. `timeout`, in seconds, is for one connection. With `looks` the exporter looks at
    devices that nobody has used yet.

    Raises:
        SeveralBoardsError: the host has several boards and none was selected; the error lists them.
        SeveralLeasesError: this machine has no exporter, and several such leases.
        ConnectError, RpcError: no exporter is reachable; the message says what to do.
    """
    metadata: Metadata = [(LOOK, "1")] if looks else []
    request = request or _request_from_environment(host, config)
    with collapsed():
        async with AsyncExitStack() as stack:
            if request is None:
                board = selected_board(board, os.environ)
                try:
                    channel, is_here = await _open_local(stack, host, config, board, timeout)
                except NoExporterHereError as error:
                    request = await _own_lease(error, on_message)
                else:
                    yield await _open_tree(
                        stack, channel, allowed, board, timeout, metadata=metadata, is_here=is_here
                    )
                    return
            leased = await stack.enter_async_context(_leased_board(request, on_message, on_lease_end))
            allowed = allowed or leased.lease.config.allowed()
            yield await stack.enter_async_context(
                open_client(leased.channel, allowed=allowed, metadata=metadata)
            )


def _request_from_environment(host: str | None, config: str | Path | None) -> LeaseRequest | None:
    """Return a request for JMP_LEASE, unless an exporter is named or JUMPSTARTER_HOST is already the leased board."""
    if host or config is not None or os.environ.get("JUMPSTARTER_HOST"):
        return None
    return LeaseRequest.from_options(os.environ)


async def _own_lease(error: NoExporterHereError, on_message: Callable[[str], None] | None) -> LeaseRequest:
    """Return a request for the only recorded lease of the current client; without one, raise the error."""
    from jumpstarter_client.identity.client_config import ClientConfigError, load  # noqa: PLC0415
    from jumpstarter_client.lease.own_leases import SeveralLeasesError, with_own_lease  # noqa: PLC0415 - local use needs none of them
    from jumpstarter_client.status_line import print_message  # noqa: PLC0415

    doors = [one.path for one in candidates(None, os.environ) if isinstance(one, Unix)]
    if not error.is_certain or any(
        map(os.path.lexists, doors)
    ):  # a daemon that is being started again is meant
        raise error
    try:
        request = await with_own_lease(
            load(None, os.environ), LeaseRequest(may_reuse=True), on_message or print_message
        )
    except ClientConfigError as problem:
        _log.debug("no lease is looked for: %s", problem)
        raise error from None
    except SeveralLeasesError:
        raise
    except JumpstarterError as problem:
        step = f"which leases you have is not known: {problem}"
        raise NoExporterHereError(error.reason, problem.exit_code, step) from None
    if not request.lease:
        raise error
    return request


def _leased_board(
    request: LeaseRequest,
    on_message: Callable[[str], None] | None,
    on_lease_end: Callable[[str], None] | None = None,
) -> AbstractAsyncContextManager[ReadyBoard]:
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415
    from jumpstarter_client.lease.board import lease_board  # noqa: PLC0415 - local use needs none of them
    from jumpstarter_client.status_line import print_message  # noqa: PLC0415

    config = load(request.client, os.environ)
    return lease_board(
        config, request, on_message=on_message or print_message, on_lease_end=on_lease_end or (lambda _: None)
    )


async def _open_local(
    stack: AsyncExitStack, host: str | None, config: str | Path | None, board: str | None, timeout: float
) -> tuple[Caller, bool]:
    """Open a channel without a lease. Also returns whether the exporter is a daemon on this machine."""
    if config is not None:
        return await _open_built_in_channel(stack, config, timeout), False
    for candidate in candidates(host, os.environ):
        match candidate:
            case Unix(door, asked_for):
                try:
                    own = board_socket(door, board)
                    if own != door:  # a process of its own may serve it, with the door's or without it
                        with suppress(RpcError):  # it has on_lease_end, and the door says why
                            return await _open_socket(stack, Unix(own, asked_for), timeout, board), True
                    return await _open_socket(stack, candidate, timeout, board), True
                except RpcError as error:
                    if candidate.asked_for or error.code is not StatusCode.UNAVAILABLE:
                        raise
                    _log.debug("no daemon: %s", error)
            case Tcp():
                return await _open_tcp(stack, candidate, timeout, board), False
            case BuiltIn():
                return await _open_built_in_channel(stack, board, timeout), False
    raise ConnectError(_NOTHING_NAMED)


async def _open_tree(
    stack: AsyncExitStack,
    channel: Caller,
    allowed: Allowed | None,
    board: str | None,
    timeout: float,
    *,
    metadata: Metadata,
    is_here: bool,
) -> DriverClient:
    """Open the device tree, on the socket of the board's own process if the door names one."""
    try:
        with collapsed():
            return await stack.enter_async_context(open_client(channel, allowed=allowed, metadata=metadata))
    except RpcError as error:
        if error.code is not StatusCode.FAILED_PRECONDITION:
            raise
        from jumpstarter_client.host_boards import SeveralBoardsError, list_boards  # noqa: PLC0415 - only who has several

        boards = await list_boards(channel, allowed or Allowed.from_environment(), metadata)
        if board is None and len(boards) > 1:
            raise SeveralBoardsError(error, boards) from None
        own = next((one.socket for one in boards if board in (one.name, None)), "") if is_here else ""
        if not own:
            raise
        moved = await _open_socket(stack, Unix(own, asked_for=True), timeout, board)
        return await stack.enter_async_context(open_client(moved, allowed=allowed, metadata=metadata))


async def _open_socket(
    stack: AsyncExitStack, target: Unix, timeout: float, board: str | None
) -> ReconnectingChannel:
    connect = partial(_connect_unix, target, timeout)
    return await _open_reconnecting(stack, target, connect, "localhost", "http", board=board)


async def _open_tcp(
    stack: AsyncExitStack, target: Tcp, timeout: float, board: str | None
) -> ReconnectingChannel:
    return await _open_reconnecting(
        stack,
        target,
        partial(_connect_tcp, target, timeout),
        str(target),
        "http" if target.insecure else "https",
        board=board,
        options=KEEPALIVE,
    )


async def _open_reconnecting(
    stack: AsyncExitStack,
    target: Tcp | Unix,
    connect: Callable[[], Awaitable[trio.abc.Stream]],
    authority: str,
    scheme: str,
    *,
    board: str | None,
    options: Options | None = None,
) -> ReconnectingChannel:
    """Open a connected channel that reconnects after a restart of the exporter."""
    ready = [await connect()]
    stack.push_async_callback(trio.aclose_forcefully, ready[0])
    passphrase = passphrase_metadata(os.environ)
    metadata = passphrase + override_metadata(os.environ) + board_metadata(board)

    @asynccontextmanager
    async def dial() -> AsyncIterator[Channel]:
        stream = ready.pop() if ready else await connect()
        async with open_channel(
            stream, authority=authority, scheme=scheme, metadata=metadata, options=options
        ) as channel:
            yield channel

    refusals = Refusals(target, has_passphrase=bool(passphrase))
    return await stack.enter_async_context(open_reconnecting(dial, explain=refusals.explain))


async def _connect_unix(target: Unix, timeout: float) -> trio.abc.Stream:
    return await connect_unix(target.path, timeout=timeout)


async def _connect_tcp(target: Tcp, timeout: float) -> trio.abc.Stream:
    context = None
    if not target.insecure:
        from jumpstarter_proto.rpc import client_ssl_context  # noqa: PLC0415 - only who needs TLS pays for it

        context = client_ssl_context()
    return await connect_tcp(
        target.host, target.port, ssl_context=context, advice=TLS_ADVICE, timeout=timeout
    )


async def _open_built_in_channel(stack: AsyncExitStack, config: str | Path | None, timeout: float) -> Caller:
    """Start a built-in exporter, or connect to the daemon that serves this board already."""
    try:
        exporter = await stack.enter_async_context(_open_built_in(config))
    except JumpstarterError as error:
        if not (socket := _socket_of_daemon(error)):
            raise
        return await _open_socket(stack, Unix(socket, asked_for=True), timeout, None)
    return await stack.enter_async_context(open_channel(await exporter.connect()))


def _socket_of_daemon(error: JumpstarterError) -> str:
    """Return the socket of the daemon that serves the board and so kept the built-in exporter from starting."""
    return str(getattr(error, "socket", ""))


@asynccontextmanager
async def _open_built_in(config: str | Path | None) -> AsyncIterator[_BuiltInExporter]:
    try:
        embedded = importlib.import_module("jumpstarter_exporter.serve.embedded")
    except ImportError as error:
        reason = f"no exporter is running here, and no built-in exporter is installed ({error})"
        step = "name one with --host, or install one: pip install 'jumpstarter-sbc[exporter]'"
        if config is None:
            raise NoExporterHereError(reason, ConnectError.exit_code, step) from error
        raise ConnectError(f"{reason}; {step}") from error
    async with AsyncExitStack() as stack:
        try:
            exporter: _BuiltInExporter = await stack.enter_async_context(embedded.open_exporter(config))
        except JumpstarterError as error:
            if config is not None or error.status != "NOT_FOUND":
                raise
            # A user who named no configuration may have meant a leased board.
            step = "or lease a board from a controller: -l board=rpi4"
            is_certain = bool(getattr(error, "is_empty", False))
            raise NoExporterHereError(str(error), error.exit_code, step, is_certain=is_certain) from None
        yield exporter


@asynccontextmanager
async def open_host(
    host: str | None = None,
    *,
    config: str | Path | None = None,
    board: str | None = None,
    request: LeaseRequest | None = None,
    on_message: Callable[[str], None] | None = None,
    on_leased: Callable[[ReadyBoard], None] | None = None,
    on_lease_end: Callable[[str], None] | None = None,
) -> AsyncIterator[str]:
    """Make the exporter reachable for other processes during the block, and yield their JUMPSTARTER_HOST.

    For one of several boards on this machine it is the board's own socket if it has one; set JUMPSTARTER_BOARD, too.

    With a leased board, `on_leased` gets the board, `on_message` messages for the user (default: standard error), and
    `on_lease_end` the reason if the lease ends during the block.

    Raises what `connect_async` raises.
    """
    request = request or _request_from_environment(host, config)
    with collapsed():
        async with AsyncExitStack() as stack:
            if request is None:
                try:
                    path = await _open_local_host(stack, host, config, selected_board(board, os.environ))
                except NoExporterHereError as error:
                    request = await _own_lease(error, on_message)
                else:
                    yield path
                    return
            got = await stack.enter_async_context(_leased_board(request, on_message, on_lease_end))
            path = await stack.enter_async_context(got.lease.listen())
            if on_leased is not None:
                on_leased(got)
            yield path


async def _open_local_host(
    stack: AsyncExitStack, host: str | None, config: str | Path | None, board: str | None
) -> str:
    """Return the JUMPSTARTER_HOST of an exporter without a lease, and keep a built-in one running."""
    for candidate in candidates(host, os.environ) if config is None else (BuiltIn(),):
        match candidate:
            case Unix(path, asked_for):
                try:
                    return await _answering_socket(path, board)
                except RpcError as error:
                    if asked_for or error.code is not StatusCode.UNAVAILABLE:
                        raise
            case Tcp():
                return str(candidate)
            case BuiltIn():
                try:
                    exporter = await stack.enter_async_context(_open_built_in(config or board))
                    return await stack.enter_async_context(exporter.listen())
                except JumpstarterError as error:
                    if not (path := _socket_of_daemon(error)):
                        raise
                    return path
    raise ConnectError(_NOTHING_NAMED)


async def _answering_socket(door: str, board: str | None) -> str:
    """Return the board's own socket, or else the door's. RpcError if neither answers."""
    own = board_socket(door, board)
    if own != door:
        with suppress(RpcError):
            await (await connect_unix(own)).aclose()
            return own
    await (await connect_unix(door)).aclose()
    return door


@contextmanager
def connect(
    host: str | None = None,
    *,
    config: str | Path | None = None,
    board: str | None = None,
    allowed: Allowed | None = None,
    request: LeaseRequest | None = None,
    timeout: float = CONNECT_SECONDS,
    looks: bool = False,
) -> Iterator[DriverClient]:
    """`connect_async` for plain code: the blocking methods of the clients work during the block."""
    with (
        PortalThread() as portal,
        portal.context(
            connect_async(
                host,
                config=config,
                board=board,
                allowed=allowed,
                request=request,
                timeout=timeout,
                looks=looks,
            )
        ) as client,
    ):
        yield client


@contextmanager
def env() -> Iterator[DriverClient]:
    """Connect to the exporter that JUMPSTARTER_HOST names (as in `jumpstarter shell`), or to the local one."""
    with connect() as client:
        yield client
