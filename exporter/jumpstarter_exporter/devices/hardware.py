"""Whether enough of a board's hardware is there for a lease. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.slot import Slot

__all__ = ["MissingHardware", "missing_hardware"]


@dataclass(frozen=True)
class MissingHardware:
    """The hardware that a board lacks for a lease."""

    slots: Sequence[Slot]
    """A change of one of these may solve it."""
    reason: str
    """A sentence."""


def missing_hardware(devices: BoardDevices) -> MissingHardware | None:
    """Why the board cannot be leased: a required part cannot be used, or all parts are missing. None if it can.

    Devices that were not looked for yet are treated as present.
    """
    parts = [slot for slot in devices.slots.values() if _has_hardware(slot)]
    unusable = [slot for slot in parts if slot.state in (State.MISSING, State.FAILED)]
    if required := [slot for slot in unusable if _is_required(slot)]:
        return MissingHardware(required, _sentence(required[0]))
    if not parts and devices.is_discovered:
        return MissingHardware([], "nothing is plugged in that would belong to it")
    if parts and all(slot.state is State.MISSING for slot in parts):
        return MissingHardware(
            parts, _sentence(parts[0]) if len(parts) == 1 else "all of its devices are missing"
        )
    return None


def _sentence(slot: Slot) -> str:
    return slot.sentence(slot.state, slot.reason)


def _has_hardware(slot: Slot) -> bool:
    """Or cannot be created, so that it is unknown."""
    is_group = slot.spec.kind in (Composite, Proxy) and not slot.spec.fault
    return bool(slot.path) and not is_group


def _is_required(slot: Slot | None) -> bool:
    while slot is not None:
        if slot.spec.required:
            return True
        slot = slot.parent
    return False
