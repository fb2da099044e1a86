"""What a token says of itself, for its owner to see. Only a controller can tell whether that is true."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import dataclass

from jumpstarter_proto.json_texts import parse_json

__all__ = ["SUBJECT_AUDIENCE", "Claims", "read_claims"]

OWN = "https://localhost:8085"
"""Jumpstarter's name for a controller's own tokens."""
SUBJECT_AUDIENCE = "urn:jumpstarter:"
"""The prefix of the audience that names the subject, in tokens that the cluster of the controller signs."""
RENEWAL_SECONDS = 30 * 86400.0
"""Tokens that are valid for at least three times this long are renewed this long before their expiry."""
MAX_TIME_SECONDS = 253_370_764_800.0
"""The year 9999, in seconds since the epoch: a later time is a date in no time zone."""


@dataclass(frozen=True)
class Claims:
    """The claims of a JWT; missing ones are empty or None."""

    issuer: str = ""
    expires: float | None = None
    """Seconds since the epoch, from 0 to `MAX_TIME_SECONDS`."""
    audiences: tuple[str, ...] = ()
    client: str = ""
    """The owner of the connection of a router token, if our controller issued it."""
    issued: float | None = None
    """Seconds since the epoch."""
    subject: str = ""
    """Of our controller's own tokens `client:NAMESPACE:NAME:UID`."""

    @property
    def left(self) -> float | None:
        """Seconds until it ends, by this machine's clock; None if it does not say."""
        return None if self.expires is None else self.expires - time.time()

    @property
    def renewal_seconds(self) -> float | None:
        """Seconds until it should be renewed, by this machine's clock: a third of its time, or a month, before its end.

        It may be due since long. None if it does not say when it ends.
        """
        if self.expires is None or self.left is None:
            return None
        lifetime = 0.0 if self.issued is None else self.expires - self.issued
        return self.left - (min(RENEWAL_SECONDS, lifetime / 3) if lifetime > 0 else RENEWAL_SECONDS)

    @property
    def is_own(self) -> bool:
        """Whether the controller itself issued it, or its cluster for it."""
        return self.issuer == OWN or any(one.startswith(SUBJECT_AUDIENCE) for one in self.audiences)


def read_claims(token: str) -> Claims:
    """Return the unverified claims of a token; empty if it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return Claims()
    try:
        claims = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return Claims()
    if not isinstance(claims, dict):
        return Claims()
    issuer, expires, audiences = claims.get("iss"), claims.get("exp"), claims.get("aud")
    client, subject = claims.get("client"), claims.get("sub")
    if isinstance(audiences, str):
        audiences = [audiences]
    return Claims(
        issuer if isinstance(issuer, str) else "",
        _time(expires),
        tuple(one for one in audiences if isinstance(one, str)) if isinstance(audiences, list) else (),
        client if isinstance(client, str) else "",
        _time(claims.get("iat")),
        subject if isinstance(subject, str) else "",
    )


def _time(claim: object) -> float | None:
    """A number may be larger than a float can be, and may be no number."""
    if not isinstance(claim, int | float) or isinstance(claim, bool):
        return None
    time_of_end = float(min(max(claim, 0.0), MAX_TIME_SECONDS))
    return None if math.isnan(time_of_end) else time_of_end
