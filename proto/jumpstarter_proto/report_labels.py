"""The labels of devices in a report, which both ends of a connection must agree on.

`CLIENT` and `NAME` are Jumpstarter's; the others are ours, and other programs ignore them.
"""

from __future__ import annotations

__all__ = [
    "CLIENT",
    "HOOKS",
    "INTERFACE",
    "MEMORY",
    "NAME",
    "OWN_PREFIX",
    "REASON",
    "STATE",
    "UNTRIED",
]

OWN_PREFIX = "jumpstarter.dev/"
"""Of all labels that neither a user nor a driver may choose."""
CLIENT = f"{OWN_PREFIX}client"
"""The import path of the client class."""
NAME = f"{OWN_PREFIX}name"
"""The device's name; of the root, the board's."""
STATE = f"{OWN_PREFIX}state"
REASON = f"{OWN_PREFIX}reason"
"""Why it is in that state."""
INTERFACE = f"{OWN_PREFIX}interface"
UNTRIED = f"{OWN_PREFIX}untried"
"""Of a device that is ready as far as anybody knows; its value says nothing."""
HOOKS = f"{OWN_PREFIX}hooks"
"""Of the root in a registration: `NAME:TIMEOUT:ON_FAILURE` of each hook, with commas between them."""
MEMORY = f"{OWN_PREFIX}memory"
"""Of a device with a process of its own, which others of the board may share: the memory of that."""
