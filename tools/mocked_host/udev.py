"""What is plugged into a host, as udev shows it: devices that one adds, with the properties that such machines print.

Nothing here comes from our own tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["CAMERA", "CDC", "DISK", "HID", "HUB", "KEYBOARD", "UART", "Host"]

UART = ":ffffff:"
HUB = ":090000:"
DISK = ":080650:"
KEYBOARD = ":030101:"
CAMERA = ":0e0100:0e0200:"
CDC = ":020201:0a0000:"
HID = ":030000:"


@dataclass
class Host:
    """A host, to which one adds."""

    devices: list[UdevDevice] = field(default_factory=list)
    use: HostUse = field(default_factory=HostUse)
    must_keep: set[str] = field(default_factory=set)
    """Names of devices that must never be offered."""
    must_power: set[tuple[str, int]] = field(default_factory=set)
    """Hubs, by name, and their ports that must never be switched."""
    _numbers: dict[str, int] = field(default_factory=dict)

    @property
    def tree(self) -> DeviceTree:
        """All that was added."""
        return DeviceTree(self.devices)

    def add(
        self, path: str, subsystem: str, attributes: Mapping[str, str] | None = None, /, **properties: str
    ) -> str:
        """Any device; its path."""
        self.devices.append(UdevDevice(path, {"SUBSYSTEM": subsystem, **properties}, attributes or {}))
        return path

    def number(self, kind: str) -> int:
        """The next free one of that kind of name, from 0."""
        self._numbers[kind] = self._numbers.get(kind, -1) + 1
        return self._numbers[kind]

    def controller(self, path: str, bus: int, *speeds: int) -> list[str]:
        """A USB controller with a root hub for each speed; the paths of those."""
        roots = []
        for offset, speed in enumerate(speeds):
            root = f"{path}/usb{bus + offset}"
            roots.append(
                self._usb(root, "1d6b", f"000{speed}", path.rpartition("/")[2], "xHCI Host Controller", HUB)
            )
            self.add(f"{root}/{bus + offset}-0:1.0", "usb", DEVTYPE="usb_interface", DRIVER="hub")
        return roots

    def plug(  # noqa: PLR0917 - in the order in which one describes a device
        self, hub: str, port: int, ids: str, serial: str = "", model: str = "", interfaces: str = UART
    ) -> str:
        """A USB device at the port of a hub; its path."""
        name = hub.rpartition("/")[2]
        child = f"{name[3:]}-{port}" if name.startswith("usb") else f"{name}.{port}"
        vendor, product = ids.split(":")
        path = self._usb(f"{hub}/{child}", vendor, product, serial, model, interfaces)
        if interfaces.startswith(":09"):
            self.add(f"{path}/{child}:1.0", "usb", DEVTYPE="usb_interface", DRIVER="hub")
        return path

    def _usb(  # noqa: PLR0917
        self, path: str, vendor: str, product: str, serial: str, model: str, interfaces: str
    ) -> str:
        number = self.number("usb") + 2
        more = {"ID_SERIAL_SHORT": serial} if serial else {}
        return self.add(
            path,
            "usb",
            {
                "idVendor": vendor,
                "idProduct": product,
                "product": model,
                **({"serial": serial} if serial else {}),
            },
            DEVTYPE="usb_device",
            DEVNAME=f"/dev/bus/usb/001/{number:03}",
            PRODUCT=f"{vendor.lstrip('0')}/{product.lstrip('0')}/100",
            ID_VENDOR_ID=vendor,
            ID_MODEL_ID=product,
            ID_MODEL=model.replace(" ", "_"),
            ID_SERIAL="_".join(filter(None, (vendor, model.replace(" ", "_"), serial))),
            ID_USB_INTERFACES=interfaces,
            **more,
        )

    def interface(self, device: str, number: int = 0) -> str:
        """The path of an interface of a USB device, which is added if it is not there."""
        path = f"{device}/{device.rpartition('/')[2]}:1.{number}"
        if all(one.path != path for one in self.devices):
            self.add(path, "usb", DEVTYPE="usb_interface")
        return path

    def tty(self, device: str, interface: int = 0, *, acm: bool = False) -> str:
        """The path of a console of a USB device, with the links that udev makes."""
        above = self.interface(device, interface)
        prefix = "ttyACM" if acm else "ttyUSB"
        name = f"{prefix}{self.number(prefix)}"
        usb = next(one for one in self.devices if one.path == device).properties
        port = "" if acm else "-port0"
        id_path = f"platform-usb-0:{device.rpartition('-')[2]}:1.{interface}"
        links = [
            f"/dev/serial/by-path/{id_path}{port}",
            f"/dev/serial/by-id/usb-{usb['ID_SERIAL']}-if{interface:02x}{port}",
        ]
        return self.add(
            f"{above}/tty/{name}" if acm else f"{above}/{name}/tty/{name}",
            "tty",
            DEVNAME=f"/dev/{name}",
            DEVLINKS=" ".join(links),
            ID_BUS="usb",
            ID_PATH=id_path,
            ID_USB_INTERFACE_NUM=f"{interface:02x}",
            **{key: usb[key] for key in usb if key.startswith("ID_")},
        )

    def disk(self, device: str, *partitions: str, interface: int = 0, **properties: str) -> list[str]:
        """The paths of a USB disk's block device and of its partitions; it has an sg node, too."""
        number = self.number("sd")
        name = f"sd{chr(ord('a') + number)}"
        scsi = f"{self.interface(device, interface)}/host{number}/target{number}:0:0/{number}:0:0:0"
        self.add(f"{scsi}/scsi_generic/sg{number}", "scsi_generic", DEVNAME=f"/dev/sg{number}")
        return self.block(f"{scsi}/block/{name}", 8, 16 * number, *partitions, **properties)

    def block(self, path: str, major: int, minor: int, *partitions: str, **properties: str) -> list[str]:
        """The paths of a disk and of its partitions, each with that file system."""
        name = path.rpartition("/")[2]
        between = "p" if name[-1].isdigit() else ""
        made = [
            self.add(
                path,
                "block",
                DEVTYPE="disk",
                DEVNAME=f"/dev/{name}",
                MAJOR=str(major),
                MINOR=str(minor),
                **properties,
            )
        ]
        for index, kind in enumerate(partitions, 1):
            part = f"{name}{between}{index}"
            numbers = {"MAJOR": str(major), "MINOR": str(minor + index)}
            made.append(
                self.add(
                    f"{path}/{part}",
                    "block",
                    DEVTYPE="partition",
                    DEVNAME=f"/dev/{part}",
                    ID_FS_TYPE=kind,
                    **numbers,
                )
            )
        return made

    def net(self, above: str, name: str) -> str:
        """The path of a network interface."""
        return self.add(f"{above}/net/{name}", "net", INTERFACE=name)

    def keyboard(self, device: str, interface: int = 0, kind: str = "KEYBOARD") -> str:
        """The path of an input device, which has a hidraw node, too."""
        number = self.number("input")
        above = f"{self.interface(device, interface)}/0003:04D9:0024.000{number}"
        self.add(f"{above}/hidraw/hidraw{number}", "hidraw", DEVNAME=f"/dev/hidraw{number}")
        return self.add(f"{above}/input/input{number}", "input", **{f"ID_INPUT_{kind}": "1"})
