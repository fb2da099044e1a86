"""The nonce that goes with a pairing code. It is kept until what the code was good for is kept.

A command that was killed in between can be repeated: the controller knows by the nonce that it is the same one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private

from jumpstarter_exporter.config.identities import Identities

__all__ = ["forget_nonce", "pairing_nonce"]


def pairing_nonce(identities: Identities, code: str) -> str:
    """The nonce of this code: the one that was kept, or a new one, which is kept now.

    Raises:
        PrivateFileError: it cannot be kept.
    """
    path = _path(identities)
    digest = hashlib.sha256("".join(code.upper().split()).replace("-", "").encode()).hexdigest()
    try:
        kept = parse_json(read_private(path))
        if kept["code"] == digest and isinstance(kept["nonce"], str):
            return kept["nonce"]
    except (FileNotFoundError, PrivateFileError, ValueError, KeyError, TypeError):
        pass  # none, or another code's
    nonce = secrets.token_hex(16)
    identities.prepare()
    write_private(path, json.dumps({"code": digest, "nonce": nonce}).encode())
    return nonce


def forget_nonce(identities: Identities) -> None:
    """The result of the code is stored: the nonce is no longer needed."""
    _path(identities).unlink(missing_ok=True)


def _path(identities: Identities) -> Path:
    return identities.folder.parent / "pairing.json"
