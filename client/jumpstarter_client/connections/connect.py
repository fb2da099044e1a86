"""Connections to an exporter: the one that was asked for, the local daemon's, or one built in for the moment."""

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
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import (
    Caller,
    Channel,
    Options,
    RpcError,
    StatusCode,
    connect_tcp,
    connect_unix,
    open_channel,
)
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import Portal
from jumpstarter_client.connections.endpoint import (
    BuiltIn,
    Tcp,
    Unix,
    board_of,
    candidates,
    choosing,
    overriding,
    passphrase,
    socket_of,
)
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.request import Wanted
from jumpstarter_client.node import Allowed
from jumpstarter_client.transport import LastingChannel, open_lasting
from jumpstarter_client.tree import open_client

if TYPE_CHECKING:
    from jumpstarter_client.lease.board import Board

__all__ = ["connect", "connect_async", "env", "open_host"]

CONNECT_SECONDS = 10.0
KEEPALIVE = Options(keepalive_interval=20.0)
"""For networks, which forget connections without a word. A socket of this machine does not."""

_log = logging.getLogger(__name__)


class _BuiltInExporter(Protocol):
    """What the exporter package offers to us; it is found by its name, as we do not depend on it."""

    async def connect(self) -> trio.abc.Stream: ...
    def listen(self) -> AbstractAsyncContextManager[str]: ...


@asynccontextmanager
async def connect_async(
    host: str | None = None,
    *,
    config: str | Path | None = None,
    board: str | None = None,
    allowed: Allowed | None = None,
    wanted: Wanted | None = None,
    notify: Callable[[str], None] | None = None,
    ended: Callable[[str], None] | None = None,
    timeout: float = CONNECT_SECONDS,
) -> AsyncIterator[DriverClient]:
    """The root of an exporter's devices, while the block lasts.

    `wanted` asks a controller for a board, which is leased for the block. When the way to it breaks, what ran fails,
    and what comes next waits for a new one. `notify` gets what its user has to hear meanwhile; left out, that goes to
    standard error. `ended` gets why the lease is over, once it is, in the same event loop; calls fail with that from
    then on.

    `host` is a socket's path or HOST:PORT; left out, the order of `resolve.candidates` applies. `config` starts
    a built-in exporter from that file. `board` is one of several that the host has, or JUMPSTARTER_BOARD says which.
    `timeout`, in seconds, is for getting a connection.

    Raises:
        SeveralBoardsError: the host has several boards, and none of them was asked for; it has all of them.
        ConnectError, RpcError: there is no exporter to be reached; says what to do.
    """
    wanted = wanted or _of_environment(host, config)
    with collapsed():
        async with AsyncExitStack() as stack:
            if wanted is None:
                board = board_of(board, os.environ)
                channel, is_here = await _local(stack, host, config, board, timeout)
                yield await _opened(stack, channel, allowed, board, timeout, is_here=is_here)
            else:
                leased = await stack.enter_async_context(_leased(wanted, notify, ended))
                allowed = allowed or leased.lease.config.allowed()
                yield await stack.enter_async_context(open_client(leased.channel, allowed=allowed))


def _of_environment(host: str | None, config: str | Path | None) -> Wanted | None:
    """JMP_LEASE, unless an exporter is named, or JUMPSTARTER_HOST leads to the lease's board already."""
    if host or config is not None or os.environ.get("JUMPSTARTER_HOST"):
        return None
    return Wanted.of(os.environ)


def _leased(
    wanted: Wanted, notify: Callable[[str], None] | None, ended: Callable[[str], None] | None = None
) -> AbstractAsyncContextManager[Board]:
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415
    from jumpstarter_client.lease.board import leased_board  # noqa: PLC0415 - local use needs none of them
    from jumpstarter_client.status_line import to_terminal  # noqa: PLC0415

    config = load(wanted.client, os.environ)
    return leased_board(config, wanted, notify=notify or to_terminal, ended=ended or (lambda _: None))


async def _local(
    stack: AsyncExitStack, host: str | None, config: str | Path | None, board: str | None, timeout: float
) -> tuple[Caller, bool]:
    """A channel without a lease, and whether it is to an exporter of this machine."""
    if config is not None:
        return await _built_in(stack, config, timeout), False
    for candidate in candidates(host, os.environ):
        match candidate:
            case Unix(door, asked_for):
                try:
                    own = socket_of(door, board)
                    if own != door:  # a process of its own may serve it, with the door's or without it
                        with suppress(RpcError):  # it has ended, and the door says why
                            return await _socket(stack, Unix(own, asked_for), timeout, board), True
                    return await _socket(stack, candidate, timeout, board), True
                except RpcError as error:
                    if candidate.asked_for or error.code is not StatusCode.UNAVAILABLE:
                        raise
                    _log.debug("no daemon: %s", error)
            case Tcp():
                scheme = "http" if candidate.insecure else "https"
                connect = partial(_tcp, candidate, timeout)
                options = KEEPALIVE
                return await _lasting(
                    stack, connect, str(candidate), scheme, board=board, options=options
                ), False
            case BuiltIn():
                return await _built_in(stack, board, timeout), False
    raise ConnectError("there is no exporter to connect to; name one with --host")


async def _opened(
    stack: AsyncExitStack,
    channel: Caller,
    allowed: Allowed | None,
    board: str | None,
    timeout: float,
    *,
    is_here: bool,
) -> DriverClient:
    """The root behind the channel, or behind the socket of the board's own process, if the door names one."""
    try:
        with collapsed():
            return await stack.enter_async_context(open_client(channel, allowed=allowed))
    except RpcError as error:
        if error.code is not StatusCode.FAILED_PRECONDITION:
            raise
        from jumpstarter_client.host_boards import SeveralBoardsError, boards_behind  # noqa: PLC0415 - only who has several

        boards = await boards_behind(channel, allowed or Allowed.from_environment())
        if board is None and len(boards) > 1:
            raise SeveralBoardsError(error, boards) from None
        own = next((one.socket for one in boards if board in (one.name, None)), "") if is_here else ""
        if not own:
            raise
        moved = await _socket(stack, Unix(own, asked_for=True), timeout, board)
        return await stack.enter_async_context(open_client(moved, allowed=allowed))


async def _socket(stack: AsyncExitStack, target: Unix, timeout: float, board: str | None) -> LastingChannel:
    return await _lasting(stack, partial(_unix, target, timeout), "localhost", "http", board=board)


async def _lasting(
    stack: AsyncExitStack,
    connect: Callable[[], Awaitable[trio.abc.Stream]],
    authority: str,
    scheme: str,
    *,
    board: str | None,
    options: Options | None = None,
) -> LastingChannel:
    """A channel that is connected: an exporter may be restarted, and a socket may be a lease's."""
    ready = [await connect()]
    stack.push_async_callback(trio.aclose_forcefully, ready[0])
    metadata = passphrase(os.environ) + overriding(os.environ) + choosing(board)

    @asynccontextmanager
    async def dial() -> AsyncIterator[Channel]:
        stream = ready.pop() if ready else await connect()
        async with open_channel(
            stream, authority=authority, scheme=scheme, metadata=metadata, options=options
        ) as channel:
            yield channel

    return await stack.enter_async_context(open_lasting(dial))


async def _unix(target: Unix, timeout: float) -> trio.abc.Stream:
    return await connect_unix(target.path, timeout=timeout)


async def _tcp(target: Tcp, timeout: float) -> trio.abc.Stream:
    context = None
    if not target.insecure:
        from jumpstarter_proto.rpc import client_ssl_context  # noqa: PLC0415 - only who needs TLS pays for it

        context = client_ssl_context()
    return await connect_tcp(target.host, target.port, ssl_context=context, timeout=timeout)


async def _built_in(stack: AsyncExitStack, config: str | Path | None, timeout: float) -> Caller:
    """The daemon's that serves this board, if there is one."""
    try:
        exporter = await stack.enter_async_context(_open_built_in(config))
    except JumpstarterError as error:
        if not (socket := _socket_of_daemon(error)):
            raise
        return await _socket(stack, Unix(socket, asked_for=True), timeout, None)
    return await stack.enter_async_context(open_channel(await exporter.connect()))


def _socket_of_daemon(error: JumpstarterError) -> str:
    """Where a daemon serves the board that could not be opened for it."""
    return str(getattr(error, "socket", ""))


@asynccontextmanager
async def _open_built_in(config: str | Path | None) -> AsyncIterator[_BuiltInExporter]:
    try:
        embedded = importlib.import_module("jumpstarter_exporter.embedded")
    except ImportError as error:
        raise ConnectError(
            f"no exporter runs here and none can be built in ({error}); name one with --host, "
            "or install one: pip install 'jumpstarter-sbc[exporter]'"
        ) from error
    async with AsyncExitStack() as stack:
        try:
            exporter: _BuiltInExporter = await stack.enter_async_context(embedded.open_exporter(config))
        except JumpstarterError as error:
            if config is not None or error.status != "NOT_FOUND":
                raise
            # Whoever named none may have meant a board of elsewhere.
            missing = ConnectError(f"{error}; or lease a board of a controller: -l board=rpi4")
            missing.exit_code = error.exit_code
            raise missing from None
        yield exporter


@asynccontextmanager
async def open_host(
    host: str | None = None,
    *,
    config: str | Path | None = None,
    board: str | None = None,
    wanted: Wanted | None = None,
    notify: Callable[[str], None] | None = None,
    leased: Callable[[Board], None] | None = None,
    ended: Callable[[str], None] | None = None,
) -> AsyncIterator[str]:
    """Where other processes reach the exporter while the block lasts: what JUMPSTARTER_HOST must be for them.

    Of a `board` that is one of several it is its own socket, if it is on this machine; JUMPSTARTER_BOARD is to say
    it in any case.

    Of a leased board, `leased` gets what there is to know, `notify` what its user has to hear meanwhile (on standard
    error, if it is left out), and `ended` the verdict, if its lease is over in the middle.

    Raises what `connect_async` raises.
    """
    wanted = wanted or _of_environment(host, config)
    with collapsed():
        if wanted is not None:
            async with _leased(wanted, notify, ended) as got, got.lease.listen() as path:
                if leased is not None:
                    leased(got)
                yield path
            return
        board = board_of(board, os.environ)
        for candidate in candidates(host, os.environ) if config is None else (BuiltIn(),):
            match candidate:
                case Unix(path, asked_for):
                    try:
                        path = await _that_answers(path, board)
                    except RpcError as error:
                        if asked_for or error.code is not StatusCode.UNAVAILABLE:
                            raise
                        continue
                    yield path
                    return
                case Tcp():
                    yield str(candidate)
                    return
                case BuiltIn():
                    async with AsyncExitStack() as stack:
                        try:
                            exporter = await stack.enter_async_context(_open_built_in(config or board))
                            path = await stack.enter_async_context(exporter.listen())
                        except JumpstarterError as error:
                            if not (path := _socket_of_daemon(error)):
                                raise
                        yield path
                    return


async def _that_answers(door: str, board: str | None) -> str:
    """The board's own socket, or the door. RpcError when nobody is behind either."""
    own = socket_of(door, board)
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
    wanted: Wanted | None = None,
    timeout: float = CONNECT_SECONDS,
) -> Iterator[DriverClient]:
    """`connect_async` for plain code: the clients' blocking methods work inside of the block."""
    with (
        Portal() as portal,
        portal.context(
            connect_async(host, config=config, board=board, allowed=allowed, wanted=wanted, timeout=timeout)
        ) as client,
    ):
        yield client


@contextmanager
def env() -> Iterator[DriverClient]:
    """The exporter of the environment: of `jumpstarter shell`, of JUMPSTARTER_HOST, or the local one."""
    with connect() as client:
        yield client
