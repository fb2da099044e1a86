"""Check that a root has the kernel modules that a lab needs, with their dependencies.

The recipe leaves folders of modules out. If another module needs one of them, this check finds it before a user does.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["NEEDED", "faults"]

NEEDED: Mapping[str, tuple[str, ...]] = {
    "the card": ("ext4", "vfat", "nls_ascii", "nls_cp437", "overlay"),
    "serial adapters": ("ftdi_sio", "cp210x", "pl2303", "ch341", "cdc_acm"),
    "disks and cards of boards": ("usb_storage", "uas", "sd_mod", "sg"),
    "relays and probes": ("usbhid", "gpio_sim"),
    "cameras": ("uvcvideo",),
    "networks on USB": ("cdc_ether", "rndis_host", "r8152", "asix", "ax88179_178a"),
}
"""The required modules by purpose, with the kernel's names; built in or as a file."""
NEEDED_BY_PI: Mapping[str, tuple[str, ...]] = {
    "a Pi's screen": ("vc4",),
    "a Pi's network": ("smsc95xx", "lan78xx", "genet", "brcmfmac"),
    "a Pi 5": ("pinctrl_rp1", "rp1_pci", "macb"),
    "a Pi's watchdog": ("bcm2835_wdt",),
}
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def _name(path: str) -> str:
    """``kernel/drivers/usb/serial/ftdi_sio.ko.xz`` is ftdi_sio; a hyphen is an underscore."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _depends(path: Path) -> list[str]:
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    found = _DEPENDS.search(data)
    return [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []


def faults(folder: Path, *, is_pi: bool) -> list[str]:
    """Faults in a folder such as /usr/lib/modules/7.3.4, each as a sentence.

    Args:
        folder: Of one kernel.
        is_pi: Also look for what only a Raspberry Pi has.
    """
    files = {_name(path.name): path for path in sorted((folder / "kernel").rglob("*.ko*"))}
    built_in = {_name(line) for line in (folder / "modules.builtin").read_text().splitlines()}
    said: list[str] = []
    seen: set[str] = set()
    for what, names in {**NEEDED, **(NEEDED_BY_PI if is_pi else {})}.items():
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in files and name not in seen:
                waiting += _depends(files[name])
            elif name not in built_in and name not in seen:
                said.append(f"the kernel's module {name}, for {what}, is left out")
            seen.add(name)
    return said
