"""What a token says of itself, for its owner to see. Only a controller can tell whether that is true."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.documents import edited
from jumpstarter_proto.private_files import write_private

__all__ = ["Claims", "read_claims", "replace_tokens"]

OWN = "https://localhost:8085"
"""Jumpstarter's name for a controller's own tokens."""


@dataclass(frozen=True)
class Claims:
    """Of a JWT; empty or None where it does not say."""

    issuer: str = ""
    expires: float | None = None
    """Seconds since the epoch."""
    audiences: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether the controller itself issued it."""
        return self.issuer == OWN


def read_claims(token: str) -> Claims:
    """The claims of a token; of what is no JWT, none."""
    parts = token.split(".")
    if len(parts) != 3:
        return Claims()
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return Claims()
    if not isinstance(claims, dict):
        return Claims()
    issuer, expires, audiences = claims.get("iss"), claims.get("exp"), claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    return Claims(
        issuer if isinstance(issuer, str) else "",
        float(expires) if isinstance(expires, int | float) and not isinstance(expires, bool) else None,
        tuple(one for one in audiences if isinstance(one, str)) if isinstance(audiences, list) else (),
    )


def replace_tokens(path: Path, token: str, refresh_token: str = "") -> None:
    """Put new tokens into a configuration; all else stays, comments too. PrivateFileError if it cannot be written."""
    changes: dict[tuple[str, ...], str | bool] = {("token",): token}
    if refresh_token:
        changes[("refresh_token",)] = refresh_token
    write_private(path, edited(path.read_text(encoding="utf-8"), changes).encode())
