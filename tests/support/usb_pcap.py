"""What a USB device was asked and answered, as files that `umockdev-run` replays: `--device` and `--pcap`.

libusb sends its control transfers as to a real hub, and gets the answers that stand here, in this order only: one that
is asked for something else, or in another order, does not answer. Written by hand from USB 2.0, chapter 11.24, what
makers say of their devices, and the format of usbmon (link type 220), not from our own tables.
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["HUB", "Replay", "board_tree", "hub_tree"]

HUB = "/devices/pci0000:00/0000:00:14.0/usb1/1-1"
_PORTS = 4
_IN_PROGRESS = -115
_BOS = "050F190001" + "14100400" + "00112233445566778899AABBCCDDEEFF"


def hub_tree() -> str:
    """A root hub, and in its first port a hub with four ports that the kernel does not switch, for `--device`."""
    root, _, _ = HUB.rpartition("/")
    ports = (f"P: {HUB}/1-1:1.0/1-1-port{number}\nE: SUBSYSTEM=usb\n" for number in range(1, _PORTS + 1))
    interface = f"P: {HUB}/1-1:1.0\nE: SUBSYSTEM=usb\nE: DEVTYPE=usb_interface\n"
    return "\n".join([_device(root, 1, 0x1D6B, 0x0002), _device(HUB, 2, 0x0451, 0x8142), interface, *ports])


def board_tree(boards: dict[str, tuple[int, int, str]]) -> str:
    """Devices in the first ports of a root hub, by their names in sysfs: vendor, product and product string."""
    root, _, _ = HUB.rpartition("/")
    devices = [
        _device(f"{root}/{name}", 2 + index, vendor, product, text)
        for index, (name, (vendor, product, text)) in enumerate(boards.items())
    ]
    return "\n".join([_device(root, 1, 0x1D6B, 0x0002), *devices])


def _device(path: str, number: int, vendor: int, product: int, text: str = "Hub") -> str:
    descriptors = _descriptors(vendor, product).hex().upper()
    node = f"bus/usb/001/{number:03}"
    lines = [f"P: {path}", f"N: {node}={descriptors}", f"E: DEVNAME=/dev/{node}"]
    lines += ["E: DEVTYPE=usb_device", "E: SUBSYSTEM=usb", "A: bConfigurationValue=1\\n"]
    values = {
        "bDeviceClass": "09",
        "busnum": "1",
        "devnum": f"{number}",
        "idVendor": f"{vendor:04x}",
        "idProduct": f"{product:04x}",
        "maxchild": f"{_PORTS}",
        "speed": "480",
        "version": " 2.00",
        "product": text,
    }
    lines += [f"A: {key}={value}\\n" for key, value in values.items()]
    # Without an id the hub would be asked for one, on a second handle, at which umockdev 0.17 breaks.
    return "\n".join([*lines, f"H: bos_descriptors={_BOS}", f"H: descriptors={descriptors}", ""])


def _descriptors(vendor: int, product: int) -> bytes:
    device = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 9, 0, 1, 64, vendor, product, 0x0100, 0, 0, 0, 1)
    interface, endpoint = bytes([9, 4, 0, 0, 1, 9, 0, 0, 0]), bytes([7, 5, 0x81, 3, 1, 0, 12])
    length = 9 + len(interface) + len(endpoint)
    return device + struct.pack("<BBHBBBBB", 9, 2, length, 1, 1, 0, 0xE0, 0) + interface + endpoint


class Replay:
    """What is asked of the hub, in this order, and its answers."""

    def __init__(self, device: int = 2) -> None:
        """`device` is the number of the device on bus 1."""
        self._device = device
        self._records: list[bytes] = []

    def asked(self, setup: str, answer: str = "") -> Replay:
        """The eight bytes of a request, and the bytes of its answer, in hex. Without any there is nothing to read."""
        request, data = bytes.fromhex(setup), bytes.fromhex(answer)
        number, endpoint = len(self._records) // 2 + 1, request[0] & 0x80
        length = int.from_bytes(request[6:8], "little")
        self._records.append(_record(number, "S", endpoint, _IN_PROGRESS, length, request, b"", self._device))
        self._records.append(_record(number, "C", endpoint, 0, len(data), bytes(8), data, self._device))
        return self

    def told(self, setup: str, data: str) -> Replay:
        """The eight bytes of a request, and the bytes that come with it, in hex."""
        request, sent = bytes.fromhex(setup), bytes.fromhex(data)
        number = len(self._records) // 2 + 1
        self._records.append(_record(number, "S", 0, _IN_PROGRESS, len(sent), request, sent, self._device))
        self._records.append(_record(number, "C", 0, 0, len(sent), bytes(8), b"", self._device))
        return self

    def write(self, file: Path) -> None:
        """For `--pcap`."""
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 220)
        file.write_bytes(head + b"".join(self._records))


def _record(
    number: int, event: str, endpoint: int, status: int, length: int, setup: bytes, data: bytes, device: int
) -> bytes:
    """A `struct mon_bin_hdr` of a control transfer to a device of bus 1, and its data, with the head of pcap's."""
    has_setup, has_data = 0 if event == "S" else ord("-"), 0 if data else ord("<")
    header = struct.pack("<QBBBBHBB", number, ord(event), 2, endpoint, device, 1, has_setup, has_data)
    header += (
        struct.pack("<qiiII", number, 0, status, length, len(data)) + setup + struct.pack("<iiII", 0, 0, 0, 0)
    )
    size = len(header) + len(data)
    return struct.pack("<IIII", number, 0, size, size) + header + data
