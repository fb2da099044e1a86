"""HTTP's Digest authentication, which most IP cameras want (RFC 7616), for GET requests."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

__all__ = ["Challenge", "parse_challenge"]

_PARAMETER = re.compile(r'(?<![\w-])([\w-]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]+))')
"""Possessive, and from a word's beginning: a camera chooses how long it is, and nothing may take its square."""
_ALGORITHMS = {"MD5": "md5", "SHA-256": "sha256"}
"""By their names in a challenge; the better one is later."""


@dataclass
class Challenge:
    """What a server wants to have hashed with the password."""

    realm: str
    nonce: str
    algorithm: str
    opaque: str | None
    has_qop: bool
    _count: int = 0

    def answer(self, user: str, password: str, target: str) -> str:
        """The value of Authorization."""
        self._count += 1
        count, own = f"{self._count:08x}", secrets.token_hex(8)
        secret = self._hash(f"{user}:{self.realm}:{password}")
        request = self._hash(f"GET:{target}")
        middle = f"{count}:{own}:auth:" if self.has_qop else ""
        response = self._hash(f"{secret}:{self.nonce}:{middle}{request}")
        fields = [
            f'username="{_quoted(user)}"',
            f'realm="{_quoted(self.realm)}"',
            f'nonce="{_quoted(self.nonce)}"',
            f'uri="{target}"',
            f"algorithm={self.algorithm}",
            f'response="{response}"',
        ]
        if self.has_qop:
            fields += ["qop=auth", f"nc={count}", f'cnonce="{own}"']
        if self.opaque is not None:
            fields.append(f'opaque="{_quoted(self.opaque)}"')
        return "Digest " + ", ".join(fields)

    def _hash(self, text: str) -> str:
        return hashlib.new(_ALGORITHMS[self.algorithm], text.encode(), usedforsecurity=False).hexdigest()


def parse_challenge(header: str) -> Challenge | None:
    """The best of the Digest challenges of a WWW-Authenticate; None if there is none that can be answered."""
    found: dict[str, Challenge] = {}
    for scheme in re.split(r"(?i)(?:^|,)\s*digest\s+", header)[1:]:
        given = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            for name, quoted, plain in _PARAMETER.findall(re.split(r"(?i),\s*basic\s+\w", scheme)[0])
        }
        algorithm = given.get("algorithm", "MD5").upper()
        qops = [one.strip() for one in given.get("qop", "").lower().split(",")]
        if algorithm in _ALGORITHMS and "nonce" in given and (qops == [""] or "auth" in qops):
            found[algorithm] = Challenge(
                given.get("realm", ""), given["nonce"], algorithm, given.get("opaque"), "auth" in qops
            )
    return next((found[name] for name in reversed(_ALGORITHMS) if name in found), None)


def _quoted(text: str) -> str:
    # A server's control characters would begin a header of its own.
    return re.sub(r'(["\\])', r"\\\1", "".join(one for one in text if one.isprintable()))
