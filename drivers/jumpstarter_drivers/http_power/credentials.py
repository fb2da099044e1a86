"""How a device is told who asks: Basic, Digest (MD5 and SHA-256, RFC 7616), a bearer token. Without I/O.

A password is never in a message of an error, in a log or in a `repr`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Authenticator", "Credentials", "Scheme"]

Scheme = Literal["basic", "digest", "bearer", "none"]
"""`none` is for devices that are told in the address or in a form."""

_PARAMETER = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z0-9_-]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s,]+)')
"""Possessive, and from a word's beginning: a device chooses how long it is, and nothing may take its square."""
_HASHES = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
"""The better one first."""


@dataclass(frozen=True)
class Credentials:
    """A user's name and password; `password` alone is a token."""

    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse what would become a header of its own."""
        if not self.user.isprintable() or not self.password.isprintable():
            raise ValueError("user and password are each a line of printable characters")


class Authenticator:
    """Makes the Authorization header of each request to one device. A challenge is remembered and used again."""

    def __init__(self, scheme: Scheme, credentials: Credentials | None) -> None:
        self._scheme = scheme if credentials is not None else "none"
        self._credentials = credentials or Credentials()
        self._challenge: _Challenge | None = None

    def header(self, method: str, target: str) -> dict[str, str]:
        """For the next request; empty while a device that is asked by digest has not said its challenge."""
        who = self._credentials
        match self._scheme:
            case "basic":
                pair = base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
                return {"Authorization": f"Basic {pair}"}
            case "bearer":
                return {"Authorization": f"Bearer {who.password}"}
            case "digest" if self._challenge is not None:
                return {"Authorization": self._challenge.answer(who, method, target)}
        return {}

    def challenged(self, headers: Sequence[str]) -> bool:
        """The device answered 401 with these WWW-Authenticate headers: whether asking again may help.

        Only a digest is answered, and a new one only: a Basic challenge never gets the password of a digest.
        """
        if self._scheme != "digest":
            return False
        before, self._challenge = (
            self._challenge,
            _best([one for text in headers for one in _challenges(text)]),
        )
        is_new = before is None or (self._challenge is not None and self._challenge.nonce != before.nonce)
        return self._challenge is not None and is_new


class _Challenge:
    def __init__(self, parameters: dict[str, str]) -> None:
        self.nonce = parameters["nonce"]
        self._realm = parameters.get("realm", "")
        self._opaque = parameters.get("opaque")
        self.algorithm = parameters.get("algorithm", "MD5")
        self._has_qop = "qop" in parameters
        self._count = 0

    def answer(self, who: Credentials, method: str, target: str) -> str:
        """The header. Each answer counts one up, which is how a device tells a repetition."""
        self._count += 1
        count, client_nonce = f"{self._count:08x}", secrets.token_hex(16)
        first = self._hash(f"{who.user}:{self._realm}:{who.password}")
        if self.algorithm.upper().endswith("-SESS"):
            first = self._hash(f"{first}:{self.nonce}:{client_nonce}")
        second = self._hash(f"{method}:{target}")
        between = f"{self.nonce}:{count}:{client_nonce}:auth" if self._has_qop else self.nonce
        quoted = {
            "username": who.user,
            "realm": self._realm,
            "nonce": self.nonce,
            "uri": target,
            "response": self._hash(f"{first}:{between}:{second}"),
        }
        if self._opaque is not None:
            quoted["opaque"] = self._opaque
        plain = {"algorithm": self.algorithm}
        if self._has_qop:
            plain |= {"qop": "auth", "nc": count}
            quoted["cnonce"] = client_nonce
        return "Digest " + ", ".join(
            [
                *(f'{name}="{_escaped(value)}"' for name, value in quoted.items()),
                *(f"{k}={v}" for k, v in plain.items()),
            ]
        )

    def _hash(self, text: str) -> str:
        return _HASHES[self.base](text.encode()).hexdigest()

    @property
    def base(self) -> str:
        """The hash function's name."""
        return self.algorithm.upper().removesuffix("-SESS")


def _challenges(header: str) -> list[_Challenge]:
    """The usable digest challenges of one WWW-Authenticate header, which may have several of several kinds."""
    found = []
    for part in re.split(r"(?:^|,)\s*(?=[A-Za-z]+\s+[A-Za-z0-9_-]+\s*=)", header):
        kind, _, rest = part.strip().partition(" ")
        if kind.lower() != "digest":
            continue
        parameters = {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(rest)}
        if not all(value.isprintable() for value in parameters.values()):
            continue
        # `auth-int` alone would need the body; no device of a lab asks for it.
        if "qop" in parameters and "auth" not in re.split(r"[\s,]+", parameters["qop"]):
            continue
        if "nonce" in parameters and (one := _Challenge(parameters)).base in _HASHES:
            found.append(one)
    return found


def _best(challenges: list[_Challenge]) -> _Challenge | None:
    order = list(_HASHES)
    return min(challenges, key=lambda one: order.index(one.base), default=None)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
