"""Whether enough of a board's hardware is there for a lease. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.state import State

__all__ = ["Lack", "lack_of"]


@dataclass(frozen=True)
class Lack:
    """What a board lacks for a lease."""

    slots: Sequence[Slot]
    """If one of them changes, this may be over."""
    reason: str
    """In words."""


def lack_of(devices: BoardDevices) -> Lack | None:
    """What keeps the board from being leased: a part that is required is no use, or all parts are missing.

    None if nothing does; so is it for a configured board without devices. What nobody has looked for yet counts as
    there.
    """
    parts = [slot for slot in devices.slots.values() if _has_hardware(slot)]
    unusable = [slot for slot in parts if slot.state in (State.MISSING, State.FAILED)]
    if required := [slot for slot in unusable if _is_required(slot)]:
        return Lack(required, _sentence(required[0]))
    if not parts and devices.is_discovered:
        return Lack([], "nothing is plugged in that would belong to it")
    if parts and all(slot.state is State.MISSING for slot in parts):
        return Lack(parts, _sentence(parts[0]) if len(parts) == 1 else "all of its devices are missing")
    return None


def _sentence(slot: Slot) -> str:
    return slot.sentence(slot.state, slot.reason)


def _has_hardware(slot: Slot) -> bool:
    """Or cannot be made, so that nobody knows."""
    is_group = slot.spec.kind in (Composite, Proxy) and not slot.spec.fault
    return bool(slot.path) and not is_group


def _is_required(slot: Slot | None) -> bool:
    while slot is not None:
        if slot.spec.required:
            return True
        slot = slot.parent
    return False
