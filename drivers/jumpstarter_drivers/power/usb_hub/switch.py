"""Switches one socket of a USB hub, and believes only what the hub says afterwards. Everything here is blocking.

Nothing is kept between two calls: hubs are unplugged, and disks are mounted, at any time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from jumpstarter_exporter.devices.host_use import read_host_use
from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.offer import protect
from jumpstarter_exporter.devices.sysfs_tree import read_sysfs_tree
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.driver import DeviceBusy, DeviceError, DeviceFailed, DeviceMissing

from jumpstarter_drivers.power.usb_hub import sysfs
from jumpstarter_drivers.power.usb_hub.protocol import HubProtocolError, PortStatus, PowerSwitching
from jumpstarter_drivers.power.usb_hub.topology import PortLocation, UsbHub, find_peer
from jumpstarter_drivers.power.usb_hub.transfers import HubDevice

__all__ = ["SocketSwitch"]

CONFIRM_SECONDS = 1.0
"""How long a hub may take to say that a port is as it was told; the request is repeated until then."""
HOLD_SECONDS = 0.2
"""How long a port has to stay off: what powers it again by itself does so at once."""
_REPEAT_SECONDS = 0.02
_LOCK_SECONDS = 5.0
_VANISHED = (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.ESHUTDOWN)


@dataclass(frozen=True)
class _Half:
    """One of the ports that belong to one socket."""

    hub: UsbHub
    port: sysfs.SysfsPort
    by_attribute: bool
    device: HubDevice | None
    """For reading the hub's own words, and for switching where the kernel has no attribute."""
    unread: str = ""
    """The reason if there is no `device`."""

    @property
    def number(self) -> int:
        return self.port.location.number

    def set_power(self, *, on: bool) -> None:
        if self.by_attribute:
            self.port.disable(off=not on)
        else:
            assert self.device is not None
            self.device.set_power(self.number, on=on)

    def status(self) -> PortStatus:
        """Read the status of this port. The attribute alone does not tell whether a device is in a port that is off."""
        if self.device is not None:
            return self.device.port_status(self.number)
        is_powered = not self.port.is_disabled()
        return PortStatus(is_powered, is_powered and self.port.has_device)

    def others(self) -> Iterator[tuple[PortLocation, PortStatus]]:
        """The other ports of the hub, as far as they can be read."""
        for location in self.hub.ports:
            if location == self.port.location:
                continue
            with suppress(OSError, HubProtocolError):
                port = sysfs.find_port(location)
                if self.device is not None:
                    yield location, self.device.port_status(location.number)
                elif port is not None and port.is_switched_by_attribute:
                    yield location, PortStatus(not port.is_disabled(), port.has_device)


class SocketSwitch:
    """The power of one socket: its port, and the port of the other speed if the hub is one of USB 3."""

    def __init__(
        self,
        location: PortLocation,
        *,
        peer: PortLocation | None = None,
        allow_disconnecting_host: bool = False,
        log: logging.Logger,
    ) -> None:
        """`peer` is the port of the other speed, where it cannot be found out."""
        self.location = location
        self._peer = peer
        self._allow_disconnecting_host = allow_disconnecting_host
        self._log = log

    def describe(self) -> str:
        """Find the port, and say what would switch it, in one sentence. Switches nothing.

        Raises:
            DeviceMissing: there is no such hub or port; the message lists those that there are.
            DeviceFailed: it may not be used, cannot be switched by itself, or is above what the host stands on.
        """
        with self._found() as halves:
            self._spare_the_host(halves)
            return _described(halves)

    def switch(self, *, on: bool) -> None:
        """Switch it, and wait until the hub reports it; a port that cannot be switched off is switched on again.

        Raises:
            DeviceBusy: another process switches a port of the same hub.
            DeviceMissing: as for `describe`; or the hub vanished meanwhile.
            DeviceFailed: as for `describe`; or the hub does not do, or does not say, what it was told.
        """
        with self._found() as halves, _locked(halves, on=on):
            if on:
                self._set(halves, on=True)
            else:
                self._spare_the_host(halves)
                self._off(halves)
            self._log.info("%s: %s", _described(halves), "on" if on else "off")

    def status(self) -> str:
        """Ask the hub whether the socket has power: on, off, or partial if its two ports differ.

        Raises:
            DeviceMissing: as for `describe`; or the hub vanished meanwhile.
            DeviceFailed: as for `describe`; or the hub does not say.
        """
        with self._found() as halves:
            states = set()
            for half in halves:
                with _faults(half, "asking for the state of {}"):
                    states.add(half.status().is_powered)
        return "partial" if len(states) > 1 else "on" if True in states else "off"

    def _off(self, halves: Sequence[_Half]) -> None:
        before = _others(halves)
        try:
            self._set(halves, on=False)
            if lost := _lost(before, _others(halves)):
                raise DeviceFailed(
                    f"switching {self.location} off took {_names(lost)} of the same hub with it: "
                    f"{halves[0].hub} claims to switch each port by itself, and does not; use another hub"
                )
        except DeviceError as error:
            # Not left half off. A hub that vanished has nothing to switch any more.
            if not isinstance(error, DeviceMissing):
                for half in reversed(halves):
                    with suppress(OSError):
                        half.set_power(on=True)
            raise

    def _set(self, halves: Sequence[_Half], *, on: bool) -> None:
        """A USB 3 device without its fast port would come back at its slow one: that one goes first, and comes last."""
        ordered = sorted(halves, key=lambda half: half.hub.is_superspeed, reverse=on)

        def request() -> None:
            for half in ordered:
                with _faults(half, _switching(on=on)):
                    half.set_power(on=on)

        request()
        _confirm(halves, request, on=on)

    @contextmanager
    def _found(self) -> Iterator[list[_Half]]:
        """The ports of the socket, ready to be switched."""
        with ExitStack() as stack:
            hubs = {hub.name: hub for hub in sysfs.read_hubs()}
            halves = [_half(self.location, hubs, stack)]
            peer = self._peer or _peer_of(self.location, hubs)
            if peer is not None:
                halves.append(_half(peer, hubs, stack))
            if len({half.hub.is_superspeed for half in halves}) != len(halves):
                raise DeviceFailed(
                    f"{self.location} and {peer} are ports of the same speed, so they do not belong to one socket; "
                    "correct `peer`"
                )
            yield halves

    def _spare_the_host(self, halves: Sequence[_Half]) -> None:
        if self._allow_disconnecting_host:
            return
        tree = read_sysfs_tree(sysfs.ROOT)
        try:
            protection = protect(tree, read_host_use(sysfs.ROOT), shipped())
        except UdevError as error:
            raise DeviceFailed(str(error)) from None
        for half in halves:
            for hub in tree.find(half.hub.name):
                if why := protection.ports_of(hub).get(half.number):
                    raise DeviceFailed(
                        f"this host needs port {half.port.location}: {why}; "
                        "use another port, or set allow_disconnecting_host: true"
                    )


def _half(location: PortLocation, hubs: Mapping[str, UsbHub], stack: ExitStack) -> _Half:
    hub = hubs.get(location.hub)
    if hub is None:
        raise DeviceMissing(f"there is no USB hub {location.hub}; {_list_hubs(hubs)}")
    port = sysfs.find_port(location)
    if port is None:
        ports = _names([one for one in hub.ports if sysfs.find_port(one)])
        raise DeviceMissing(f"the hub {hub} has no port {location.number}; it has {ports}")
    if sysfs.is_raspberry_pi_hub(hub):
        raise DeviceFailed(
            f"the hub {hub} is on the Raspberry Pi itself, whose sockets share one power switch (ganged), "
            f"so {location} cannot be switched by itself; plug a hub with per-port power into it"
        )
    by_attribute = port.is_switched_by_attribute
    device, unread = None, ""
    try:
        device = stack.enter_context(HubDevice(hub))
    except DeviceError as error:
        if not by_attribute:
            raise
        unread = str(error)
    if device is not None:
        _check_switching(hub, device, location)
    if by_attribute:
        port.check_access()
    return _Half(hub, port, by_attribute, device, unread)


def _check_switching(hub: UsbHub, device: HubDevice, location: PortLocation) -> None:
    said = device.descriptor
    if said.power_switching is PowerSwitching.GANGED:
        raise DeviceFailed(
            f"the hub {hub} is ganged: it switches the power of all its {said.port_count} ports together, "
            f"so {location} cannot be switched by itself; use a hub with per-port power"
        )
    if said.power_switching is PowerSwitching.NONE:
        raise DeviceFailed(f"the hub {hub} says that it cannot switch power; use a hub with per-port power")
    if location.number > said.port_count:
        raise DeviceFailed(
            f"the hub {hub} says that it has {said.port_count} ports, and the kernel says {hub.port_count}; "
            "use another hub"
        )


def _peer_of(location: PortLocation, hubs: Mapping[str, UsbHub]) -> PortLocation | None:
    if (peer := find_peer(location, hubs.values())) is not None and peer.number in hubs[peer.hub].peers:
        return peer
    # The kernel knows none. What hubs say of themselves decides, where they may be asked.
    return find_peer(location, [_with_container_id(hub) for hub in hubs.values()])


def _with_container_id(hub: UsbHub) -> UsbHub:
    if hub.container_id is not None or not hub.path:
        return hub
    with suppress(DeviceError), HubDevice(hub) as device:
        return replace(hub, container_id=device.container_id())
    return hub


def _confirm(halves: Sequence[_Half], request: Callable[[], None], *, on: bool) -> None:
    """Wait until the ports are, and stay, as they were told; tell them again meanwhile."""
    begin = time.monotonic()
    since: float | None = None
    was_confirmed = False
    while True:
        wrong = [half for half in halves if not _is_as_told(half, on=on)]
        now = time.monotonic()
        if not wrong:
            since = now if since is None else since
            was_confirmed = True
            if on or now - since >= HOLD_SECONDS:
                return
        else:
            since = None
            if now - begin > CONFIRM_SECONDS:
                raise _lie(wrong[0], on=on, was_confirmed=was_confirmed)
            request()
        time.sleep(_REPEAT_SECONDS)


def _is_as_told(half: _Half, *, on: bool) -> bool:
    with _faults(half, _switching(on=on)):
        status = half.status()
        return status.is_powered if on else not (status.is_powered or status.is_connected)


def _lie(half: _Half, *, on: bool, was_confirmed: bool) -> DeviceFailed:
    with _faults(half, _switching(on=on)):
        status = half.status()
    where = f"port {half.port.location} of the hub {half.hub}"
    if on:
        return DeviceFailed(
            f"{where} stays off: the hub does not do what it claims; plug it in again, or use another hub"
        )
    if was_confirmed:
        return DeviceFailed(
            f"{where} was off and is on again: the hub, or a driver of its device, powers it; use another hub"
        )
    if status.is_powered:
        return DeviceFailed(
            f"{where} stays on: the hub claims per-port power and does not switch it; use another hub"
        )
    return DeviceFailed(
        f"{where} is off, says the hub, and what is plugged in is still connected: it claims "
        "per-port power and does not switch it; use another hub"
    )


def _others(halves: Sequence[_Half]) -> dict[PortLocation, PortStatus]:
    return {location: status for half in halves for location, status in half.others()}


def _lost(
    before: Mapping[PortLocation, PortStatus], after: Mapping[PortLocation, PortStatus]
) -> list[PortLocation]:
    """Ports that lost their power or their device."""
    return [
        location
        for location, was in before.items()
        if (now := after.get(location)) is not None
        and ((was.is_powered and not now.is_powered) or (was.is_connected and not now.is_connected))
    ]


def _described(halves: Sequence[_Half]) -> str:
    how = "the kernel's attribute disable" if halves[0].by_attribute else "control transfers"
    said = (
        ""
        if all(half.device for half in halves)
        else f", not known to be per port ({halves[0].unread or halves[-1].unread})"
    )
    both = " and ".join(f"port {half.port.location} of {half.hub}" for half in halves)
    return f"{both}, by {how}{said or ', per port'}"


@contextmanager
def _locked(halves: Sequence[_Half], *, on: bool) -> Iterator[None]:
    """Lock the hub: only one process, and one device of it, switches a hub at a time."""
    with ExitStack() as stack:
        deadline = time.monotonic() + _LOCK_SECONDS
        for half in sorted(halves, key=lambda one: one.hub.name):
            with _faults(half, _switching(on=on)):
                descriptor = os.open(
                    sysfs.hub_directory(half.hub.name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
            stack.callback(os.close, descriptor)
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise DeviceBusy(f"another process is switching a port of the hub {half.hub}; try again")
                time.sleep(_REPEAT_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _switching(*, on: bool) -> str:
    return f"switching {{}} {'on' if on else 'off'}"


@contextmanager
def _faults(half: _Half, doing: str) -> Iterator[None]:
    """Return one sentence for an error of the kernel or libusb."""
    doing = doing.format(half.port.location)
    try:
        yield
    except HubProtocolError as error:
        raise DeviceFailed(
            f"{doing}: the hub {half.hub} sends invalid descriptors: {error}; use another hub"
        ) from error
    except OSError as error:
        if error.errno in _VANISHED or not sysfs.hub_directory(half.hub.name).exists():
            raise DeviceMissing(
                f"the hub {half.hub} vanished while {doing}; plug it in again, and switch again: "
                "the port may be on or off"
            ) from error
        if error.errno in sysfs.FORBIDDEN and half.by_attribute:
            raise sysfs.permission_error(half.port.attribute, error) from error
        if error.errno == errno.EPIPE:
            raise DeviceFailed(
                f"{doing}: the hub {half.hub} refuses; use a hub with per-port power"
            ) from error
        raise DeviceFailed(f"{doing}: {error}; plug the hub {half.hub} in again") from error


def _list_hubs(hubs: Mapping[str, UsbHub]) -> str:
    if not hubs:
        return "this host has no USB hubs; is /sys there?"
    return "there are " + ", ".join(f"{hub} with ports {_names(hub.ports)}" for hub in hubs.values())


def _names(locations: Sequence[PortLocation]) -> str:
    return ", ".join(str(location) for location in locations) or "none"
