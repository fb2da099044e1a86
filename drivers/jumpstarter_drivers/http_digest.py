"""HTTP's Digest authentication (RFC 7616, MD5 and SHA-256), for devices that ask for it. Without I/O."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

__all__ = ["DigestChallenge", "best_challenge"]

_PARAMETER = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z0-9_-]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s,]+)')
"""Possessive, and from a word's beginning: a device chooses how long it is, and nothing may take its square."""
_HASHES = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
"""The better one first."""


def best_challenge(headers: Sequence[str]) -> DigestChallenge | None:
    """Return the best Digest challenge of WWW-Authenticate headers; None if none is supported.

    A header may have several challenges, of several schemes.
    """
    order = list(_HASHES)
    found = [one for text in headers for one in _challenges(text)]
    return min(found, key=lambda one: order.index(one.base), default=None)


class DigestChallenge:
    """A challenge of a server, and the answers to it."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.nonce = parameters["nonce"]
        self._realm = parameters.get("realm", "")
        self._opaque = parameters.get("opaque")
        self.algorithm = parameters.get("algorithm", "MD5")
        self._has_qop = "qop" in parameters
        self._count = 0

    def answer(self, user: str, password: str, method: str, target: str) -> str:
        """Return the value of Authorization, with the next nonce count, by which a device detects a repetition."""
        self._count += 1
        count, client_nonce = f"{self._count:08x}", secrets.token_hex(16)
        first = self._hash(f"{user}:{self._realm}:{password}")
        if self.algorithm.upper().endswith("-SESS"):
            first = self._hash(f"{first}:{self.nonce}:{client_nonce}")
        second = self._hash(f"{method}:{target}")
        between = f"{self.nonce}:{count}:{client_nonce}:auth" if self._has_qop else self.nonce
        quoted = {
            "username": user,
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


def _challenges(header: str) -> list[DigestChallenge]:
    """Return the supported Digest challenges of one WWW-Authenticate header."""
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
        if "nonce" in parameters and (one := DigestChallenge(parameters)).base in _HASHES:
            found.append(one)
    return found


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
