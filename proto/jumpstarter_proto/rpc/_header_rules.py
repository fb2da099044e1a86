"""Which headers HTTP/2 allows in a block (RFC 9113, sections 8.2 and 8.3)."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

__all__ = ["HeaderBlockKind", "HeaderFault", "check_headers"]

_CONNECTION = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
"""Headers of HTTP/1 connections."""
_SPACE = frozenset(b" \t\n\r\x0b\x0c")
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_STATUS_MESSAGE = b"grpc-message"
"""gRPC in C and in Go sends the text of an error as it is, also with blanks at its ends."""
_NAME = re.compile(rb":?[!-9;-~]+")
"""Visible ASCII, a colon only at the beginning."""
_NEEDED_OF_REQUEST = frozenset((b":method", b":scheme", b":path"))
_OF_REQUEST = _NEEDED_OF_REQUEST | {b":authority", b":protocol"}
_OF_RESPONSE = frozenset((b":status",))


class HeaderBlockKind(enum.Enum):
    """What a block of headers is."""

    REQUEST = enum.auto()
    RESPONSE = enum.auto()
    TRAILERS = enum.auto()


class HeaderFault(Exception):  # noqa: N818 - a fault of the peer's
    """A block has headers that HTTP/2 does not allow there. Only its stream is broken."""


def check_headers(headers: Sequence[tuple[bytes, bytes]], kind: HeaderBlockKind) -> None:
    """Check a block whose headers all have names.

    Raises:
        HeaderFault: the message names the header that is wrong or missing.
    """
    pseudo: dict[bytes, bytes] = {}
    host: bytes | None = None
    seen_regular = False
    for name, value in headers:
        if not _UPPER.isdisjoint(name):
            raise HeaderFault(f"a header's name has capital letters: {name!r}")
        if name[0] in _SPACE or name[-1] in _SPACE or (_has_blank_ends(value) and name != _STATUS_MESSAGE):
            raise HeaderFault(f"a header begins or ends with white space: {name!r}")
        if not _NAME.fullmatch(name):
            raise HeaderFault(f"a header's name has characters that HTTP/2 does not allow: {name!r}")
        if b"\0" in value or b"\r" in value or b"\n" in value:
            raise HeaderFault(f"the value of the header {name!r} has a NUL or a line's end")
        if name[:1] == b":":
            if seen_regular or name in pseudo:
                raise HeaderFault(f"the header {name!r} is twice there, or behind others")
            pseudo[name] = value
            continue
        seen_regular = True
        if name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise HeaderFault(f"the header {name!r} is not allowed in HTTP/2")
        if name == b"host":
            host = value
    _check_pseudo(pseudo, host, kind)


def _has_blank_ends(value: bytes) -> bool:
    return bool(value) and (value[0] in _SPACE or value[-1] in _SPACE)


def _check_pseudo(pseudo: dict[bytes, bytes], host: bytes | None, kind: HeaderBlockKind) -> None:
    match kind:
        case HeaderBlockKind.TRAILERS:
            needed = allowed = frozenset[bytes]()
        case HeaderBlockKind.RESPONSE:
            needed = allowed = _OF_RESPONSE
        case HeaderBlockKind.REQUEST:
            needed, allowed = _NEEDED_OF_REQUEST, _OF_REQUEST
    names = pseudo.keys()
    if names - allowed:
        raise HeaderFault(f"headers that do not belong there: {sorted(names - allowed)!r}")
    if needed - names:
        raise HeaderFault(f"headers are missing: {sorted(needed - names)!r}")
    if kind is not HeaderBlockKind.REQUEST:
        return
    if b":protocol" in pseudo and pseudo[b":method"] != b"CONNECT":
        raise HeaderFault("the header :protocol is for CONNECT")
    if not pseudo[b":path"]:
        raise HeaderFault("the header :path is empty")
    authority = pseudo.get(b":authority", host)
    if authority is None:
        raise HeaderFault("a request has neither :authority nor host")
    if host is not None and host != authority:
        raise HeaderFault("the headers :authority and host differ")
