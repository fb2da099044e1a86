"""Which board to lease from a controller, and how long to wait for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["DEFAULT_DURATION_SECONDS", "LeaseRequest"]

DEFAULT_DURATION_SECONDS = 30 * 60.0
"""The length of a lease without --duration."""


@dataclass(frozen=True)
class LeaseRequest:
    """A request for a board, by selector or exporter name, or an existing `lease`, which is not released at the end.

    Without all three, the request means the only lease that the client has.
    """

    selector: str = ""
    exporter: str = ""
    lease: str = ""
    duration: float = DEFAULT_DURATION_SECONDS
    client: str | None = None
    """Alias or file of the client configuration; None means the one from the environment, or the current one."""
    acquisition_timeout: float | None = None
    """In seconds. If this or one of the next two is None, the configuration has the value."""
    dial_timeout: float | None = None
    retry_timeout: float | None = None
    all_logs: bool = False
    """Show the whole log of the exporter, not only the output of its hooks."""
    wait_for_board: bool = False
    """Wait if no exporter matches yet. Jumpstarter's own controller rejects such a request at once."""
    may_reuse: bool = False
    """Use a lease that `jumpstarter lease create` created on this machine, if it fits."""
    not_found_hint: str = ""
    """What to add to the error if the controller has no such exporter."""

    @classmethod
    def from_options(
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
        may_reuse: bool = False,
        not_found_hint: str = "",
    ) -> LeaseRequest | None:
        """Make a request from command-line options, or from JMP_LEASE. Returns None if no leased board was requested.

        `client` alone means the only lease of that client.

        Raises:
            TimeFormatError: a duration is invalid.
        """
        if not selector and not exporter and not lease:
            lease = environment.get("JMP_LEASE")
        if not selector and not exporter and not lease and not client:
            return None

        def time(text: str | None) -> float | None:
            if text is None:
                return None
            from jumpstarter_client.times import parse_duration  # noqa: PLC0415 - not for a local exporter

            return parse_duration(text)

        return cls(
            selector or "",
            exporter or "",
            lease or "",
            time(duration) or DEFAULT_DURATION_SECONDS,
            client,
            time(acquisition_timeout),
            time(dial_timeout),
            # 0 means: never lease another board. It is not a valid duration otherwise.
            0.0 if retry_timeout == "0" else time(retry_timeout),
            all_logs,
            wait_for_board,
            may_reuse,
            not_found_hint,
        )

    @property
    def is_new(self) -> bool:
        """Whether a new lease has to be created."""
        return bool(self.selector or self.exporter) and not self.lease

    def with_overrides(self, config: ClientConfig) -> ClientConfig:
        """Return the configuration with the timeouts of this request."""
        keys = ("acquisition_timeout", "dial_timeout", "retry_timeout")
        return replace(config, **{key: value for key in keys if (value := getattr(self, key)) is not None})

    def to_message(self) -> pb.Lease:
        """Return the message for CreateLease."""
        from google.protobuf import duration_pb2  # noqa: PLC0415 - not for a local exporter
        from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

        whole = duration_pb2.Duration(seconds=math.ceil(self.duration))
        lease = client_pb2.Lease(selector=self.selector, duration=whole)
        if self.exporter:
            lease.exporter_name = self.exporter
        return lease
