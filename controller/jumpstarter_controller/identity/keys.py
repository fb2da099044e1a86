"""Key files: made once, readable by their owner only."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private

__all__ = ["ROUTER_KEY_BYTES", "random_key", "signing_key"]

ROUTER_KEY_BYTES = 32


def signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in a file, which is created if it does not exist.

    Raises:
        PrivateFileError: the file does not contain such a key, or other users may read it.
    """
    if not path.exists():
        new = ec.generate_private_key(ec.SECP256R1())
        pem = new.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem)
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise PrivateFileError(f"{path} holds no private key: {error}; restore a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PrivateFileError(f"{path} holds a key of another kind; a P-256 key is needed")
    return key


def random_key(path: Path) -> bytes:
    """The random bytes in that file, made first if there is none. PrivateFileError as in `signing_key`."""
    if not path.exists():
        write_private(path, secrets.token_bytes(ROUTER_KEY_BYTES))
    key = read_private(path)
    if len(key) < ROUTER_KEY_BYTES:
        raise PrivateFileError(
            f"{path} is too short for a key; it has to have {ROUTER_KEY_BYTES} bytes or more"
        )
    return key
