"""Writes the first configuration of a host: a file with the devices that were found, to be edited. No I/O.

What a board can use at once is offered. What could harm the host or lose data, or needs a decision, is in comments.
Texts of devices are not trusted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.devices.host_parts import HostParts
from jumpstarter_exporter.devices.hwdb import Hwdb
from jumpstarter_exporter.devices.match import Finding, ProfileMatch, match_devices, stable_link
from jumpstarter_exporter.devices.profiles import ProfileSet
from jumpstarter_exporter.devices.udev_device import UdevDevice, usb_ids

__all__ = ["DraftConfiguration", "draft_configuration"]

_WIDTH = 100
_NO_WRAP = 1 << 30
_HEADER_CHIPS = {"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}
"""Labels of the GPIO chip of a Raspberry Pi's header."""
_SD_WIRE_READER = ("0424", "4050")
"""The card reader inside an SDWire, beside the chip that switches it."""
_SECTOR = 512
"""The unit of a disk's `size`, whatever its sectors have."""


@dataclass(frozen=True)
class DraftConfiguration:
    """A configuration as text, and what is in it."""

    text: str
    offered: tuple[str, ...]
    """Names of the devices that it offers; of the virtual board if there is no other."""
    commented: tuple[str, ...]
    """Names of those in comments."""
    is_virtual: bool
    """Nothing was found that can be offered, so the file has a virtual board."""


@dataclass(frozen=True)
class _Entry:
    """A device of the file."""

    name: str
    type: str
    config: Mapping[str, Any]
    about: tuple[str, ...]
    is_offered: bool = True


@dataclass
class _Found:
    entries: list[_Entry] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Sentences about what cannot be used as it is."""


def draft_configuration(
    name: str,
    parts: HostParts,
    profiles: ProfileSet,
    hwdb: Hwdb,
    fault_of: Callable[[ProfileMatch], str] = lambda _: "",
) -> DraftConfiguration:
    """Return a configuration of a board with that name, with everything that was found.

    `fault_of` says what is wrong with the driver that a profile names; such a device is only named.
    """
    found = _Found()
    allowed = _keys(match_devices(parts.tree, profiles, hwdb, parts.use))
    every = replace(profiles, enabled=frozenset(profile.name for profile in profiles.profiles))
    findings = match_devices(parts.tree, every, hwdb, parts.use)
    look = _Look(parts, findings, allowed, fault_of)
    for one in findings:
        part = look.parts_of(one)
        if part.entries and (file := look.configured_in(one.device)):
            part = _Found([], [f"{look.description(one)}: {file} has it already."])
        found.entries += part.entries
        found.unusable += part.unusable
    entries = _with_distinct_names(sorted(found.entries, key=lambda entry: not entry.is_offered))
    is_virtual = not any(entry.is_offered for entry in entries)
    if is_virtual:
        entries.insert(0, _virtual_board())
    return DraftConfiguration(
        _text(name, entries, found.unusable),
        tuple(entry.name for entry in entries if entry.is_offered),
        tuple(entry.name for entry in entries if not entry.is_offered),
        is_virtual,
    )


def _keys(findings: Sequence[Finding]) -> frozenset[tuple[str, str]]:
    return frozenset((match.key, match.profile.name) for one in findings for match in one.matches)


@dataclass(frozen=True)
class _Look:
    parts: HostParts
    findings: Sequence[Finding]
    """With all profiles, also those that the administrator must enable."""
    allowed: frozenset[tuple[str, str]]
    """Key and profile of what is offered without that."""
    fault_of: Callable[[ProfileMatch], str]

    def parts_of(self, one: Finding) -> _Found:
        """What one of udev's devices is for a board."""
        found = _Found()
        if one.device.subsystem == "block":
            self._add_disk(one, found)
            return found
        for match in (*one.matches, *one.conflicts):
            self._add_match(one, match, found)
        if one.device.subsystem == "gpio":
            self._add_gpio_chip(one, found)
        if one.device.subsystem == "tty":
            self._add_own_port(one, found)
        return found

    def configured_in(self, device: UdevDevice) -> str:
        """The file of an existing configuration that names its node, or a link to it; empty if there is none."""
        configured = self.parts.configured
        return next((configured[name] for name in (device.node, *device.links) if name in configured), "")

    def _add_hub(self, one: Finding, match: ProfileMatch, found: _Found) -> None:
        """Add a port that the host does not need."""
        about, ports = (
            self.description(one),
            self.parts.attributes.get(one.device.path, {}).get("maxchild", ""),
        )
        count = int(ports) if ports.isascii() and ports.isdigit() else MAX_HUB_PORTS
        free = next(
            (port for port in range(1, min(count, MAX_HUB_PORTS) + 1) if port not in match.protected_ports), 0
        )
        if free:
            found.entries.append(_hub_port(one, free, about))
        else:
            found.unusable.append(f"{about}: the host needs what is in each of its ports.")

    def _add_match(self, one: Finding, match: ProfileMatch, found: _Found) -> None:
        """Add a device of which a profile says what it is."""
        about: tuple[str, ...] = (self.description(one),)
        if match.type is None:
            if one.facts.kind == "hub" and not one.conflicts:
                if one.facts.switches_ports:
                    self._add_hub(one, match, found)
            else:
                found.unusable.append(f"{about[0]}: {match.no_driver}.")
            return
        if fault := self.fault_of(match):
            found.unusable.append(f"{about[0]}: its profile {match.profile.name} is wrong: {fault}.")
            return
        config = dict(match.config)
        is_offered = (match.key, match.profile.name) in self.allowed
        about = (*about, *_how_it_is_found(one, config))
        if match.type == "serial.PySerial":
            about = (*about, "Change baudrate to that of the board.")
            config.setdefault("baudrate", 115200)
        elif match.type == "video.UStreamer":
            about = (*about, "It needs the program ustreamer (apt install ustreamer).")
        if not is_offered:
            about = (*about, _WHY_COMMENTED.get(match.profile.name, "It is offered only if you decide so."))
        found.entries.append(_Entry(match.name, match.type, config, about, is_offered))

    def _add_disk(self, one: Finding, found: _Found) -> None:
        """Add a disk that can be taken out, unless the host uses it. It is only offered if a profile says so."""
        disk = one.device
        if disk.type != "disk" or one.protection or not self._is_removable(one) or self._is_card_of_mux(one):
            return
        about = self.description(one)
        if point := self._mount_point(disk):
            found.unusable.append(f"{about}: it is mounted at {point}; unmount it, and run init again.")
            return
        name, kind, config = "disk", "storage.BlockStorage", {"path": stable_link(disk, one.identity)}
        is_offered = False
        for match in one.matches:
            if match.type is not None and not self.fault_of(match):
                kind, config = match.type, dict(match.config)
                is_offered = (match.key, match.profile.name) in self.allowed
                name = match.name if is_offered else name
        said = (
            about,
            *_how_it_is_found(one, config),
            "Flashing overwrites everything on it; whoever uses this board may do that.",
        )
        found.entries.append(_Entry(name, kind, config, said, is_offered))

    def _add_gpio_chip(self, one: Finding, found: _Found) -> None:
        """Add a GPIO chip. Which of its lines a relay is connected to is unknown, so it is in a comment."""
        chip = one.device
        if not chip.node:
            return
        label, lines = self._gpio_label(chip)
        said = f"GPIO chip {chip.node}" + (f" ({label}, {lines} lines)" if label else "")
        if label in _HEADER_CHIPS:
            about = (
                f"{said}: the header of the Raspberry Pi. Example: a relay at GPIO17, which is pin 11.",
                "It needs the library lgpio (pip install 'jumpstarter-sbc[pi]').",
            )
            found.entries.append(_Entry("relay", "power.GpioRelay", {"pin": 17}, about, False))
        elif self.parts.tree.usb_device(chip) is not None:
            config = {"chip": stable_link(chip, one.identity), "pin": 0}
            about = (
                f"{said} of {self.description(one)}. Example: a relay at its first line; see `gpioinfo`.",
                "It needs the library lgpio (pip install 'jumpstarter-sbc[pi]').",
            )
            found.entries.append(_Entry("relay", "power.GpioRelay", config, about, False))
        else:
            found.unusable.append(
                f"{said}: the host itself may use its lines. If one is for a board, see `gpioinfo`, and use "
                "power.GpioRelay with `chip`."
            )

    def _add_own_port(self, one: Finding, found: _Found) -> None:
        """Add a serial port that is built into the host."""
        port = one.device
        kind = self.parts.attributes.get(port.path, {}).get("type", "0")
        if self.parts.tree.usb_device(port) is not None or kind == "0" or not port.node:
            return
        if port.name in self._consoles():
            found.unusable.append(
                f"{port.node}, a serial port of this host: it is the console of the host itself. For a board, "
                "remove `console=` from the kernel's command line first."
            )
            return
        about = (
            f"{port.node}, a serial port of this host, if a board is connected to it.",
            "Change baudrate to that of the board.",
        )
        config = {"url": stable_link(port, one.identity), "baudrate": 115200}
        found.entries.append(_Entry("serial", "serial.PySerial", config, about, False))

    def description(self, one: Finding) -> str:
        """What it is, and where: `FT232R (0403:6001) at USB port 1-1.4, now /dev/ttyUSB0`."""
        device = one.device
        usb = self.parts.tree.usb_device(device)
        properties = (usb or device).properties
        own = properties.get("ID_MODEL", "").replace("_", " ")
        # Our names of these are those of their kind.
        is_general = one.facts.kind in ("storage", "camera")
        names = (own, one.facts.model) if is_general else (one.facts.model, own)
        model = next((text for text in names if text.strip()), device.name)
        said = shown(model, 60)
        if usb is not None:
            vendor, product = usb_ids(usb)
            said += f" ({vendor}:{product}) at USB port {usb.name}"
        if device.subsystem == "block":
            sectors = self._attribute(device, "size")
            said += f", {int(sectors) * _SECTOR / 1e9:.1f} GB" if sectors.strip("0") else ""
            said += ", without a medium" if sectors and not sectors.strip("0") else ""
        if device.node and not device.is_usb_device:
            said += f", now {device.node}"
        return said

    def _attribute(self, device: UdevDevice, name: str) -> str:
        text = self.parts.attributes.get(device.path, {}).get(name, "")
        return text if name != "size" or text.isdecimal() else ""

    def _is_removable(self, one: Finding) -> bool:
        """A disk on USB, a card, or whatever the kernel calls removable."""
        disk = one.device
        if disk.path.startswith("/devices/virtual/"):
            return False
        is_card = disk.name.startswith("mmcblk") and "boot" not in disk.name and "rpmb" not in disk.name
        is_plugged = is_card or self.parts.tree.usb_device(disk) is not None
        return is_plugged or self._attribute(disk, "removable") == "1"

    def _is_card_of_mux(self, one: Finding) -> bool:
        """Whether it is the card of a multiplexer, which offers it itself."""
        if one.facts.kind == "sdmux":
            return True
        usb = self.parts.tree.usb_device(one.device)
        if usb is None or usb_ids(usb) != _SD_WIRE_READER:
            return False
        hub = usb.path.rpartition("/")[0]
        return any(
            other.device.is_usb_device
            and other.facts.kind == "sdmux"
            and other.device.path.rpartition("/")[0] == hub
            for other in self.findings
        )

    def _mount_point(self, disk: UdevDevice) -> str:
        """Where it or a part of it is mounted; empty if it is not."""
        for part in self.parts.tree:
            if part is disk or part.path.startswith(f"{disk.path}/"):
                for key in (part.number, part.node, *part.links):
                    if key and key in self.parts.mounts:
                        return self.parts.mounts[key]
        return ""

    def _gpio_label(self, chip: UdevDevice) -> tuple[str, str]:
        """The label and the number of lines, from the device of the older interface beside it; empty if unknown."""
        above = chip.path.rpartition("/")[0]
        for path in (chip.path, *(p for p in self.parts.attributes if p.startswith(f"{above}/gpio/"))):
            said = self.parts.attributes.get(path, {})
            if "label" in said:
                return shown(said["label"], 60), shown(said.get("ngpio", "?"), 10)
        return "", ""

    def _consoles(self) -> set[str]:
        """Serial ports on which the kernel has its console."""
        return {
            name
            for path, said in self.parts.attributes.items()
            if path.endswith("/tty/console")
            for name in said.get("active", "").split()
        }


def _how_it_is_found(one: Finding, config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence about what a user must know to plug it in again."""
    texts = [str(value) for value in config.values()]
    if any("/by-id/" in text for text in texts):
        yield f"Found by its {one.identity}, so it may be plugged into any port."
    elif "port" in config or any("/by-path/" in text or "/by-port/" in text for text in texts):
        yield "Found by its port, so it must stay there."
    elif any(text == one.device.node for text in texts):
        yield f"{one.device.node} may be another device after the next start: no link names it."


MAX_HUB_PORTS = 127
"""Of a hub that does not say how many it has (bNbrPorts is a byte, and addresses end there)."""
_WHY_COMMENTED = {
    "sdwire3": "An SDWire3 looks like any card reader. Offer it only if it is one.",
    "ykush": "Make sure that none of its ports supplies the host's own devices.",
}
"""By profile: why a device is in a comment."""


def _hub_port(one: Finding, free: int, about: str) -> _Entry:
    said = (
        f"{about}: it may switch the power of each port.",
        "Name the port that supplies the board; `check` then says whether the hub can do that.",
    )
    hub = one.device.name
    config = {"hub": hub, "port": free} if hub.startswith("usb") else {"port": f"{hub}.{free}"}
    return _Entry("power", "power.HubPort", config, said, False)


def _virtual_board() -> _Entry:
    return _Entry(
        "virtual",
        "virtual.VirtualBoard",
        {},
        (
            "Nothing was found that can be offered at once. Plug in a serial adapter, an SD multiplexer,",
            "a relay board on USB or a camera, and run init again. Until then, this board without hardware",
            "is for experiments: `jumpstarter power on`, then `jumpstarter serial start-console`.",
        ),
    )


def _with_distinct_names(entries: Sequence[_Entry]) -> list[_Entry]:
    taken: set[str] = set()
    named = []
    for entry in entries:
        name, number = entry.name, 2
        while name in taken:
            name, number = f"{entry.name}-{number}", number + 1
        taken.add(name)
        named.append(replace(entry, name=name))
    return named


def _text(name: str, entries: Sequence[_Entry], unusable: Sequence[str]) -> str:
    return "\n".join([*_lines(name, entries, unusable), ""])


def _lines(name: str, entries: Sequence[_Entry], unusable: Sequence[str]) -> Iterator[str]:
    yield from _comment(
        "Written by jumpstarter-exporter init from what was found on this host; change it as you like. Rename the "
        "devices, and remove those that do not belong to the board; further boards get files of their own. "
        "Afterwards: jumpstarter-exporter check FILE",
        "",
    )
    yield "apiVersion: jumpstarter.dev/v1alpha1"
    yield "kind: ExporterConfig"
    yield from _yaml({"metadata": {"name": name}}, "")
    yield "export:"
    for number, entry in enumerate(entry for entry in entries if entry.is_offered):
        if number:
            yield ""
        yield from _entry(entry)
    if any(not entry.is_offered for entry in entries):
        yield ""
        yield from _comment("To offer one of these, too, remove the # before its lines:", "  ")
        for entry in entries:
            if not entry.is_offered:
                yield ""
                yield from _entry(entry)
    if unusable:
        yield ""
        yield from _comment("Found as well, but not for use as it is:", "  ")
        for sentence in unusable:
            yield from _comment(f"- {sentence}", "  ")


def _entry(entry: _Entry) -> Iterator[str]:
    for sentence in entry.about:
        yield from _comment(sentence, "  ")
    device: dict[str, Any] = {"type": entry.type}
    if entry.config:
        device["config"] = dict(entry.config)
    yield from _yaml({entry.name: device}, "  " if entry.is_offered else "  #")


def _comment(sentence: str, indent: str) -> Iterator[str]:
    """Lines that begin with `# `, whatever a device called itself."""
    # Wrapped lines would begin with the spaces of a name. Paths stay whole.
    on_one_line = " ".join(shown(sentence, 600).split())
    for line in textwrap.wrap(on_one_line, _WIDTH, break_on_hyphens=False, break_long_words=False):
        yield f"{indent}# {line}"


def _yaml(data: Mapping[str, Any], indent: str) -> Iterator[str]:
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=False, width=_NO_WRAP)
    for line in text.rstrip("\n").split("\n"):
        yield indent + line
