"""Which certificates of controllers and routers are trusted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import trio

from jumpstarter_proto.addresses import CONTROLLER_PORT, AddressSyntaxError, split_host_port
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import (
    RpcError,
    StatusCode,
    UntrustedError,
    cause_of,
    client_ssl_context,
    no_tls_error,
)

if TYPE_CHECKING:
    import ssl

__all__ = ["EndpointError", "Trust", "fetch_certificate", "fingerprint_of", "split_endpoint"]


PLAIN_CONTROLLER = "is it the port of the controller? Controllers and routers have TLS"
"""The next step where a controller is expected, and no TLS is spoken."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python's `ssl` has no name for."""
_OWN = ((("commonName", "jumpstarter controller"),),)
"""The name in a certificate that a controller made for itself, and nowhere else."""
_UTC_TIME = 0x17
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class EndpointError(JumpstarterError):
    """An endpoint, certificate or fingerprint in a configuration is invalid."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Trust:
    """The `tls` section of a configuration; all empty: the system's certificate authorities.

    The first value that is set is used: `fingerprint`, `ca`, `insecure`.
    """

    ca: str = ""
    """Base64 of a PEM bundle with the trusted CA certificates."""
    insecure: bool = False
    """Believe what the peer shows at the first look; its name still has to be the endpoint's."""
    fingerprint: str = ""
    """SHA-256 of the trusted certificate, in hexadecimal digits with or without colons."""

    async def context(self, host: str, port: int, *, timeout: float) -> ssl.SSLContext:
        """For one connection to that endpoint.

        Raises:
            EndpointError: `ca` is not base64 of certificates.
            RpcError: UNAVAILABLE, the peer's certificate could not be fetched.
            UntrustedError: it is not the pinned one.
        """
        import ssl  # noqa: PLC0415 - costs a user some 10 ms who mostly has no use for it

        if not self.fingerprint and not self.ca and not self.insecure:
            return client_ssl_context()
        if not self.fingerprint and self.ca:
            try:
                pem = base64.b64decode(self.ca, validate=True).decode("ascii")
                return _always_believing(pem)
            except (binascii.Error, ValueError, ssl.SSLError):
                raise EndpointError(
                    "tls.ca of the configuration is not base64 of a PEM certificate; "
                    "fetch the configuration again or write it with `base64 -w0 ca.pem`"
                ) from None
        context = _believing(await self.shown(host, port, timeout=timeout))
        # The fingerprint names this very certificate, whatever names stand in it.
        context.check_hostname = not self.fingerprint
        return context

    async def shown(self, host: str, port: int, *, timeout: float) -> str:
        """Fetch the certificate of the peer, in PEM; if a fingerprint is pinned, the certificate must have it.

        Raises:
            RpcError: UNAVAILABLE, it could not be fetched.
            UntrustedError: it is not the pinned one.
            EndpointError: the pinned value is not a fingerprint.
        """
        import ssl  # noqa: PLC0415

        wanted = self.fingerprint.replace(":", "").lower()
        if self.fingerprint and not _FINGERPRINT.fullmatch(wanted):
            raise EndpointError(
                f"{self.fingerprint!r} is not a SHA-256 fingerprint, which has 64 hexadecimal digits, with or without "
                "colons; copy the whole line that the controller printed at its start"
            )
        certificate = await fetch_certificate(host, port, timeout=timeout)
        if wanted and not self._is_pinned(certificate):
            raise _not_pinned(f"{host}:{port}", certificate)
        return ssl.DER_cert_to_PEM_cert(certificate)

    def _is_pinned(self, certificate: bytes) -> bool:
        wanted = self.fingerprint.replace(":", "").lower()
        return hmac.compare_digest(wanted.encode(), hashlib.sha256(certificate).hexdigest().encode())

    def check_controller(self, context: ssl.SSLContext, certificate: bytes, target: str) -> None:
        """Reject a server whose certificate is only signed by the pinned certificate of the controller.

        A controller with its own certificate signs those of its routers, so such a server is a router. `context`
        is the one of the connection, `certificate` what the peer has shown there, in DER. Another certificate with the
        same key is accepted.

        Raises:
            UntrustedError: the certificate is another one.
        """
        if self.fingerprint:
            if not self._is_pinned(certificate):
                raise _not_pinned(target, certificate)
        elif self.ca:
            fields = _fields(certificate)
            keys = _servers_in(context).get(fields.issuer)
            if keys and fields.public_key not in keys:
                raise _not_pinned(target, certificate)

    def check_router(self, context: ssl.SSLContext, certificate: bytes, target: str) -> None:
        """Reject a router with an expired certificate; arguments as for `check_controller`.

        Where the controller's own certificate is pinned, OpenSSL looks at no times: that one stands for its key.

        Raises:
            UntrustedError: the certificate has expired.
        """
        if not context.verify_flags & _NO_CHECK_TIME:
            return
        fields = _fields(certificate)
        pinned = {key for keys in _servers_in(context).values() for key in keys}
        if fields.public_key not in pinned and _end_of(fields) < time.time():
            raise UntrustedError(
                StatusCode.UNAVAILABLE,
                f"the certificate of the router {target} has expired; ask its administrator to replace it",
            )


@lru_cache(maxsize=8)
def _always_believing(pem: str) -> ssl.SSLContext:
    """Nobody changes it, so that all connections to a lab can share it."""
    return _believing(pem)


def _believing(pem: str) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415

    context = client_ssl_context(ca=pem)
    # A self-signed leaf is its own authority here; Python 3.13 on would refuse it for what it lacks as one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    authorities = context.get_ca_certs()
    if authorities and all(one.get("subject") == _OWN for one in authorities):
        # What a controller made itself stands for its key, under which it is renewed; its own end means nothing.
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


def _not_pinned(target: str, certificate: bytes) -> UntrustedError:
    return UntrustedError(
        StatusCode.UNAVAILABLE,
        f"{target} has the certificate {fingerprint_of(certificate)}, not the pinned one; "
        "compare it with what the controller printed at its start",
    )


@dataclass(frozen=True)
class _Fields:
    """Parts of a certificate, each in DER."""

    issuer: bytes
    subject: bytes
    public_key: bytes
    validity: bytes


def _fields(certificate: bytes) -> _Fields:
    """Of a certificate that OpenSSL has accepted, and that is well-formed for this reason (RFC 5280, 4.1)."""
    (body, *_) = _elements(_contents(certificate))
    parts = _elements(_contents(body))
    if parts[0][0] == 0xA0:
        del parts[0]  # the version, which version 1 leaves out
    _serial, _algorithm, issuer, validity, subject, public_key = parts[:6]
    return _Fields(issuer, subject, public_key, validity)


def _end_of(fields: _Fields) -> float:
    """When a certificate ends, a UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5): in seconds since the epoch."""
    _begin, moment = _elements(_contents(fields.validity))
    text = _contents(moment).decode("ascii")
    if moment[0] == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(content: bytes) -> list[bytes]:
    found = []
    while content:
        _, end = _extent(content)
        found.append(content[:end])
        content = content[end:]
    return found


def _contents(element: bytes) -> bytes:
    start, end = _extent(element)
    return element[start:end]


def _extent(element: bytes) -> tuple[int, int]:
    """Where the content of a DER element begins and ends."""
    length, start = element[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(element[2:start], "big")
    return start, start + length


def _servers_in(context: ssl.SSLContext) -> dict[bytes, set[bytes]]:
    """By the subjects of a context's authorities: the keys of those that are a server's own certificate as well.

    Such a one names hosts, which a real authority does not.
    """
    found: dict[bytes, set[bytes]] = {}
    for facts, der in zip(context.get_ca_certs(), context.get_ca_certs(binary_form=True), strict=True):
        fields = _fields(der)
        names: Any = facts.get("subjectAltName", ())
        keys = found.setdefault(fields.subject, set())
        if any(kind in ("DNS", "IP Address") for kind, _ in names):
            keys.add(fields.public_key)
    return found


async def fetch_certificate(host: str, port: int, *, timeout: float = 5.0) -> bytes:
    """Fetch the certificate of a TLS server, in DER, unverified.

    Raises:
        RpcError: UNAVAILABLE, there is no TLS server.
    """
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    target = f"{host}:{port}"
    try:
        with trio.fail_after(timeout):
            stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context)
            try:
                await stream.do_handshake()
                certificate = stream.getpeercert(binary_form=True)
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise RpcError(
            StatusCode.UNAVAILABLE, f"{target} does not answer within {timeout:g} s; is it the right address?"
        ) from None
    except OSError as error:
        cure = (
            "check the name, or use an address"
            if isinstance(error, socket.gaierror)
            else "is the controller running there?"
        )
        raise RpcError(
            StatusCode.UNAVAILABLE, f"cannot connect to {target}: {cause_of(error)}; {cure}"
        ) from None
    except trio.BrokenResourceError as error:
        # trio's own stream has a group, or no cause at all, if the peer just leaves.
        raise no_tls_error(target, error.__cause__ or error, PLAIN_CONTROLLER) from None
    if not certificate:
        raise RpcError(StatusCode.UNAVAILABLE, f"{target} shows no certificate; is it the right port?")
    return bytes(certificate)


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, as `AB:CD:…`."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `host[:port]`, `[v6]:port`; the port is 443 if left out.

    Raises:
        EndpointError: it has no host, or a port that is none.
    """
    try:
        return split_host_port(endpoint, default_port=CONTROLLER_PORT)
    except AddressSyntaxError as error:
        raise EndpointError(str(error)) from None
