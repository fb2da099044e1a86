"""Virtual machines for the user: `jumpstarter power on vm`, `client.vm.console`, `client.vm.flasher.flash(...)`."""

from __future__ import annotations

from typing import ClassVar, Literal

from jumpstarter_client.base import DriverClient
from jumpstarter_client.twin import twin
from jumpstarter_client.verb import verb

__all__ = ["QemuClient"]


class QemuClient(DriverClient):
    """A virtual machine; its power, console and disk are its children."""

    interface: ClassVar[str] = "qemu"

    @property
    def hostname(self) -> str:
        """The host name that cloud-init gives to the machine."""
        return str(self.call("get_hostname"))

    @property
    def username(self) -> str:
        """The user that cloud-init creates."""
        return str(self.call("get_username"))

    @property
    def password(self) -> str:
        """The password of that user."""
        return str(self.call("get_password"))

    @twin
    async def set_disk_size(self, size: str) -> None:
        """Set the size of the flashed disk from the next power-on, such as 20G. It never becomes smaller."""
        await self.call_async("set_disk_size", size)

    @twin
    async def set_memory_size(self, size: str) -> None:
        """Set the memory from the next power-on, such as 512M."""
        await self.call_async("set_memory_size", size)

    @verb
    @twin
    async def resize(self, what: Literal["disk", "memory"], size: str) -> None:
        """Set the size of disk or memory from the next power-on: `resize disk 20G`.

        Parameters
        ----------
        what
            disk or memory.
        size
            Such as 20G or 512M.
        """
        await (self.set_disk_size if what == "disk" else self.set_memory_size).aio(size)

    @verb
    @twin
    async def status(self) -> str:
        """Say whether the machine is off, running or paused."""
        return str(await self.call_async("status"))
