"""Control transfers to a hub through pyusb, which is loaded with the first of them. Everything here is blocking."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Any, Self

from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing

from jumpstarter_drivers.power.usb_hub import protocol, sysfs
from jumpstarter_drivers.power.usb_hub.protocol import ControlRequest, HubDescriptor, PortStatus
from jumpstarter_drivers.power.usb_hub.topology import UsbHub

__all__ = ["HubDevice"]


class HubDevice:
    """A hub to talk to.

    Methods raise OSError (USBError is one) where a transfer fails, HubProtocolError where its answer cannot be. A
    transfer takes a second at most, which is pyusb's default.
    """

    def __init__(self, hub: UsbHub) -> None:
        """Find it and read its descriptor, which changes nothing.

        Raises:
            DeviceMissing: it is gone.
            DeviceFailed: there is no libusb, it may not be used, or its answer is invalid.
        """
        import usb.core  # noqa: PLC0415 - loaded with the first hub, never with the exporter

        self.hub = hub
        directory = sysfs.hub_directory(hub.name)
        try:
            bus, address = (int(sysfs.read_text(directory / name)) for name in ("busnum", "devnum"))
            self._device: Any = usb.core.find(bus=bus, address=address)
        except usb.core.NoBackendError:
            raise DeviceFailed("pyusb finds no libusb on this host; apt install libusb-1.0-0") from None
        except ValueError:
            raise DeviceMissing(f"the hub {hub} is gone; plug it in again") from None
        self.node = f"/dev/bus/usb/{bus:03}/{address:03}"
        if self._device is None:
            raise DeviceMissing(
                f"libusb does not find the hub {hub} as {self.node}; check that it is plugged in"
            )
        try:
            self.descriptor: HubDescriptor = protocol.decode_hub_descriptor(
                self._send(protocol.hub_descriptor_request(is_superspeed=hub.is_superspeed)),
                is_superspeed=hub.is_superspeed,
            )
        except protocol.HubProtocolError as error:
            self.close()
            raise DeviceFailed(f"the hub {hub} sends invalid descriptors: {error}; use another hub") from None
        except OSError as error:
            self.close()
            raise self._fault(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the device. No port is switched."""
        import usb.util  # noqa: PLC0415

        usb.util.dispose_resources(self._device)

    def port_status(self, port: int) -> PortStatus:
        """Read the current status of a port."""
        answer = self._send(protocol.port_status_request(port))
        return protocol.decode_port_status(answer, is_superspeed=self.hub.is_superspeed)

    def set_power(self, port: int, *, on: bool) -> None:
        """Switch a port. The kernel hears of it from the hub only, and udev not at all."""
        self._send(protocol.port_power_request(port, on=on))

    def container_id(self) -> str | None:
        """Return the ContainerID of its BOS; None if there is none."""
        try:
            return protocol.decode_container_id(self._send(protocol.bos_request()))
        except OSError:  # hubs of USB 2.0 have no BOS and stall
            return None

    def _send(self, request: ControlRequest) -> bytes:
        answer = self._device.ctrl_transfer(
            request.request_type,
            request.request,
            request.value,
            request.index,
            request.length or None,
        )
        return bytes(answer) if request.length else b""

    def _fault(self, error: OSError) -> DeviceFailed | DeviceMissing:
        if error.errno in (errno.EACCES, errno.EPERM):
            return sysfs.permission_error(sysfs.ROOT / self.node.lstrip("/"))
        if error.errno == errno.ENODEV:
            return DeviceMissing(f"the hub {self.hub} is gone; plug it in again")
        return DeviceFailed(
            f"the hub {self.hub} does not answer: {error}; plug it in again, or use another one"
        )
