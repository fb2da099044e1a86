"""Names for what is made in great numbers and looked at in the order of its age."""

from __future__ import annotations

import re
import uuid

__all__ = ["SHORT_LENGTH", "short_form", "uuid7"]

SHORT_LENGTH = 8
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def uuid7(now: float) -> str:
    """A name that sorts by its time, in seconds since the epoch (RFC 9562, version 7)."""
    value = (int(now * 1000) & (1 << 48) - 1) << 80 | (uuid.uuid4().int & (1 << 80) - 1)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def short_form(name: str) -> str:
    """What a user types for a name: the last eight digits of a UUID; another name as it is.

    The first digits of a UUID of version 7 are its time, and are the same for all names of a minute.
    """
    return name[-SHORT_LENGTH:] if _UUID.match(name) else name
