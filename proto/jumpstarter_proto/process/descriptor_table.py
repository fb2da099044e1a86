"""Which descriptors of device nodes a service manager keeps for this process, without I/O.

A name, a descriptor and a device belong together. The name is made of the device's number alone, as `port-188-0` for
/dev/ttyUSB0: while a port is open and was not hung up, the kernel gives its number to no other device, so that a
descriptor of the number that the configured node has now is a descriptor of that very device.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

__all__ = ["DescriptorTable", "device_of", "name_of"]

_NAME = re.compile(r"port-([0-9]{1,4})-([0-9]{1,7})")


def name_of(device: int) -> str:
    """What the descriptor of the device with this number (`st_rdev`) is called: FDNAME=."""
    return f"port-{os.major(device)}-{os.minor(device)}"


def device_of(name: str) -> int | None:
    """The number of the device whose descriptor has this name; None for a name that is not of `name_of`."""
    if (found := _NAME.fullmatch(name)) is None:
        return None
    device = os.makedev(int(found[1]), int(found[2]))
    return device if name_of(device) == name else None


@dataclass
class _Entry:
    descriptor: int
    is_claimed: bool


class DescriptorTable:
    """The descriptors, one for each device. One that is not claimed is open, and nobody in this process uses it."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def offer(self, name: str, descriptor: int, device: int) -> bool:
        """Add a descriptor that is not in use. False, and nothing happens, if it is not the device that its name says.

        The same if there is one of that device already.
        """
        if device_of(name) != device or name in self._entries:
            return False
        self._entries[name] = _Entry(descriptor, is_claimed=False)
        return True

    def is_unclaimed(self, device: int) -> bool:
        """Whether there is one of the device that nobody uses."""
        entry = self._entries.get(name_of(device))
        return entry is not None and not entry.is_claimed

    def claim(self, device: int) -> int | None:
        """The descriptor of the device, for a user of its own from now on; None if there is none, or it has one."""
        if not self.is_unclaimed(device):
            return None
        entry = self._entries[name_of(device)]
        entry.is_claimed = True
        return entry.descriptor

    def add(self, descriptor: int, device: int) -> tuple[str, int | None]:
        """The device was opened by a user of this process. Its name, and the descriptor that nobody used under it.

        That one is not in the table any more, nor is one that was used: its device is gone, and the number with it.
        """
        before = self._entries.get(name := name_of(device))
        self._entries[name] = _Entry(descriptor, is_claimed=True)
        return name, None if before is None or before.is_claimed else before.descriptor

    def remove(self, descriptor: int) -> str | None:
        """Its user has closed it. Returns the name that it had; None if it is not in the table."""
        for name, entry in self._entries.items():
            if entry.descriptor == descriptor and entry.is_claimed:
                del self._entries[name]
                return name
        return None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def take_unclaimed(self) -> dict[str, int]:
        """All that nobody uses, by their names; they are not in the table any more."""
        found = {name: entry.descriptor for name, entry in self._entries.items() if not entry.is_claimed}
        for name in found:
            del self._entries[name]
        return found
