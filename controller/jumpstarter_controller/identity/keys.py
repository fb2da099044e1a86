"""Key files: made once, readable by their owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["KeyFileError", "random_key", "read_private", "signing_key", "write_private"]

ROUTER_KEY_BYTES = 32
LARGEST = 64 * 1024


class KeyFileError(JumpstarterError):
    """A key file cannot be used."""

    exit_code = ExitCode.USAGE


def signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in that file, made first if there is none.

    Raises:
        KeyFileError: it is no such key, or others may read it.
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
        raise KeyFileError(f"{path} holds no private key: {error}; bring a backup back") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(f"{path} holds a key of another kind; a P-256 key is needed")
    return key


def random_key(path: Path) -> bytes:
    """The random bytes in that file, made first if there is none. KeyFileError as in `signing_key`."""
    if not path.exists():
        write_private(path, secrets.token_bytes(ROUTER_KEY_BYTES))
    key = read_private(path)
    if len(key) < ROUTER_KEY_BYTES:
        raise KeyFileError(f"{path} is too short for a key; it has to have {ROUTER_KEY_BYTES} bytes or more")
    return key


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all. KeyFileError when it cannot be written."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}; choose another place") from None


def read_private(path: Path) -> bytes:
    """Read a file that only its owner can read. KeyFileError when others can, or nobody."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyFileError(f"{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")
            return file.read(LARGEST)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
