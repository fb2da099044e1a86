"""Byte streams to and from peers: unix sockets, TCP and TLS."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from jumpstarter_proto.forks import keep_from_children
from jumpstarter_proto.rpc._tls import TlsListener, TlsStream
from jumpstarter_proto.rpc._types import RpcError, StatusCode, TlsAdvice, UntrustedError
from jumpstarter_proto.rpc._unix_paths import socket_address

if TYPE_CHECKING:
    import ssl

__all__ = [
    "Credentials",
    "client_ssl_context",
    "connect_tcp",
    "connect_unix",
    "credentials_of",
    "network_of",
    "no_tls_error",
    "peer_of",
    "server_ssl_context",
    "tcp_listeners",
    "unix_listener",
]

CONNECT_SECONDS = 10.0
FULL_QUEUE_SECONDS = 0.05
"""How often a listener is asked that takes no more connections for now."""
_REASONS_FOR_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
"""OpenSSL's names of answers that are not TLS records."""
_PYTHONS_FRAME = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")
"""What Python puts around the words of OpenSSL."""
_WRONG_TIMES, _WRONG_NAMES = (9, 10), (62, 64)
"""OpenSSL's numbers (X509_V_ERR_…) for a certificate that is not valid yet or no more, or for another host."""
_ADVICE = TlsAdvice("compare the certificate with that of the server", "is it the right port?")


async def connect_unix(
    path: str | os.PathLike[str], *, timeout: float = CONNECT_SECONDS
) -> trio.SocketStream:
    """Connect to a unix socket.

    Raises:
        RpcError: UNAVAILABLE, no process listens there; PERMISSION_DENIED, this user may not connect.
    """
    plain = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with trio.fail_after(timeout), socket_address(path) as address:
            await plain.connect(address)
            while not _is_connected(plain):
                # The listener's queue is full. The kernel says so instead of waiting, and says nothing when there is
                # room again.
                await trio.sleep(FULL_QUEUE_SECONDS)
                await plain.connect(address)
    except BaseException as error:
        plain.close()
        if isinstance(error, PermissionError):
            raise RpcError(
                StatusCode.PERMISSION_DENIED,
                f"{path} is not for this user; join its group (`ls -l {path}` shows it) and log in again",
            ) from None
        if isinstance(error, OSError | trio.TooSlowError):
            reason = error.strerror if isinstance(error, OSError) else f"no answer within {timeout:g} s"
            raise RpcError(
                StatusCode.UNAVAILABLE,
                f"cannot connect to {path}: {reason}; is the exporter running? `jumpstarter-exporter run` starts it",
            ) from None
        raise
    return trio.SocketStream(plain)


def _is_connected(plain: trio.socket.SocketType) -> bool:
    try:
        plain.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return False
        raise
    return True


async def connect_tcp(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    check_certificate: Callable[[bytes], None] | None = None,
    advice: TlsAdvice = _ADVICE,
    timeout: float = CONNECT_SECONDS,
) -> trio.abc.Stream:
    """Connect over TCP; with `ssl_context`, also do the TLS handshake and negotiate HTTP/2.

    `check_certificate` gets the peer's certificate, in DER, before a byte of ours is sent; what it raises is raised.

    Raises:
        RpcError: UNAVAILABLE, with the cause: not reachable, not trusted (UntrustedError), or not gRPC.
    """
    target = f"{host}:{port}"
    try:
        with trio.fail_after(timeout):
            plain = await trio.open_tcp_stream(host, port)
            if ssl_context is None:
                return plain
            secure = TlsStream(plain, ssl_context, server_hostname=server_hostname or host)
            try:
                await secure.do_handshake()
                if check_certificate is not None:
                    check_certificate(secure.getpeercert() or b"")
            except BaseException:
                await trio.aclose_forcefully(secure)
                raise
    except trio.TooSlowError:
        raise RpcError(
            StatusCode.UNAVAILABLE, f"{target} does not answer within {timeout:g} s; is it the right address?"
        ) from None
    except UnicodeError:  # before it is looked up
        raise RpcError(
            StatusCode.UNAVAILABLE,
            f"{host} is not a host name: a part of it is empty or too long; check the address",
        ) from None
    except OSError as error:
        raise RpcError(
            StatusCode.UNAVAILABLE, f"cannot connect to {target}: {cause_of(error)}; is it running there?"
        ) from None
    except trio.BrokenResourceError as error:
        import ssl  # noqa: PLC0415 - loaded by whoever gave us a context

        cause = error.__cause__ or error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _untrusted(target, cause.verify_code, cause.verify_message, advice) from None
        raise no_tls_error(target, cause, advice.plain) from None
    if secure.selected_alpn_protocol() != "h2":
        await trio.aclose_forcefully(secure)
        raise RpcError(StatusCode.UNAVAILABLE, f"{target} speaks TLS but not gRPC; is it the right port?")
    return secure


def _untrusted(target: str, number: int, reason: str, advice: TlsAdvice) -> UntrustedError:
    step = advice.untrusted
    if number in _WRONG_NAMES:
        step = "connect to a name that is in the certificate, or make one for this name"
    elif number in _WRONG_TIMES:
        step = "the server needs a new one, if the clock of this machine is right"
    return UntrustedError(
        StatusCode.UNAVAILABLE,
        f"the certificate of {target} is not trusted ({reason.rstrip('.')}); {step}",
        reason=reason.rstrip("."),
    )


def no_tls_error(target: str, cause: BaseException, advice: str) -> RpcError:
    """Why a TLS handshake failed for another reason than the certificate, and what to do."""
    import ssl  # noqa: PLC0415 - loaded by whoever has made a context

    if isinstance(cause, ssl.SSLError):
        if cause.reason in _REASONS_FOR_NO_TLS:
            return RpcError(StatusCode.UNAVAILABLE, f"{target} does not speak TLS; {advice}")
        reason = cause_of(cause)
    else:
        reason = cause.strerror or str(cause) if isinstance(cause, OSError) else str(cause)
    return RpcError(StatusCode.UNAVAILABLE, f"no TLS connection to {target}: {reason}; is it the right port?")


def cause_of(error: OSError) -> str:
    """The operating system's words, which trio puts into a group when it has tried several addresses.

    Of an `ssl.SSLError` OpenSSL's name for what is wrong, as words.
    """
    if isinstance(name := getattr(error, "reason", None), str):
        return name.lower().replace("_", " ")
    if hasattr(error, "library"):  # an ssl.SSLError, too; its number is not the operating system's
        return _PYTHONS_FRAME.sub("", error.strerror or "it failed")
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    first = cause if isinstance(cause, OSError) else error
    # trio's own sentence repeats the address; a failed look-up has a negative number and its own words.
    return os.strerror(first.errno) if first.errno and first.errno > 0 else first.strerror or str(first)


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the peer in gRPC's notation: `unix:`, `ipv4:192.0.2.1:50051`, `ipv6:[::1]:50051`, or empty."""
    if isinstance(stream, TlsStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        address = stream.socket.getpeername()
    except OSError:
        return ""  # it has gone
    match stream.socket.family:
        case socket.AF_UNIX:
            return "unix:"
        case socket.AF_INET:
            return f"ipv4:{address[0]}:{address[1]}"
        case _:
            return f"ipv6:[{address[0]}]:{address[1]}"


class Credentials(NamedTuple):
    """The process that has made a connection; it may have ended, or be one that we cannot see: 0."""

    pid: int
    uid: int
    gid: int


def credentials_of(stream: trio.abc.Stream) -> Credentials | None:
    """Who is at the other end of a unix socket; None for all other streams."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family is not socket.AF_UNIX:
        return None
    try:
        credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None  # it has gone
    return Credentials._make(_UCRED.unpack(credentials))


_UCRED = struct.Struct("iII")
"""Of unix(7): process, user and group."""


def network_of(peer: str) -> str:
    """Return the user part of an address in gRPC's notation: without its port, and the /64 network for IPv6."""
    family, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return family
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def unix_listener(
    path: str | os.PathLike[str], *, mode: int = 0o600, group: int | None = None, backlog: int = 128
) -> trio.SocketListener:
    """Listen on a new unix socket with these permissions from its first moment on.

    `group` is a numeric id. The path must not exist; the caller removes an old socket. The file is kept when the
    listener is closed.
    """
    path = Path(path)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Only this process's own user can connect before the mode is set. `umask` is the process's, and bind
        # does not wait, so nothing else runs meanwhile in this thread.
        before = os.umask(0o177)
        try:
            with socket_address(path) as address:
                plain.bind(address)
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
        plain.listen(backlog)
    except BaseException:
        plain.close()
        raise
    keep_from_children(plain)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


async def tcp_listeners(
    host: str | None, port: int, *, ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None
) -> Sequence[trio.abc.Listener[Any]]:
    """Listen on all addresses of `host` (None: every interface); port 0 picks a free one. OSError as usual.

    With a function instead of an `ssl_context`, each connection has the one that it returns.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    for listener in listeners:
        keep_from_children(listener.socket)
    if ssl_context is None:
        return listeners
    context = ssl_context if callable(ssl_context) else lambda: ssl_context
    return [TlsListener(listener, context) for listener in listeners]


def client_ssl_context(*, ca: str | None = None) -> ssl.SSLContext:
    """Verifies the peer against PEM certificates `ca`, or the system's; offers HTTP/2 only."""
    import ssl  # noqa: PLC0415 - costs a user some 10 ms who mostly has no use for it

    context = ssl.create_default_context(cadata=ca)
    context.set_alpn_protocols(["h2"])
    return context


def server_ssl_context(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> ssl.SSLContext:
    """Serves that PEM chain; selects HTTP/2.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or are not a certificate and its key.
    """
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # A key with a password is refused, and not asked for on a terminal that nobody looks at.
    context.load_cert_chain(certificate, key, password=lambda: "")
    context.set_alpn_protocols(["h2"])
    # Unread tickets make a client's close a reset, which loses what it said last; nobody resumes a session here.
    context.num_tickets = 0
    return context
