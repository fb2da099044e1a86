"""Which board a user wants of a controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["DURATION", "Wanted"]

DURATION = 30 * 60.0
"""Seconds, if nothing else is said."""


@dataclass(frozen=True)
class Wanted:
    """`lease` is one that exists, and is left alone at the end. Without the first three it is the client's only one."""

    selector: str = ""
    exporter: str = ""
    lease: str = ""
    duration: float = DURATION
    client: str | None = None
    """Alias or file of the client configuration; None: the environment's, or the current one."""
    acquisition_timeout: float | None = None
    """Seconds; this and the next two are the configuration's if they are None."""
    dial_timeout: float | None = None
    retry_timeout: float | None = None
    all_logs: bool = False
    """Show all of the exporter's log, and not only what its hooks say."""
    wait_for_board: bool = False
    """If the controller has no such board yet, wait for one to appear; one of Jumpstarter's own refuses at once."""
    otherwise: str = ""
    """What is to be said, too, if the controller has no such board."""

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
        acquisition_timeout: str | None = None,
        dial_timeout: str | None = None,
        retry_timeout: str | None = None,
        all_logs: bool = False,
        wait_for_board: bool = False,
        otherwise: str = "",
    ) -> Wanted | None:
        """What was asked for, with JMP_LEASE where nothing was; None: no leased board. A client alone wants its lease.

        Raises:
            TimeFormatError: the duration is none.
        """
        if not selector and not exporter and not lease:
            lease = environment.get("JMP_LEASE")
        if not selector and not exporter and not lease and not client:
            return None

        def time(text: str | None) -> float | None:
            if text is None:
                return None
            from jumpstarter_client.times import seconds  # noqa: PLC0415 - not for a local exporter

            return seconds(text)

        return cls(
            selector or "",
            exporter or "",
            lease or "",
            time(duration) or DURATION,
            client,
            time(acquisition_timeout),
            time(dial_timeout),
            # Not to lease another board at all is 0, which is no duration.
            0.0 if retry_timeout == "0" else time(retry_timeout),
            all_logs,
            wait_for_board,
            otherwise,
        )

    @property
    def is_new(self) -> bool:
        """Whether to make a lease for it."""
        return bool(self.selector or self.exporter) and not self.lease

    def applied(self, config: ClientConfig) -> ClientConfig:
        """A configuration with the patience that was asked for."""
        keys = ("acquisition_timeout", "dial_timeout", "retry_timeout")
        return replace(config, **{key: value for key in keys if (value := getattr(self, key)) is not None})

    def request(self) -> pb.Lease:
        """What to ask a controller for."""
        from google.protobuf import duration_pb2  # noqa: PLC0415 - not for a local exporter
        from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

        whole = duration_pb2.Duration(seconds=int(self.duration))
        lease = client_pb2.Lease(selector=self.selector, duration=whole)
        if self.exporter:
            lease.exporter_name = self.exporter
        return lease
