"""The keys of calls' metadata, which both ends of a connection must agree on.

`KIND`, `NAMESPACE`, `NAME` and `PASSPHRASE` are Jumpstarter's; the others are ours, and other programs ignore them.
"""

from __future__ import annotations

__all__ = [
    "BOARD",
    "DRIVER_UUID",
    "FORCE",
    "INSTANCE",
    "KIND",
    "LOOK",
    "NAME",
    "NAMESPACE",
    "OVERRIDE",
    "PASSPHRASE",
    "REFUSAL",
    "SEQUENCE",
]

KIND = "jumpstarter-kind"
NAMESPACE = "jumpstarter-namespace"
NAME = "jumpstarter-name"
"""Who calls a controller: what kind of object, in which namespace, and its name."""
INSTANCE = "jumpstarter-exporter-instance"
SEQUENCE = "jumpstarter-status-sequence"
"""The process of an exporter, and the order of its statuses."""
PASSPHRASE = "x-jumpstarter-passphrase"  # noqa: S105 - no password
BOARD = "x-jumpstarter-board"
"""Which of several boards of a host."""
DRIVER_UUID = "x-jumpstarter-driver-uuid"
"""The device of a typed call; it may be left out if only one device has the interface."""
LOOK = "x-jumpstarter-look"
"""The client asks for a look at devices that nobody has used yet."""
OVERRIDE = "x-jumpstarter-override"
"""A user of the host uses the lease's session."""
FORCE = "x-jumpstarter-force"
"""The same while a hook runs."""
REFUSAL = "x-jumpstarter-refusal"
"""A trailer: the code of why the board is refused."""
