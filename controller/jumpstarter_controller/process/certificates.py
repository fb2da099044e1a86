"""The certificates that a controller and its routers show: given ones, or one made here and pinned by users.

The one made here is also the authority of those that routers in other places get.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.private_files import read_private, write_private
from jumpstarter_proto.remote import fingerprint_of

__all__ = ["Certificate", "CertificateError", "issue", "own_certificate", "renew", "replica_certificate"]

DAYS = 3650
"""Users pin the certificate, so an expiry affects all of them. A short validity would only make that more frequent."""


class CertificateError(JumpstarterError):
    """The certificate cannot be used."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Certificate:
    """PEM files of a chain and its key."""

    chain: Path
    key: Path
    self_signed: bool

    @property
    def before(self) -> Certificate | None:
        """Where the certificate is that one made here was made anew after; None for others."""
        return replace(self, chain=self.chain.with_suffix(".before.crt")) if self.self_signed else None

    def authority(self) -> x509.Certificate:
        """What one made here is signed by: itself, or the last of its chain when it was renewed."""
        try:
            return x509.load_pem_x509_certificates(self._read())[-1]
        except ValueError as error:
            raise CertificateError(f"{self.chain} is not a PEM certificate: {error}") from None

    def _read(self) -> bytes:
        try:
            return self.chain.read_bytes()
        except OSError as error:
            raise CertificateError(
                f"{self.chain} cannot be read: {error.strerror}; check the path, and let this user read it"
            ) from None

    def ends(self) -> float:
        """When it expires, in seconds since the epoch. CertificateError: it cannot be read."""
        return self.first().not_valid_after_utc.timestamp()

    def begins(self) -> float:
        """When its validity begins, in the same way."""
        return self.first().not_valid_before_utc.timestamp()

    def first(self) -> x509.Certificate:
        """The leaf certificate of the chain. CertificateError: it cannot be read."""
        try:
            return x509.load_pem_x509_certificate(self._read())
        except ValueError as error:
            raise CertificateError(f"{self.chain} is not a PEM certificate: {error}") from None

    def fingerprint(self) -> str:
        """SHA-256 of the certificate, for `--tls-fingerprint`."""
        return fingerprint_of(self.first().public_bytes(serialization.Encoding.DER))

    def hosts(self) -> list[str]:
        """The names and addresses that it is valid for."""
        try:
            names = self.first().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ]

    def covers(self, host: str) -> bool:
        """Whether it is for that host; a name may stand below a `*.`."""
        try:
            wanted = {str(ipaddress.ip_address(host))}
        except ValueError:
            wanted = {host.lower(), f"*.{host.lower().partition('.')[2]}"}
        return not wanted.isdisjoint(one.lower() for one in self.hosts())

    def pinned(self) -> str:
        """The certificate that users have to trust, in PEM; empty: a CA of the system has issued it."""
        if not self.self_signed:
            return ""
        return self.authority().public_bytes(serialization.Encoding.PEM).decode("ascii")


def own_certificate(folder: Path, hosts: list[str], days: float = DAYS) -> Certificate:
    """The self-signed certificate of that folder. It is created for these hosts the first time."""
    made = Certificate(folder / "tls.crt", folder / "tls.key", True)
    hosts = [*hosts, "localhost", socket.gethostname(), "127.0.0.1", "::1"]
    return _made(made, "jumpstarter controller", hosts, days)


def replica_certificate(folder: Path) -> Certificate:
    """The certificate that the controllers of a lab share to authenticate each other, created the first time."""
    made = Certificate(folder / "replicas.crt", folder / "replicas.key", True)
    return _made(made, "jumpstarter replicas", ["localhost"], DAYS)


def _made(made: Certificate, common_name: str, hosts: list[str], days: float) -> Certificate:
    if made.chain.exists() and made.key.exists():
        return made
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = _signed(name, hosts, key.public_key(), name, key, authority=True, days=days)
    write_private(made.key, _private_pem(key))
    write_private(made.chain, certificate.public_bytes(serialization.Encoding.PEM))
    return made


def renew(own: Certificate) -> None:
    """Replace a certificate that was created here by a new one with the same key and hosts.

    The old CA certificate is kept beside it if it was valid. One that was created with a wrong clock has no users.

    The new certificate is signed by the CA, old and new, so clients that pinned either of them trust it. TLS clients
    do not trust a self-signed certificate that is not pinned.

    Raises:
        CertificateError: the certificate was not created here.
        OSError, PrivateFileError: the files cannot be read or written.
    """
    key, old, hosts = _own_key(own), own.authority(), own.hosts()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jumpstarter controller, renewed")])
    new = [
        _signed(name, hosts, key.public_key(), old.subject, key, authority=False),
        _signed(old.subject, hosts, key.public_key(), old.subject, key, authority=True),
    ]
    if own.before is not None and own.begins() <= time.time():
        write_private(own.before.chain, old.public_bytes(serialization.Encoding.PEM))
    write_private(own.chain, b"".join(one.public_bytes(serialization.Encoding.PEM) for one in new))


def _own_key(own: Certificate) -> ec.EllipticCurvePrivateKey:
    try:
        signer = serialization.load_pem_private_key(read_private(own.key), password=None)
    except ValueError as error:
        raise CertificateError(f"{own.key} is not a private key: {error}; restore a backup") from None
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{own.key} was not created by this controller and is not a CA key")
    return signer


def issue(folder: Path, host: str) -> bytes:
    """A key and a certificate for that host, vouched for by the folder's own certificate; both, with it, as PEM.

    Raises:
        CertificateError: the folder has no certificate with a key that can sign.
    """
    own = own_certificate(folder, [])
    authority, signer = own.authority(), _own_key(own)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jumpstarter router")])
    certificate = _signed(name, [host], key.public_key(), authority.subject, signer, authority=False)
    chain = [one.public_bytes(serialization.Encoding.PEM) for one in (certificate, authority)]
    return _private_pem(key) + b"".join(chain)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _signed(
    subject: x509.Name,
    hosts: list[str],
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
    days: float = DAYS,
) -> x509.Certificate:
    """A server's certificate for these hosts; an `authority` may sign those of others, too."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
