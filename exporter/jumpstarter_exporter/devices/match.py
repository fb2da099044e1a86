"""What the host's devices are for its boards: udev's properties, profiles, and what may be offered. No I/O.

Each device of udev's is compared with each profile. Of several profiles with one interface (two that make a console of
the same port) the admin's counts before the shipped one, then the one with more conditions; two that are equal are a
conflict, and neither counts. Profiles with different interfaces all count: an outlet may be a serial port as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from jumpstarter_exporter.devices.hwdb import Hwdb, HwdbFacts, facts_of, lookup_key, serial_number
from jumpstarter_exporter.devices.identity import DeviceIdentity, IdentitySource, identify
from jumpstarter_exporter.devices.offer import HostUse, Protection, protect
from jumpstarter_exporter.devices.profiles import Ancestor, Conditions, Profile, ProfileSet
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice, usb_ids

__all__ = [
    "Finding",
    "Named",
    "ProfileAttempt",
    "ProfileMatch",
    "ProfileRejection",
    "match_devices",
    "stable_link",
]

_ADMIN_KINDS = {"storage": "disks and card readers", "hub": "hub ports"}
_DISKS = frozenset({"block", "scsi_generic"})


@dataclass(frozen=True)
class ProfileAttempt:
    """One profile that a device was compared with."""

    profile: Profile
    difference: str
    """The first property that differs, as a sentence; empty if it matched."""


@dataclass(frozen=True)
class ProfileMatch:
    """A device of a board, as a profile describes it."""

    profile: Profile
    identity: DeviceIdentity
    group: str
    name: str
    type: str | None
    """None if the profile has no driver: see `no_driver`."""
    no_driver: str
    interface: str
    config: Mapping[str, Any]
    labels: Mapping[str, str]
    description: str | None
    protected_ports: Mapping[int, str] = field(default_factory=dict)
    """Ports of a hub that must not be switched, with the reason."""

    @property
    def key(self) -> str:
        """By what it is recognised; unique on the host."""
        return f"{self.identity.key}:{self.interface}"

    @property
    def path(self) -> str:
        """Its path in the tree of discovered devices."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def template(self) -> str:
        """The template of its path."""
        return f"{self.profile.group}/{self.profile.device_name}"


@dataclass(frozen=True)
class Named:
    """The previous path of a device."""

    path: str
    template: str
    """As `ProfileMatch.template`: the device keeps its path as long as its profile gives it the same template."""


@dataclass(frozen=True)
class ProfileRejection:
    """A profile matched, but the device is not offered."""

    profile: Profile
    reason: str


@dataclass(frozen=True)
class Finding:
    """The result for one of udev's devices."""

    device: UdevDevice
    facts: HwdbFacts
    identity: DeviceIdentity
    attempts: tuple[ProfileAttempt, ...]
    matches: tuple[ProfileMatch, ...] = ()
    refusals: tuple[ProfileRejection, ...] = ()
    conflicts: tuple[ProfileMatch, ...] = ()
    """Several profiles matched equally well: the device without a driver, for that reason."""
    protection: str = ""
    """Why the host keeps it for itself, whether a profile matched or not; empty if it does not."""


def match_devices(
    tree: DeviceTree,
    profiles: ProfileSet,
    hwdb: Hwdb,
    use: HostUse | None = None,
    *,
    shared: Collection[str] = (),
    named: Mapping[str, Named] | None = None,
) -> list[Finding]:
    """Match every device, in the order of the tree, with the profiles.

    `shared` are serial numbers that do not identify (see `identify`). `named` says what devices were called before, by
    their keys (`ProfileMatch.key`): they keep their paths, and no other device gets these. Of two devices with one
    path the later one, in the order of their keys, gets its own id behind its name.
    """
    matcher = _Matcher(
        tree, profiles, hwdb, protect(tree, use or HostUse(), hwdb), identify(tree, hwdb, shared)
    )
    return _with_distinct_paths([matcher.finding(device) for device in tree], named or {})


@dataclass(frozen=True)
class _Matcher:
    tree: DeviceTree
    profiles: ProfileSet
    hwdb: Hwdb
    protection: Protection
    identities: Mapping[str, DeviceIdentity]

    def finding(self, device: UdevDevice) -> Finding:
        subject = _Subject(device, self.tree, self.hwdb)
        attempts = tuple(
            ProfileAttempt(profile, next(subject.differences(profile.match), ""))
            for profile in self.profiles.profiles
        )
        kept = self._protection(device, subject.facts)
        identity = self.identities[device.path]
        matches: list[ProfileMatch] = []
        refusals: list[ProfileRejection] = []
        conflicts: list[ProfileMatch] = []
        by_interface: dict[str, list[Profile]] = {}
        for attempt in attempts:
            if attempt.difference:
                continue
            profile = attempt.profile
            if kept or (reason := self._needs_admin(profile, device, subject.facts)):
                refusals.append(ProfileRejection(profile, kept or reason))
            else:
                by_interface.setdefault(profile.interface, []).append(profile)
        for interface, found in by_interface.items():
            found.sort(key=_rank)
            best = [one for one in found if _rank(one) == _rank(found[0])]
            if len(best) > 1:
                names = " and ".join(one.name for one in best)
                reason = f"{names} match equally well for {interface}; add a condition to one of them, or disable it"
                refusals += [ProfileRejection(one, reason) for one in best]
                conflict = self._match(best[0], subject, identity)
                conflicts.append(replace(conflict, type=None, no_driver=reason, config={}))
            else:
                matches.append(self._match(best[0], subject, identity))
            refusals += [
                ProfileRejection(one, f"{best[0].name} is used for {interface}: {_why_better(best[0], one)}")
                for one in found[len(best) :]
            ]
        return Finding(
            device,
            subject.facts,
            identity,
            attempts,
            tuple(matches),
            tuple(refusals),
            tuple(conflicts),
            kept,
        )

    def _protection(self, device: UdevDevice, facts: HwdbFacts) -> str:
        """A hub consists of its ports, which are judged one by one; the host may continue to use its own."""
        if device.is_usb_device and facts.kind == "hub":
            return ""
        return self.protection.reason(device) or ""

    def _needs_admin(self, profile: Profile, device: UdevDevice, facts: HwdbFacts) -> str:
        kind = facts.kind
        if device.subsystem in _DISKS and kind != "sdmux":
            kind = "storage"
        if kind not in _ADMIN_KINDS or profile.by_admin or profile.name in self.profiles.enabled:
            return ""
        return (
            f"{_ADMIN_KINDS[kind]} are offered only if the host's administrator allows it; "
            f"write `enable: [{profile.name}]` into a file in /etc/jumpstarter/profiles.d"
        )

    def _match(self, profile: Profile, subject: _Subject, identity: DeviceIdentity) -> ProfileMatch:
        words = subject.words(identity) | {"interface": profile.interface}
        return ProfileMatch(
            profile,
            identity,
            _slug(_filled(profile.group, words)),
            _slug(_filled(profile.device_name, words)) or profile.interface,
            profile.type,
            profile.no_driver,
            profile.interface,
            _filled_in(profile.config, words),
            {key: _filled(text, words) for key, text in profile.labels.items()},
            profile.description,
            self.protection.ports_of(subject.device),
        )


class _Subject:
    """A device, and the values for conditions and templates."""

    def __init__(self, device: UdevDevice, tree: DeviceTree, hwdb: Hwdb) -> None:
        self.device = device
        self.facts = facts_of(device, tree, hwdb)
        self._tree = tree
        usb = tree.usb_device(device)
        self._usb = usb
        self._ids = usb_ids(usb) if usb is not None else ("", "")
        self._serial = serial_number(usb) if usb is not None else ""
        address = tree.usb_address(device)
        self._port = address.port if address is not None else ""
        self._usb_interface = tree.usb_interface(device)
        # A part of a USB device may lack its ids in udev's database (hidraw); its device always has them.
        tables = hwdb.lookup(lookup_key(usb)) if usb is not None else {}
        above = {key: value for key, value in usb.properties.items() if key.startswith("ID_")} if usb else {}
        self._properties = {**tables, **above, **device.properties}

    def differences(self, wanted: Conditions) -> Iterator[str]:
        """How the device differs from the conditions, one sentence each."""
        yield from _differs("subsystem", wanted.subsystem, self.device.subsystem)
        yield from _differs("devtype", wanted.devtype, self.device.type)
        yield from _differs("kind", wanted.kind, self.facts.kind)
        yield from _differs("vendor", wanted.vendor, self._ids[0], blind=True)
        yield from _differs("product", wanted.product, self._ids[1], blind=True)
        if wanted.usb_interface is not None:
            number = "" if self._usb_interface is None else str(int(self._usb_interface, 16))
            yield from _differs("usb_interface", str(wanted.usb_interface), number)
        yield from _differs("serial", wanted.serial, self._serial)
        yield from _differs("port", wanted.port, self._port)
        for key, value in wanted.properties.items():
            yield from _differs(f"property {key}", value, self._properties.get(key, ""))
        if (above := wanted.ancestor) is not None and not any(
            self._is_ancestor(one, above) for one in self._tree.ancestors(self.device)
        ):
            yield f"no device above it has {_listed(above)}"

    @staticmethod
    def _is_ancestor(device: UdevDevice, wanted: Ancestor) -> bool:
        vendor, product = usb_ids(device)
        checks = [
            *_differs("subsystem", wanted.subsystem, device.subsystem),
            *_differs("vendor", wanted.vendor, vendor, blind=True),
            *_differs("product", wanted.product, product, blind=True),
        ]
        for key, value in wanted.properties.items():
            checks += _differs(key, value, device.properties.get(key, ""))
        return not checks

    def words(self, identity: DeviceIdentity) -> dict[str, str]:
        """The values for templates."""
        return {
            "link": stable_link(self.device, identity),
            "node": self.device.node,
            "port": self._port,
            "serial": self._serial,
            "id": identity.value if identity.source is not IdentitySource.PATH else self.device.name,
            "vendor": self._ids[0],
            "product": self._ids[1],
            "model": self.facts.model or self._properties.get("ID_MODEL", "") or self.device.subsystem,
            "usb_interface": "" if self._usb_interface is None else str(int(self._usb_interface, 16)),
        }


def _differs(what: str, wanted: str | None, found: str, *, blind: bool = False) -> Iterator[str]:
    if wanted is None:
        return
    fits = fnmatchcase(found.lower(), wanted.lower()) if blind else fnmatchcase(found, wanted)
    if not found or not fits:
        yield f"{what} is {found}, not {wanted}" if found else f"it has no {what}, and {wanted} is wanted"


def _listed(ancestor: Ancestor) -> str:
    wanted = {"subsystem": ancestor.subsystem, "vendor": ancestor.vendor, "product": ancestor.product}
    said = {key: value for key, value in wanted.items() if value is not None} | ancestor.properties
    return ", ".join(f"{key} {value}" for key, value in said.items()) or "anything"


def _rank(profile: Profile) -> tuple[bool, int]:
    """The best matches."""
    return not profile.by_admin, -_conditions(profile.match)


def _conditions(match: Conditions) -> int:
    simple = (
        match.devtype,
        match.kind,
        match.vendor,
        match.product,
        match.usb_interface,
        match.serial,
        match.port,
    )
    above = match.ancestor
    count = sum(one is not None for one in simple) + len(match.properties)
    if above is not None:
        count += sum(one is not None for one in (above.subsystem, above.vendor, above.product)) + len(
            above.properties
        )
    return count


def _why_better(best: Profile, other: Profile) -> str:
    return "it is the admin's" if best.by_admin != other.by_admin else "it has more conditions"


def stable_link(device: UdevDevice, identity: DeviceIdentity) -> str:
    """The link to the node that contains the identity; the node itself if there is none."""
    links = [link for link in device.links if link.isprintable()]
    places: Sequence[Callable[[str], bool]] = (
        lambda link: "/by-path/" in link and "-usbv" in link,
        lambda link: "/by-path/" in link,
        lambda link: "/jumpstarter/by-port/" in link,
    )
    if identity.source is IdentitySource.SERIAL:
        places = (lambda link: "/by-id/" in link and identity.value in link, *places)
    for fits in places:
        if found := [link for link in links if fits(link)]:
            return found[0]
    return device.node


def _slug(text: str) -> str:
    """A valid name in the tree, whatever a device calls itself."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60].rstrip("-")


def _filled(template: str, words: Mapping[str, str]) -> str:
    return template.format_map(words)


def _filled_in(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _filled(value, words)
    if isinstance(value, Mapping):
        return {key: _filled_in(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_in(inner, words) for inner in value]
    return value


def _with_distinct_paths(findings: list[Finding], named: Mapping[str, Named]) -> list[Finding]:
    """Matches with distinct paths: a new device never gets the path of one that may return."""
    owners = {former.path: key for key, former in named.items()}
    names: dict[str, str] = {}
    groups: dict[str, str] = {}
    every = [match for one in findings for match in (*one.matches, *one.conflicts)]
    for group in sorted({match.group for match in every if match.group}):
        owners.setdefault(group, "")  # otherwise a device without a group could get its path
    for match in sorted(every, key=lambda match: match.key):
        former = named.get(match.key)
        if former is not None and former.template == match.template:
            path = former.path
        else:
            path = match.path
            number = 1
            while owners.setdefault(path, match.key) != match.key:
                path = f"{match.path}-{_slug(match.identity.value)}" + (f"-{number}" if number > 1 else "")
                number += 1
        groups[match.key], _, names[match.key] = path.rpartition(".")

    def as_named(matches: tuple[ProfileMatch, ...]) -> tuple[ProfileMatch, ...]:
        return tuple(replace(match, group=groups[match.key], name=names[match.key]) for match in matches)

    return [
        replace(one, matches=as_named(one.matches), conflicts=as_named(one.conflicts)) for one in findings
    ]
