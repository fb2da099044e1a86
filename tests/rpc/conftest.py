"""Addresses of every kind, and certificates for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


@dataclass(frozen=True)
class Certificates:
    """Of a server on this machine, by an authority of its own; PEM."""

    chain: bytes
    key: bytes
    authority: bytes


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    return Certificates(
        server.cert_chain_pems[0].bytes(), server.private_key_pem.bytes(), authority.cert_pem.bytes()
    )


@pytest.fixture
def certificate_files(certificates: Certificates, tmp_path: Path) -> tuple[Path, Path]:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificates.chain)
    key.write_bytes(certificates.key)
    return chain, key


@pytest.fixture(params=["unix", "tcp", "tls"])
def transport(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind
