"""The part of a device that lives as long as its hardware, not only as long as a session: an open port, a GPIO line.

A driver class names its core class in `core_of`; a session's driver object has the core as `self.core`. Users'
settings belong to a session: `restore` resets them in the core when the session ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.isolation import in_thread, run_plain_methods_in_threads

if TYPE_CHECKING:
    from jumpstarter_proto.process import DescriptorStore

    from jumpstarter_exporter.devices.cores import SlotCore

__all__ = ["Core"]

D = TypeVar("D", bound=Driver)
T = TypeVar("T")


class Core(Generic[D]):
    """The core of one device.

    It is opened at the device's first use, or when the exporter starts if `opens_at_start`, and closed when the
    exporter ends or its configuration changes. After a failure it may be opened again. Sessions come and go meanwhile.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        run_plain_methods_in_threads(cls, "open", "close", "restore")

    def __init__(self, config: D) -> None:
        """`config` has the device's configuration: an object of its driver class that is never opened."""
        self.config = config
        self.logger = config.logger
        self.path = ""
        """Names from the top of the device tree, joined by dots."""
        self.uuid: UUID = config.uuid
        """The device's UUID."""
        self.is_kept = False
        """Whether the device has the same UUID after a restart."""
        self._nursery: trio.Nursery | None = None
        self._slot: SlotCore | None = None

    @property
    def waits_for_hardware(self) -> bool:
        """See `Driver.waits_for_hardware`."""
        return self.config.waits_for_hardware

    @property
    def is_followed(self) -> bool:
        """Whether the host reports when the hardware is plugged in, so that nothing has to poll for it."""
        return self._slot is not None and self._slot.slot.is_followed

    @property
    def came(self) -> trio.Event:
        """Set when its hardware is plugged in, and then replaced by a new event. In the trio loop."""
        return self._slot_core().slot.came

    @property
    def why_gone(self) -> str:
        """Why the host knows that this device is not there, so that its name now belongs to another one.

        Empty if it is there, or if that is unknown.
        """
        return "" if self._slot is None else self._slot.slot.why_gone

    def held(self) -> AbstractContextManager[None]:
        """A block that holds the hardware, for a core that stays open while its device is unplugged.

        Raises:
            DeviceMissing: the host knows that the held device is not this one; see `why_gone`.
        """
        return self._slot_core().slot.held()

    @property
    def descriptors(self) -> DescriptorStore:
        """Where ports are kept while the exporter restarts."""
        return self._slot_core().slot.descriptors

    @property
    def opens_at_start(self) -> bool:
        """Whether it is opened when the exporter starts, and again after a failure, without waiting for a user."""
        return False

    async def open(self) -> None:
        """Acquire the hardware. Cores of devices above are open. Raise DeviceMissing, DeviceBusy, OSError..."""

    async def close(self) -> None:
        """Release the hardware. Drivers and cores of devices below are closed before. Shielded, with a time limit."""

    async def restore(self) -> None:
        """Reset it to its configuration after a session that used it, writing only what differs."""

    @property
    def nursery(self) -> trio.Nursery:
        """For background tasks, from `open` (also inside it) until after `close`.

        A task that raises closes the core, and the device is `failed` with that reason.
        """
        if self._nursery is None:
            raise JumpstarterUsageError(f"{type(self).__name__} has a nursery only between open and close")
        return self._nursery

    @property
    def above(self) -> Core[Any] | None:
        """The core of the nearest device above that has one."""
        return None if self._slot is None or self._slot.above is None else self._slot.above.core

    @property
    def below(self) -> Mapping[str, Core[Any]]:
        """The cores of the devices directly below, by name; devices without a core are left out."""
        return {} if self._slot is None else {name: one.core for name, one in self._slot.below.items()}

    async def ensure_open(self) -> None:
        """Open it like a first use does, for a core that uses another one. `open` must not wait for a core below."""
        await self._slot_core().open()

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking function in one of the device's worker threads. It cannot be cancelled once it has begun."""
        return await in_thread(self._slot_core().slot.threads, function, *arguments)

    def missing(self, reason: str) -> None:
        """Report that the hardware is gone. The core stays open and calls `ready()` when it is back."""
        self._slot_core().slot.lifecycle.core.missing(reason)

    def failed(self, reason: str) -> None:
        """Report that the hardware is broken. The next use closes the core and opens it again."""
        self._slot_core().slot.lifecycle.core.failed(reason)

    def ready(self) -> None:
        """Report that the hardware is there and works (again)."""
        self._slot_core().slot.lifecycle.core.ready()

    def join(self, slot: SlotCore) -> None:
        """Become the core of a device; for the inventory."""
        self._slot = slot
        self.path, self.uuid, self.is_kept = slot.slot.path, slot.slot.uuid, slot.slot.is_kept

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Set or remove the nursery; for the code that opens the core."""
        self._nursery = nursery

    def _slot_core(self) -> SlotCore:
        if self._slot is None:
            raise JumpstarterUsageError(f"{type(self).__name__} is not the core of a device yet")
        return self._slot
