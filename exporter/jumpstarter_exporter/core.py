"""What of a device lives as long as its hardware, and not only as long as a session: an open port, a GPIO line.

A driver class names its core class in `core_of`, and a session's driver object has the core as `self.core`. What users
set belongs to a session; what they set in the core is set back by `restore` when the session ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.guests import in_thread

if TYPE_CHECKING:
    from jumpstarter_proto.process import DescriptorStore

    from jumpstarter_exporter.devices.cores import SlotCore

__all__ = ["Core"]

D = TypeVar("D", bound=Driver)
T = TypeVar("T")


class Core(Generic[D]):
    """The core of one device.

    It is opened at the device's first use, or when the exporter starts if `opens_at_start`, and closed when the
    exporter ends or its configuration changes; in between it may be opened again after a failure. Sessions come and go
    meanwhile.
    """

    def __init__(self, config: D) -> None:
        """`config` has the device's configuration: an object of its driver class, which is never opened itself."""
        self.config = config
        self.logger = config.logger
        self.path = ""
        """Names from the top of the device tree, joined by dots."""
        self.uuid: UUID = config.uuid
        """The device's."""
        self.is_kept = False
        """Whether the device has the same UUID at the next start."""
        self._nursery: trio.Nursery | None = None
        self._slot: SlotCore | None = None

    @property
    def waits_for_hardware(self) -> bool:
        """See `Driver.waits_for_hardware`."""
        return self.config.waits_for_hardware

    @property
    def is_followed(self) -> bool:
        """Whether the host says when its hardware comes, so that nobody has to look for it."""
        return self._slot is not None and self._slot.slot.is_followed

    @property
    def came(self) -> trio.Event:
        """Set when its hardware is plugged in, and replaced by a new one then. In the trio loop."""
        return self._slot_core().slot.came

    @property
    def why_gone(self) -> str:
        """Why the host knows that this very device is not there, so that what has its name now is another one.

        Empty if it is there, or nobody knows.
        """
        return "" if self._slot is None else self._slot.slot.why_gone

    def held(self) -> AbstractContextManager[None]:
        """For a block that holds the hardware, of a core that stays open while its device is away.

        Raises:
            DeviceMissing: the host knows that what is held is not this device; see `why_gone`.
        """
        return self._slot_core().slot.held()

    @property
    def descriptors(self) -> DescriptorStore:
        """Where ports are kept while the exporter is started again."""
        return self._slot_core().slot.descriptors

    @property
    def opens_at_start(self) -> bool:
        """Whether it is opened when the exporter starts, and again after a failure, without waiting for a user."""
        return False

    async def open(self) -> None:
        """Acquire the hardware. Cores of devices above are open. Raise DeviceMissing, DeviceBusy, OSError..."""

    async def close(self) -> None:
        """Release the hardware; drivers and the cores of devices below are closed. It is shielded, and bounded."""

    async def restore(self) -> None:
        """Set it back to its configuration when a session ends that used it, writing only what differs."""

    @property
    def nursery(self) -> trio.Nursery:
        """For background tasks, from `open` (inside of it as well) until after `close`.

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
        """The cores of the devices right below, by their names; those without a core are not there."""
        return {} if self._slot is None else {name: one.core for name, one in self._slot.below.items()}

    async def ensure_open(self) -> None:
        """Open it as its first use does, for a core that uses another one. An `open` must not wait for one below."""
        await self._slot_core().open()

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in one of the device's worker threads. Cancellation is too late once it has begun."""
        return await in_thread(self._slot_core().slot.threads, function, *arguments)

    def missing(self, reason: str) -> None:
        """Say that the hardware went away. The core stays open and says `ready()` when it is back."""
        self._slot_core().slot.life.core.missing(reason)

    def failed(self, reason: str) -> None:
        """Say that the hardware broke. The next use closes the core and opens it again."""
        self._slot_core().slot.life.core.failed(reason)

    def ready(self) -> None:
        """Say that the hardware is there and works (again)."""
        self._slot_core().slot.life.core.ready()

    def join(self, slot: SlotCore) -> None:
        """Become the core of a device; for the inventory."""
        self._slot = slot
        self.path, self.uuid, self.is_kept = slot.slot.path, slot.slot.uuid, slot.slot.is_kept

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Get a nursery, or lose it; for whoever opens it."""
        self._nursery = nursery

    def _slot_core(self) -> SlotCore:
        if self._slot is None:
            raise JumpstarterUsageError(f"{type(self).__name__} is no device's core yet")
        return self._slot
