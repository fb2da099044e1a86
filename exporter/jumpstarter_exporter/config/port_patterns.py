"""USB ports as people write them, with globs: `1-1.4`, `1-1.*`."""

from __future__ import annotations

import re

from jumpstarter_proto.documents import FieldError

__all__ = ["check_port"]

_PORT = re.compile(r"[0-9*?\[][0-9.*?\[\]!-]*")


def check_port(port: str, *place: str | int) -> None:
    """FieldError at `place`, below the object that is read: no port can be so."""
    if not _PORT.fullmatch(port):
        raise FieldError(f"{port!r} is no USB port; it takes one such as 1-1.4, or 1-1.* for a hub", *place)
