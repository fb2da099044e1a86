"""Why a controller or an exporter rejects a request: a code for programs in the trailers, beside the sentence.

Peers of Jumpstarter 0.9, and ours of v0.1.0, send only sentences. `means` matches these by the table here, and only if
there is no code. What else is read out of sentences is here, too.
"""

from __future__ import annotations

import enum
import re
from typing import Protocol

from jumpstarter_proto.rpc import Metadata, RpcError, StatusCode

__all__ = ["REASON", "ReasonCode", "Rejection", "means", "missing_object", "reason_of", "refused"]

REASON = "jumpstarter-reason"
"""In an answer's trailing metadata: why, as a word for programs beside the sentence. Only our programs say it."""


class Rejection(Protocol):
    """An error that came from a peer: `RpcError`, or what was made of one."""

    code: StatusCode
    details: str
    trailing_metadata: Metadata


class ReasonCode(enum.StrEnum):
    """Reasons that programs handle. Peers may send other codes, which are ignored."""

    NO_BOARD = "no-board"
    """The lease has ended because no exporter matches it. A lease that waits for a board continues."""
    DRAINED = "drained"
    """The lease waits because the lab is drained, until its administrator ends the drain."""
    NOT_FOUND = "not-found"
    """The object was not found."""
    CALLER_GONE = "caller-gone"
    """The calling client, exporter or host was not found; it was deleted."""
    CALLER_DENIED = "caller-denied"
    """The token does not belong to the caller, or not any more."""
    BAD_TOKEN = "bad-token"  # noqa: S105 - no password
    """The token belongs to no object."""
    TOKEN_UNFIT = "token-unfit"  # noqa: S105 - no password
    """The token is not accepted, and to log in again does not help; the sentence says what does."""
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - no password
    """Its time is over."""
    NOT_YOURS = "not-yours"
    """It belongs to another user."""
    BAD_WISH = "bad-wish"
    """The selector, the duration or the time is invalid."""
    NOT_READY = "not-ready"
    """For the moment; it is to be tried again."""
    HOOK_FAILED = "hook-failed"
    """The exporter's hook; trying again does not help."""
    OTHER_KIND = "other-kind"
    """The method of a driver is called in another way: for one result, for several, or as a stream."""
    BAD_PASSPHRASE = "bad-passphrase"  # noqa: S105 - no password
    """The exporter has another passphrase than the caller, or the caller has none."""


def refused(code: StatusCode, sentence: str, reason: ReasonCode) -> RpcError:
    """An error with a reason beside its sentence."""
    return RpcError(code, sentence, [(REASON, reason.value)])


def reason_of(error: Rejection) -> str:
    """The code that came with an error; empty if it has none."""
    return next((str(value) for key, value in error.trailing_metadata if key == REASON), "")


def means(error: Rejection, *reasons: ReasonCode) -> bool:
    """Whether it was refused for one of these reasons: by its code, or by its words if it has none."""
    if code := reason_of(error):
        return code in reasons
    return any(_says(error, reason) for reason in reasons)


def missing_object(error: Rejection) -> tuple[str, str] | None:
    """Kind and name of what is not found, such as ("lease", "one"), from the words of a Kubernetes API; None: no such.

    For people, after `means` has told that something is not found.
    """
    found = _MISSING.fullmatch(error.details)
    return None if found is None else (found[1], found[2])


_MISSING = re.compile(r'(lease|exporter)s\.jumpstarter\.dev "([^"]+)" not found(?:;.*)?')


_Codes = frozenset[StatusCode]
_UNKNOWN: _Codes = frozenset((StatusCode.UNKNOWN,))
_ANY: _Codes = frozenset(StatusCode)

_WORDS: dict[ReasonCode, tuple[_Codes, re.Pattern[str]]] = {
    # A Kubernetes API's, which has no code for it.
    ReasonCode.NOT_FOUND: (_UNKNOWN, re.compile("not found")),
    ReasonCode.CALLER_GONE: (
        frozenset((StatusCode.UNKNOWN, StatusCode.NOT_FOUND)),
        re.compile(r"(exporters|hosts)\.jumpstarter\.dev.*not found", re.DOTALL),
    ),
    # One code for a token that is no good and for a moment's trouble of its own.
    ReasonCode.BAD_TOKEN: (_ANY, re.compile(r"\A(failed to authenticate token|oidc: )")),
    # With another step than to log in; v0.1.0 says it.
    ReasonCode.TOKEN_UNFIT: (
        _ANY,
        re.compile(r"\A(failed to authenticate token|oidc: )[^;]*; (?!log in again\Z)"),
    ),
    ReasonCode.CALLER_DENIED: (
        frozenset((StatusCode.UNKNOWN, StatusCode.PERMISSION_DENIED)),
        re.compile(r"(?i:token|authenticate)|\Apermission denied for client \S+\Z"),
    ),
    ReasonCode.TOKEN_EXPIRED: (_ANY, re.compile("token is expired")),
    ReasonCode.NOT_YOURS: (_ANY, re.compile("permission denied")),
    ReasonCode.BAD_WISH: (_UNKNOWN, re.compile(r"\A(selector|duration|begin_time|end_time) ")),
    ReasonCode.NOT_READY: (frozenset((StatusCode.FAILED_PRECONDITION,)), re.compile("not ready|offline")),
    ReasonCode.OTHER_KIND: (frozenset((StatusCode.NOT_FOUND,)), re.compile("missing marker")),
    ReasonCode.BAD_PASSPHRASE: (
        frozenset((StatusCode.UNAUTHENTICATED,)),
        re.compile(r"\Ainvalid or missing passphrase\Z"),
    ),
}
"""What is looked for in the sentences of peers that have no codes; where there is nothing here, nothing tells."""


def _says(error: Rejection, reason: ReasonCode) -> bool:
    if reason not in _WORDS:
        return False
    codes, words = _WORDS[reason]
    return error.code in codes and words.search(error.details) is not None
