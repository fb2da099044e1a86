"""Whom we trust and when we try again, against real TLS."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jumpstarter_proto.remote import (
    Backoff,
    EndpointError,
    Identity,
    Kind,
    Trust,
    fetch_certificate,
    open_controller,
    open_router,
    split_endpoint,
)
from jumpstarter_proto.rpc import (
    RpcError,
    Server,
    ServerCall,
    UntrustedError,
    server_ssl_context,
    tcp_listeners,
)
from jumpstarter_proto.v1 import jumpstarter_grpc, jumpstarter_pb2


class Names(jumpstarter_grpc.ControllerServiceServicer):
    """Says who calls."""

    async def RequestLease(  # noqa: N802 - the procedure's name
        self,
        request: jumpstarter_pb2.RequestLeaseRequest,
        call: ServerCall[jumpstarter_pb2.RequestLeaseRequest, jumpstarter_pb2.RequestLeaseResponse],
    ) -> jumpstarter_pb2.RequestLeaseResponse:
        return jumpstarter_pb2.RequestLeaseResponse(name=f"{call.header('jumpstarter-name')}")


Lab = tuple[str, trustme.CA]


@pytest.fixture
async def lab(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Lab]:
    """An endpoint with TLS, and its authority."""
    authority = trustme.CA()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    server = Server([Names()])
    listeners = await tcp_listeners("localhost", 0, ssl_context=server_ssl_context(chain, key))
    inner = listeners[0].transport_listener  # type: ignore[attr-defined]
    assert isinstance(inner, trio.SocketListener)
    port = inner.socket.getsockname()[1]
    await nursery.start(server.serve, listeners[:1])
    yield f"localhost:{port}", authority
    nursery.cancel_scope.cancel()


async def name(endpoint: str, trust: Trust) -> str:
    identity = Identity(Kind.CLIENT, "default", "ann", "secret")
    async with open_controller(endpoint, trust, identity) as channel:
        stub = jumpstarter_grpc.ControllerServiceStub(channel)
        return (await stub.RequestLease(jumpstarter_pb2.RequestLeaseRequest(), timeout=10)).name


async def test_each_kind_of_trust_reaches_the_controller(lab: Lab) -> None:
    endpoint, authority = lab
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    der = await fetch_certificate(*split_endpoint(endpoint))
    pin = hashlib.sha256(der).hexdigest()
    for trust in (Trust(ca=ca), Trust(insecure=True), Trust(fingerprint=pin), Trust(fingerprint=pin.upper())):
        assert await name(endpoint, trust) == "ann"


async def test_what_is_not_trusted_is_refused(lab: Lab) -> None:
    endpoint, _ = lab
    other = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
    for trust in (Trust(), Trust(ca=other), Trust(fingerprint="00" * 32)):
        with pytest.raises(RpcError) as caught:
            await name(endpoint, trust)
        assert "certificate" in caught.value.details
    with pytest.raises(EndpointError, match="base64"):
        await name(endpoint, Trust(ca="%%%"))
    for short in ("3F:A0", ":", "0" * 63, "0" * 63 + "g"):
        with pytest.raises(EndpointError, match="not a SHA-256 fingerprint"):
            await name(endpoint, Trust(fingerprint=short))


@dataclass(frozen=True)
class Maker:
    """Makes its own certificate, as a controller does, and signs others with it."""

    key: ec.EllipticCurvePrivateKey
    subject: x509.Name

    def sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool, days: float = 9
    ) -> bytes:
        """A certificate for localhost, in PEM."""
        now = datetime.datetime.now(datetime.UTC)
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


def subject(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


async def serving(
    folder: Path, nursery: trio.Nursery, chain: bytes, key: ec.EllipticCurvePrivateKey, handler: object
) -> str:
    """An endpoint that shows this chain."""
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir()
    (folder / "chain").write_bytes(chain)
    (folder / "key").write_bytes(plain)
    server = Server([handler])  # type: ignore[list-item]
    context = server_ssl_context(folder / "chain", folder / "key")
    listener, *_ = await tcp_listeners("127.0.0.1", 0, ssl_context=context)
    await nursery.start(server.serve, [listener])
    return f"localhost:{listener.transport_listener.socket.getsockname()[1]}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("called", ["jumpstarter router", "jumpstarter controller"])
async def test_what_the_pinned_certificate_signs_is_not_a_controller(
    tmp_path: Path, nursery: trio.Nursery, called: str
) -> None:
    """It may be a router."""
    maker = Maker(ec.generate_private_key(ec.SECP256R1()), subject("jumpstarter controller"))
    pinned = maker.sign(maker.subject, maker.key, authority=True)
    other = ec.generate_private_key(ec.SECP256R1())
    signed = maker.sign(subject(called), other, authority=False)
    names = Names()
    own = await serving(tmp_path / "own", nursery, pinned, maker.key, names)
    false = await serving(tmp_path / "false", nursery, signed + pinned, other, names)
    trust = Trust(ca=base64.b64encode(pinned).decode())
    assert await name(own, trust) == "ann"
    with pytest.raises(UntrustedError, match="not the pinned one"):
        await name(false, trust)
    async with open_router(false, trust):
        pass
    nursery.cancel_scope.cancel()


async def test_router_whose_certificate_has_ended_is_refused_and_the_pinned_one_is_not(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    maker = Maker(ec.generate_private_key(ec.SECP256R1()), subject("jumpstarter controller"))
    pinned = maker.sign(maker.subject, maker.key, authority=True, days=-0.5)
    other = ec.generate_private_key(ec.SECP256R1())
    ended = maker.sign(subject("jumpstarter router"), other, authority=False, days=-0.5)
    good = maker.sign(subject("jumpstarter router"), other, authority=False, days=40_000)  # a GeneralizedTime
    trust = Trust(ca=base64.b64encode(pinned).decode())
    for number, (chain, key) in enumerate([(pinned, maker.key), (good + pinned, other)]):
        async with open_router(await serving(tmp_path / str(number), nursery, chain, key, Names()), trust):
            pass
    router = await serving(tmp_path / "ended", nursery, ended + pinned, other, Names())
    with pytest.raises(UntrustedError, match="has expired"):
        async with open_router(router, trust):
            pass
    nursery.cancel_scope.cancel()


async def test_a_fingerprint_is_compared_on_the_connection_that_is_used(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who shows the pinned certificate at the first look, and another behind it, gets no word from us."""
    maker = Maker(ec.generate_private_key(ec.SECP256R1()), subject("jumpstarter controller"))
    pinned = maker.sign(maker.subject, maker.key, authority=True)
    other = ec.generate_private_key(ec.SECP256R1())
    signed = maker.sign(subject("jumpstarter router"), other, authority=False)
    own = await serving(tmp_path / "own", nursery, pinned, maker.key, Names())
    false = await serving(tmp_path / "false", nursery, signed + pinned, other, Names())
    trust = Trust(fingerprint=hashlib.sha256(ssl.PEM_cert_to_DER_cert(pinned.decode())).hexdigest())
    assert await name(own, trust) == "ann"

    async def changes_sides(host: str, port: int, *, timeout: float) -> bytes:
        return await fetch_certificate(*split_endpoint(own), timeout=timeout)

    monkeypatch.setattr("jumpstarter_proto.remote.trust.fetch_certificate", changes_sides)
    with pytest.raises(UntrustedError, match="not the pinned one"):
        await name(false, trust)
    nursery.cancel_scope.cancel()


async def test_nobody_at_the_address_is_said_in_the_systems_words() -> None:
    with trio.socket.socket() as closed:  # bound and not listening, so that nobody else gets the port
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(RpcError) as caught:
            await fetch_certificate("127.0.0.1", port)
    assert caught.value.details == (
        f"cannot connect to 127.0.0.1:{port}: Connection refused; is the controller running there?"
    )


async def test_an_unknown_name_is_said_with_what_to_do_about_it() -> None:
    with pytest.raises(
        RpcError, match=r"cannot connect to lab\.invalid:8082: .+; check the name, or use an address$"
    ):
        await fetch_certificate("lab.invalid", 8082)


async def test_an_insecure_peer_still_needs_the_name(lab: Lab) -> None:
    endpoint, _ = lab
    port = endpoint.rpartition(":")[2]
    with pytest.raises(RpcError, match="certificate"):
        await name(f"127.0.0.1:{port}", Trust(insecure=True))


@pytest.mark.parametrize("endpoint", ["", ":8082", "host:0", "host:99999", "https://host/x", "host:http"])
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="HOST:PORT"):
        split_endpoint(endpoint)


def test_endpoints() -> None:
    assert split_endpoint("lab.example") == ("lab.example", 443)
    assert split_endpoint("[::1]:8082") == ("::1", 8082)
    assert split_endpoint("[::1]") == ("::1", 443)


def test_backoff_doubles_to_its_cap_and_starts_again() -> None:
    backoff = Backoff(0.5, 4, random_source=random.Random(1))
    delays = [backoff.next() for _ in range(10)]
    for delay, most in zip(delays, [0.5, 1, 2, 4, 4, 4, 4, 4, 4, 4], strict=True):
        assert most / 2 <= delay <= most
    backoff.reset()
    assert backoff.next() <= 0.5


def test_a_token_is_in_no_text() -> None:
    assert "secret" not in repr(Identity(Kind.CLIENT, "ns", "n", "secret"))
