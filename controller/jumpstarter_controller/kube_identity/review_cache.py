"""A cache of token reviews by the API server. No I/O.

A token is identified by its hash. A review is valid for `FRESH_SECONDS`, or for `STALE_SECONDS` while the API server
does not answer. A deleted client, exporter or host, or a new token, has effect immediately, because each call looks up
the record of its caller.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from jumpstarter_controller.identity import TokenError
from jumpstarter_controller.kube_identity.claims import AccountClaims

__all__ = [
    "FRESH_SECONDS",
    "MAX_ENTRIES",
    "REFUSED_SECONDS",
    "STALE_SECONDS",
    "RejectionFactory",
    "Review",
    "ReviewCache",
    "digest_of",
]

FRESH_SECONDS = 120.0
STALE_SECONDS = 3600.0
REFUSED_SECONDS = 10.0
"""Of a token that is not good: a new one is another token, but an API server may be behind."""
MAX_ENTRIES = 8192
"""Of tokens that are good, and as many of those that are not."""


def digest_of(token: str) -> bytes:
    """The digest by which a token is kept in the cache."""
    return hashlib.sha256(token.encode()).digest()


RejectionFactory = Callable[[], TokenError]
"""Creates a new error for each rejected call; raising one error many times would grow its traceback."""


@dataclass(frozen=True)
class Review:
    """The result of a review."""

    claims: AccountClaims
    since: float
    """When, by a monotonic clock."""


class ReviewCache:
    """Results of reviews. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._good: OrderedDict[bytes, Review] = OrderedDict()
        self._bad: OrderedDict[bytes, tuple[RejectionFactory, float]] = OrderedDict()

    def fresh(self, digest: bytes, now: float) -> Review | RejectionFactory | None:
        """A recent result; None: ask the API server."""
        if (bad := self._bad.get(digest)) is not None:
            if now < bad[1] + REFUSED_SECONDS:
                return bad[0]
            del self._bad[digest]
        good = self._good.get(digest)
        return good if good is not None and now < good.since + FRESH_SECONDS else None

    def stale(self, digest: bytes, now: float) -> Review | None:
        """An earlier result, for use while the API server does not answer."""
        good = self._good.get(digest)
        return good if good is not None and now < good.since + STALE_SECONDS else None

    def accept(self, digest: bytes, claims: AccountClaims, now: float) -> Review:
        """The token is valid."""
        self._bad.pop(digest, None)
        review = self._good[digest] = Review(claims, now)
        self._good.move_to_end(digest)
        while len(self._good) > MAX_ENTRIES:
            self._good.popitem(last=False)
        return review

    def refuse(self, digest: bytes, refusal: RejectionFactory, now: float) -> None:
        """The token is invalid."""
        self._good.pop(digest, None)
        self._bad[digest] = refusal, now
        self._bad.move_to_end(digest)
        while len(self._bad) > MAX_ENTRIES:
            self._bad.popitem(last=False)
