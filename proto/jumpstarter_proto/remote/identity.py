"""The identity of a client or exporter at its controller."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from jumpstarter_proto.call_metadata import KIND, NAME, NAMESPACE
from jumpstarter_proto.rpc import Metadata

__all__ = ["ANSWERS", "WAITS", "WAITS_FOR_BOARD", "Identity", "Kind"]

WAITS = "jumpstarter-waits"
"""Of a call by a command that waits for the lease, and gives it back when it ends. Only our controllers know it."""

WAITS_FOR_BOARD = "jumpstarter-waits-for-board"
"""A header of CreateLease: the lease waits if no such board exists yet. Only our controllers support it."""

ANSWERS = "jumpstarter-exporter-answers"
"""Of an exporter's Register: it accepts or declines each lease. Only our controllers know it."""


class Kind(enum.StrEnum):
    """The kinds of object that have tokens."""

    CLIENT = "Client"
    EXPORTER = "Exporter"
    HOST = "Host"
    """Of boards that it registers itself, each as an exporter. Only our controllers know it."""


@dataclass(frozen=True)
class Identity:
    """A name and the token that proves it. The token is in no text made from this object."""

    kind: Kind
    namespace: str
    name: str
    token: str = field(repr=False)

    def metadata(self) -> Metadata:
        """What goes with each call to the controller; values may be empty."""
        return [
            ("authorization", f"Bearer {self.token}"),
            (KIND, self.kind.value),
            (NAMESPACE, self.namespace),
            (NAME, self.name),
        ]
