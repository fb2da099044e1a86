"""Which board a user wants of a controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

__all__ = ["DURATION", "Wanted"]

DURATION = 30 * 60.0
"""Seconds, if nothing else is said."""


@dataclass(frozen=True)
class Wanted:
    """At least one of the first three is set. `lease` is one that exists, and is left alone at the end."""

    selector: str = ""
    exporter: str = ""
    lease: str = ""
    duration: float = DURATION
    client: str | None = None
    """Alias or file of the client configuration; None: the environment's, or the current one."""

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        *,
        selector: str | None = None,
        exporter: str | None = None,
        lease: str | None = None,
        duration: str | None = None,
        client: str | None = None,
    ) -> Wanted | None:
        """What was asked for, with JMP_LEASE where nothing was; None: no leased board.

        Raises:
            TimeFormatError: the duration is none.
        """
        if not selector and not exporter and not lease:
            lease = environment.get("JMP_LEASE")
        if not selector and not exporter and not lease:
            return None
        found = DURATION
        if duration is not None:
            from jumpstarter_client.leasing.times import seconds  # noqa: PLC0415 - not for a local exporter

            found = seconds(duration)
        return cls(selector or "", exporter or "", lease or "", found, client)

    def request(self) -> pb.Lease:
        """What to ask a controller for."""
        from google.protobuf import duration_pb2  # noqa: PLC0415 - not for a local exporter
        from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

        whole = duration_pb2.Duration(seconds=int(self.duration))
        lease = client_pb2.Lease(selector=self.selector, duration=whole)
        if self.exporter:
            lease.exporter_name = self.exporter
        return lease
