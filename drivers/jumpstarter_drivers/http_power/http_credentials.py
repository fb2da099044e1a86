"""Authentication at a device: Basic, Digest (MD5 and SHA-256, RFC 7616), a bearer token. Without I/O.

A password is never in a message of an error, in a log or in a `repr`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, quote_plus

from jumpstarter_drivers.http_digest import DigestChallenge, best_challenge

__all__ = ["HttpAuthenticator", "HttpCredentials", "Scheme"]

Scheme = Literal["basic", "digest", "bearer", "none"]
"""`none` is for devices that are told in the address or in a form."""


@dataclass(frozen=True)
class HttpCredentials:
    """A user's name and password; `password` alone is a token."""

    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Reject characters that would begin another header."""
        if not self.user.isprintable() or not self.password.isprintable():
            raise ValueError("user and password are each a line of printable characters")

    def hide(self, text: str) -> str:
        """Return a device's text without the password, which a device may repeat in any form that it was sent in."""
        for form in sorted(set(self._forms()), key=len, reverse=True):
            text = text.replace(form, "...")
        return text

    def _forms(self) -> Iterator[str]:
        secret = self.password
        if secret:
            yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
            yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
            yield base64.b64encode(f"{self.user}:{secret}".encode()).decode()


class HttpAuthenticator:
    """Makes the Authorization header of each request to one device. A challenge is remembered and used again."""

    def __init__(self, scheme: Scheme, credentials: HttpCredentials | None) -> None:
        self._scheme = scheme if credentials is not None else "none"
        self._credentials = credentials or HttpCredentials()
        self._challenge: DigestChallenge | None = None

    def header(self, method: str, target: str) -> dict[str, str]:
        """Return the headers for the next request; none for Digest before the first challenge."""
        who = self._credentials
        match self._scheme:
            case "basic":
                pair = base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
                return {"Authorization": f"Basic {pair}"}
            case "bearer":
                return {"Authorization": f"Bearer {who.password}"}
            case "digest" if self._challenge is not None:
                return {"Authorization": self._challenge.answer(who.user, who.password, method, target)}
        return {}

    def refusal(self, header: str) -> str:
        """Why a 401 with this WWW-Authenticate cannot be answered, and what to do; empty if it could be."""
        offered = sorted(
            {name.lower() for name in re.findall(r"(?:^|,)\s*([A-Za-z]{1,20})(?=\s|,|$)", header)}
        )
        if self._scheme == "none" or not offered:
            return ""
        if self._scheme not in offered:
            return (
                f"asks for a login by {', '.join(offered[:4])}, and not by {self._scheme} as the configuration has it; "
                "check `device`, or its key in `auth`"
            )
        if self._scheme == "digest" and best_challenge([header]) is None:
            return "asks for a digest with an algorithm other than MD5 and SHA-256; choose one of these in its settings"
        return ""

    def challenged(self, headers: Sequence[str]) -> bool:
        """The device answered 401 with these WWW-Authenticate headers: whether asking again may help.

        Only a digest is answered, and a new one only: a Basic challenge never gets the password of a digest.
        """
        if self._scheme != "digest":
            return False
        before, self._challenge = self._challenge, best_challenge(headers)
        is_new = before is None or (self._challenge is not None and self._challenge.nonce != before.nonce)
        return self._challenge is not None and is_new
