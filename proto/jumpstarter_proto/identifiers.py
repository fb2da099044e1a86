"""Names for what is made in great numbers and looked at in the order of its age."""

from __future__ import annotations

import uuid

__all__ = ["uuid7"]


def uuid7(now: float) -> str:
    """A name that sorts by its time, in seconds since the epoch (RFC 9562, version 7)."""
    value = (int(now * 1000) & (1 << 48) - 1) << 80 | (uuid.uuid4().int & (1 << 80) - 1)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
