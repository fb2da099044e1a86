"""Which lease is to be served, from what the controller says. No I/O.

The controller's last word counts. A lease that we have ended ourselves is not begun again, though the controller
may not know yet; and the next begins only when the last is done.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tenancy", "Tenant"]


@dataclass(frozen=True)
class Tenant:
    """A lease, and whose it is."""

    lease: str
    client: str
    until: float | None = None
    """When it ends unless somebody changes it, in seconds since the epoch; None where the controller does not say."""


class Tenancy:
    """What the controller wants, and what is served."""

    def __init__(self) -> None:
        self._wanted: Tenant | None = None
        self._served: Tenant | None = None
        self._finished = ""
        """A lease that is over for us."""

    @property
    def served(self) -> Tenant | None:
        """The lease that is being served."""
        return self._served

    @property
    def client(self) -> str:
        """Whose the lease is that is being served, by the controller's last word on it."""
        return self._served.client if self._served is not None else ""

    def told(self, wanted: Tenant | None) -> None:
        """The controller's word; None is not leased. A lease may change hands."""
        self._wanted = wanted
        if wanted is None or wanted.lease != self._finished:
            self._finished = ""
        if self._served is not None and wanted is not None and wanted.lease == self._served.lease:
            self._served = wanted

    def begin(self) -> Tenant | None:
        """The lease to begin now, which is served from here on; None if there is nothing to begin."""
        if self._served is None and self._wanted is not None and self._wanted.lease != self._finished:
            self._served = self._wanted
            return self._served
        return None

    @property
    def is_over(self) -> bool:
        """Whether the lease that is served is not wanted any more."""
        return self._served is not None and (self._wanted is None or self._wanted.lease != self._served.lease)

    def done(self) -> None:
        """What was served is over, and cleaned up."""
        if self._served is not None:
            self._finished = self._served.lease
            if self._wanted is None or self._wanted.lease != self._finished:
                self._finished = ""
        self._served = None
