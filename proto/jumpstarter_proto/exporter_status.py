"""The status of an exporter, as exporters, controllers and clients send it."""

from __future__ import annotations

import enum

__all__ = ["ExporterStatus"]


class ExporterStatus(enum.IntEnum):
    """`jumpstarter.v1.ExporterStatus`; the numbers are those on the wire."""

    UNSPECIFIED = 0
    """No status was sent. Our exporters never send it."""
    OFFLINE = 1
    AVAILABLE = 2
    BEFORE_LEASE_HOOK = 3
    LEASE_READY = 4
    AFTER_LEASE_HOOK = 5
    BEFORE_LEASE_HOOK_FAILED = 6
    AFTER_LEASE_HOOK_FAILED = 7
