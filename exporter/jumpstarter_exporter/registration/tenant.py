"""A lease of this exporter, as its controller tells of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tenant"]


@dataclass(frozen=True)
class Tenant:
    """A lease, and whose it is."""

    lease: str
    client: str
    until: float | None = None
    """When it ends unless somebody changes it, in seconds since the epoch; None where the controller does not say."""
