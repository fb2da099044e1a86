"""An issuer's public keys as they were last fetched, and when to fetch them again. No I/O.

Tokens that name a key that is not known may be signed with a new one, or be garbage: the keys are fetched again,
but not more often than each `MIN_FETCH_INTERVAL_SECONDS`. Old keys are fetched again as well, so that withdrawn keys
become invalid; while the issuer does not answer, they stay valid.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any

import jwt

__all__ = ["ALGORITHMS", "KeyCache", "KeyLookup"]

MIN_FETCH_INTERVAL_SECONDS = 10.0
"""The shortest interval between two fetches."""
MAX_KEY_AGE_SECONDS = 600.0
"""The age at which keys are fetched again."""
OLD_KEYS_RETRY_SECONDS = 60.0
"""The interval between two attempts to replace old keys; a request may have to wait for an attempt."""
MAX_KEYS = 64
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Only asymmetric algorithms: with a symmetric one, an issuer's public key could be used to sign tokens."""
_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}


class KeyLookup(enum.Enum):
    """The action before the signature of a token can be verified."""

    YES = enum.auto()
    """Its key is known and fresh."""
    OLD = enum.auto()
    """Its key is known, but old: fetch again, and use the old one if that fails."""
    MISSING = enum.auto()
    """Its key is unknown: fetch again."""
    NO = enum.auto()
    """Its key is unknown, and it is too early to fetch again."""


class KeyCache:
    """The cached keys. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._keys: list[dict[str, Any]] = []
        self._fetched: float | None = None
        self._tried: float | None = None

    def look(self, header: Mapping[str, Any], now: float) -> KeyLookup:
        """Find the key for the header of a token."""
        since = math.inf if self._tried is None else now - self._tried
        if not self.candidates(header):
            return KeyLookup.MISSING if since >= MIN_FETCH_INTERVAL_SECONDS else KeyLookup.NO
        is_old = self._fetched is None or now - self._fetched >= MAX_KEY_AGE_SECONDS
        return KeyLookup.OLD if is_old and since >= OLD_KEYS_RETRY_SECONDS else KeyLookup.YES

    def trying(self, now: float) -> None:
        """A fetch begins."""
        self._tried = now

    def fetched(self, document: Mapping[str, Any], now: float) -> None:
        """Store fetched keys. Keys that are not for signatures are skipped. ValueError if there is no list of keys."""
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise ValueError("it has no list of keys")  # noqa: TRY004 - of what came, not of our call
        self._keys = [
            key for key in keys[:MAX_KEYS] if isinstance(key, dict) and key.get("use", "sig") == "sig"
        ]
        self._fetched = now

    def candidates(self, header: Mapping[str, Any]) -> list[jwt.PyJWK]:
        """The keys with which a token with that header may be signed."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            return []
        found = []
        for key in self._keys:
            if kid is not None and key.get("kid") != kid:
                continue
            if key.get("kty") != _TYPES[algorithm[:2]] or key.get("alg", algorithm) != algorithm:
                continue
            try:
                found.append(jwt.PyJWK.from_dict(key, algorithm=algorithm))
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # of a kind that we do not know, or broken
        return found
