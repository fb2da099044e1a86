"""What can be said of devices that nobody has tried, without opening them: is the hardware there, may it be opened?

It is for people who ask for a list of devices, and changes no state: only a use of the device decides that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.call_metadata import LOOK
from jumpstarter_proto.file_names import safe_name

from jumpstarter_exporter.composite import Unavailable
from jumpstarter_exporter.device_state import Lifecycle, State
from jumpstarter_exporter.devices.presence import is_name
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceBusy, DeviceFailed, DeviceMissing
from jumpstarter_exporter.isolation import isolated
from jumpstarter_exporter.node_errors import check_access, explain_open_error

if TYPE_CHECKING:
    from uuid import UUID

    from jumpstarter_exporter.devices.inventory import BoardDevices
    from jumpstarter_exporter.devices.slot import Slot

__all__ = ["LOOK", "look_at"]

LOOK_SECONDS = 2.0
"""Devices that were not looked at by then are not: sysfs may block while a device is being reset."""
USB_DEVICES = "/sys/bus/usb/devices"


async def look_at(devices: BoardDevices) -> Mapping[UUID, tuple[State, str]]:
    """Look at the untried devices of a board. Returns their states and reasons, as far as they were found in time."""
    untried = [slot for slot in devices.slots.values() if slot.path and _is_untried(slot)]
    found: dict[UUID, tuple[State, str]] = {}
    if untried:
        with trio.move_on_after(LOOK_SECONDS):
            await trio.to_thread.run_sync(
                _look_at_all, untried, found, abandon_on_cancel=True, limiter=devices.looking
            )
    return {slot.uuid: found[slot.uuid] for slot in untried if slot.uuid in found and _is_untried(slot)}


def _is_untried(slot: Slot) -> bool:
    return slot.is_untried and not slot.spec.fault


def _look_at_all(slots: Iterable[Slot], found: dict[UUID, tuple[State, str]]) -> None:
    for slot in slots:
        try:
            with isolated("look_at_hardware()"):
                seen = _look(slot)
        except DeviceMissing as error:
            found[slot.uuid] = (State.MISSING, str(error))
        except DeviceBusy:  # which may have changed when it is used
            pass
        except Exception as error:  # any driver's code; its neighbours must be looked at
            found[slot.uuid] = (State.FAILED, str(error))
        else:
            if seen:
                found[slot.uuid] = (State.READY, f"{Lifecycle.UNTRIED}; {seen}")


def _look(slot: Slot) -> str:
    """What there is, in a sentence. Raises what opening the device would raise."""
    kind = slot.spec.kind
    seen = [_look_at_name(name) for name in kind.host_nodes(slot.spec.values) if is_name(name)]
    if kind.look_at_hardware is not Driver.look_at_hardware:
        driver = slot.spec.make()
        if isinstance(driver, Unavailable):
            raise DeviceFailed(driver.reason)
        return driver.look_at_hardware()
    return " and ".join(seen)


def _look_at_name(name: str) -> str:
    """See `Driver.host_nodes`."""
    if not name.startswith("/"):
        if not os.path.exists(os.path.join(USB_DEVICES, safe_name(name))):
            raise DeviceMissing(f"there is no USB device {name}; check its cable")
        return f"there is a USB device {name}"
    try:
        os.stat(name)
    except OSError as error:
        raise explain_open_error(name, error, "a device") from error
    check_access(name)
    return f"there is {name}"
