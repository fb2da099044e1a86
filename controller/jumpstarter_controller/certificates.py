"""The certificate that the controller and its router show: one that was given, or one made here and pinned by users."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.private_files import write_private
from jumpstarter_proto.remote import fingerprint_of

__all__ = ["Certificate", "CertificateError", "own_certificate"]

DAYS = 3650
"""Users pin it, so its end is everybody's bad day; a year would only make that day come sooner."""


class CertificateError(JumpstarterError):
    """The certificate cannot be used."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Certificate:
    """PEM files of a chain and its key."""

    chain: Path
    key: Path
    self_signed: bool

    def _first(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.chain.read_bytes())
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self.chain} is no PEM certificate: {error}") from None

    def fingerprint(self) -> str:
        """SHA-256 of the certificate, for `--tls-fingerprint`."""
        return fingerprint_of(self._first().public_bytes(serialization.Encoding.DER))

    def pinned(self) -> str:
        """What users have to trust, in PEM; empty when the system's authorities vouch for it."""
        return self.chain.read_text("ascii") if self.self_signed else ""


def own_certificate(folder: Path, hosts: list[str]) -> Certificate:
    """A self-signed certificate for these hosts in that folder, made the first time and kept from then on."""
    made = Certificate(folder / "tls.crt", folder / "tls.key", True)
    if made.chain.exists() and made.key.exists():
        return made
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jumpstarter controller")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([*hosts, "localhost", socket.gethostname(), "127.0.0.1", "::1"]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(
        made.key,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    write_private(made.chain, certificate.public_bytes(serialization.Encoding.PEM))
    return made
