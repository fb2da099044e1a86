"""Plan the files for other programs of the host, and the units to start, from the stored settings. No I/O.

All files are in /run and are written at each boot; systemd's programs, wpa_supplicant and sshd read them there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jumpstarter_proto.addresses import CONTROLLER_PORT, split_host_port

from jumpstarter_image.kept import Address, Kept, Wifi

__all__ = [
    "CONTROLLER_OPTIONS",
    "ENROL_MARKER",
    "PATHS",
    "Command",
    "PlannedFile",
    "files_of",
    "hostname_of",
    "steps_after",
]

USER = "lab"
"""The user for logins over SSH."""
WIRED = "run/systemd/network/10-jumpstarter-wired.network"
WIRELESS = "run/systemd/network/10-jumpstarter-wireless.network"
WPA = "run/jumpstarter-image/wpa_supplicant.conf"
SSH_KEYS = f"run/jumpstarter-image/authorized_keys/{USER}"
TIME = "run/jumpstarter-image/chrony.conf"
EXPORTER_OPTIONS = "run/jumpstarter-image/exporter.env"
CONTROLLER_OPTIONS = "run/jumpstarter-image/controller.env"
ENROL_MARKER = "run/jumpstarter-image/enrol"
PATHS = (WIRED, WIRELESS, WPA, SSH_KEYS, TIME, EXPORTER_OPTIONS, CONTROLLER_OPTIONS, ENROL_MARKER)
"""All files that may be written; those that are not planned are removed."""
ROUTER_PORT = 8083
"""The default port of the router of `jumpstarter-controller run --with-router`."""
_HEADER = "# Made of jumpstarter.yaml at each boot; change that.\n"
NETWORK_TIME = "/run/chrony-dhcp"
"""The folder with the time servers from DHCP (jumpstarter-image-time-sources.service)."""
_TIME = f"""\
driftfile /var/lib/chrony/chrony.drift
rtcsync
# A host without a hardware clock may be years behind, and a lab's card may get the time only after days.
makestep 1 -1
maxupdateskew 100
sourcedir {NETWORK_TIME}
"""
NEAR_SERVER = "iburst minpoll 4"
"""Options for a time server on the same network: poll every 16 s at first, because it may start later than this host.
chronyd accepts the time after three answers, which would take minutes otherwise."""
LOCAL_NETWORKS = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("fc00::/7", "fe80::/10"),
)
"""The networks that may ask a lab's card for the time."""


@dataclass(frozen=True)
class PlannedFile:
    """A file below the root."""

    content: str
    mode: int = 0o644


Command: TypeAlias = tuple[str, ...]
"""A program and its arguments."""


def hostname_of(kept: Kept, machine_id: str) -> str:
    """The host name: from the file, or a name that is unique among cards with this image."""
    return kept.hostname or f"jumpstarter-{machine_id[:4] or 'host'}"


def files_of(kept: Kept, hostname: str) -> dict[str, PlannedFile]:
    """The planned files, by path."""
    address = kept.address
    fixed = {} if address is None else {address.interface: address}
    files = {
        WIRED: PlannedFile(_network("Name=en* eth*", fixed.get("wired"))),
        TIME: PlannedFile(_time(kept)),
    }
    if kept.wifi is not None:
        files[WIRELESS] = PlannedFile(_network("Type=wlan", fixed.get("wifi")))
        files[WPA] = PlannedFile(_wpa(kept.wifi), 0o600)
    if kept.ssh_keys:
        files[SSH_KEYS] = PlannedFile("".join(f"{key}\n" for key in kept.ssh_keys))
    if kept.labels:
        labels = ",".join(f"{key}={value}" for key, value in sorted(kept.labels.items()))
        files[EXPORTER_OPTIONS] = PlannedFile(f'{_HEADER}JUMPSTARTER_BOARD_LABELS="{labels}"\n')
    if kept.controller:
        endpoint = own_endpoint(kept, hostname)
        # Otherwise the router would have the short host name, which other networks cannot resolve.
        router = f"{_bracketed(_host_of(endpoint))}:{ROUTER_PORT}"
        options = f"--with-router --endpoint {endpoint} --router-endpoint {router}"
        files[CONTROLLER_OPTIONS] = PlannedFile(f'{_HEADER}JUMPSTARTER_CONTROLLER_OPTIONS="{options}"\n')
    if kept.is_to_enrol:
        files[ENROL_MARKER] = PlannedFile(f"{kept.enrolment_digest}\n")
    return files


def own_endpoint(kept: Kept, hostname: str) -> str:
    """The address of a controller on this card: from the file, its fixed address, or its name."""
    if kept.endpoint:
        return kept.endpoint
    host = str(ipaddress.ip_interface(kept.address.ip).ip) if kept.address else f"{hostname}.local"
    return f"{_bracketed(host)}:8082"


def _host_of(endpoint: str) -> str:
    return split_host_port(endpoint, default_port=CONTROLLER_PORT)[0]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _network(match: str, address: Address | None) -> str:
    lines = ["[Match]", match, "", "[Network]", "MulticastDNS=yes"]
    if address is None:
        lines += ["DHCP=yes", "", "[DHCPv4]", "ClientIdentifier=mac"]
    else:
        lines += [f"Address={address.ip}"]
        lines += [f"Gateway={address.gateway}"] if address.gateway else []
        lines += [f"DNS={server}" for server in address.dns]
    return _HEADER + "\n".join(lines) + "\n"


def _wpa(wifi: Wifi) -> str:
    """The configuration of wpa_supplicant. The network's name is in hexadecimal digits, which allow every character."""
    lines = [
        "ctrl_interface=/run/wpa_supplicant",
        f"country={wifi.country}",
        "network={",
        f"\tssid={wifi.ssid.encode().hex()}",
        "\tscan_ssid=1",
    ]
    if not wifi.passphrase:
        lines += ["\tkey_mgmt=NONE"]
    else:
        is_key = len(wifi.passphrase) == 64
        lines += [
            "\tkey_mgmt=WPA-PSK" if is_key else "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE",
            "\tieee80211w=1",
        ]
        lines += [f"\tpsk={wifi.passphrase}" if is_key else f'\tpsk="{wifi.passphrase}"']
    return _HEADER + "\n".join([*lines, "}"]) + "\n"


def _time(kept: Kept) -> str:
    """The configuration of chronyd. It trusts time servers more than the controller's host, which may be wrong."""
    if kept.time_server:
        lines = [f"server {kept.time_server} {NEAR_SERVER} trust"]
    else:
        lines = ["pool 2.debian.pool.ntp.org iburst maxsources 3 trust"]
        if kept.endpoint and not kept.controller:
            # A lab without internet.
            lines.append(f"server {_host_of(kept.endpoint)} {NEAR_SERVER}")
    if kept.controller:
        lines += [f"allow {network}" for network in LOCAL_NETWORKS]
    return _HEADER + _TIME + "".join(f"{line}\n" for line in lines)


def steps_after(
    changed: Collection[str], kept: Kept, *, is_renamed: bool, is_booting: bool, wireless: Sequence[str]
) -> list[Command]:
    """The commands to run, in this order. During the boot, the programs that read these files are started later anyway.

    `wireless` are the names of the Wi-Fi interfaces.
    """
    if is_booting:
        return []
    steps: list[Command] = []
    if not {WIRED, WIRELESS}.isdisjoint(changed):
        steps.append(("networkctl", "reload"))
    if WPA in changed:
        verb = "stop" if kept.wifi is None else "restart"
        steps += [_systemctl(verb, f"jumpstarter-image-wifi@{name}.service") for name in wireless]
    if TIME in changed:
        steps.append(_systemctl("try-restart", "chrony.service"))
    if is_renamed or EXPORTER_OPTIONS in changed:
        # Its boards are named after the host.
        steps.append(_systemctl("try-restart", "jumpstarter-exporter.service"))
    if CONTROLLER_OPTIONS in changed:
        verb = "restart" if kept.controller else "stop"
        steps.append(_systemctl(verb, "jumpstarter-controller.service"))
        steps.append(_systemctl(verb, "jumpstarter-image-time-server.service"))
    is_other_host = kept.controller and not {CONTROLLER_OPTIONS, EXPORTER_OPTIONS}.isdisjoint(changed)
    if is_other_host or (ENROL_MARKER in changed and kept.is_to_enrol):
        steps.append(_systemctl("restart", "jumpstarter-image-enrol.service"))
    return steps


def _systemctl(verb: str, unit: str) -> Command:
    return ("systemctl", "--no-block", verb, unit)
