"""What the image consists of, as data.

There are two of one recipe: ``arm64`` is the image for Raspberry Pis, ``amd64`` its twin for tests, which boots in
half a minute under emulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["amd64", "arm64"]

RELEASE = "trixie"
RELEASE_NUMBER = 13
OURS = ("jumpstarter-exporter", "jumpstarter-controller")
"""Packages of this project."""
COMPONENTS = ("main", "non-free-firmware")
SUITES = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-backports")
KERNEL_SUITE = f"{RELEASE}-backports"
"""Its kernel knows the Pi 5's peripherals (RP1), and has gpio-sim for the boot tests; the release's has neither."""

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "systemd-timesyncd",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "netbase",
    "ca-certificates",
    "openssh-server",
    "sudo",
    "initramfs-tools",
    "zstd",
    "e2fsprogs",
    "dosfstools",
    "fdisk",
    "usbutils",
    "gpiod",
    "less",
    "nano-tiny",
)
FIRMWARE = ("raspi-firmware", "firmware-brcm80211", "wireless-regdb", "wpasupplicant", "iw")
"""What only a Raspberry Pi needs: the boot loader's files, Wi-Fi."""

INITRAMFS_MODULES = (
    # File systems.
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "overlay",
    # The SD card slots, USB and NVMe disks of Raspberry Pis.
    "mmc_block",
    "sdhci_iproc",
    "bcm2835",
    "sdhci_brcmstb",
    "usb_storage",
    "uas",
    "sd_mod",
    "xhci_pci",
    "xhci_plat_hcd",
    "dwc2",
    "phy_generic",
    "pcie_brcmstb",
    "reset_raspberrypi",
    "nvme",
    # The emulator's.
    "virtio_blk",
    "virtio_pci",
    "virtio_mmio",
    "virtio_console",
)
"""Listed, so that the initial file system is 11 MB instead of 37 and is generated, emulated, in a third of the time."""

KERNEL_MODULES_LEFT_OUT = (
    "drivers/gpu/drm/amd",
    "drivers/gpu/drm/i915",
    "drivers/gpu/drm/xe",
    "drivers/gpu/drm/nouveau",
    "drivers/gpu/drm/radeon",
    "drivers/infiniband",
    "drivers/scsi",
    "drivers/net/ethernet/mellanox",
    "drivers/net/ethernet/intel",
    "drivers/net/ethernet/chelsio",
    "drivers/net/ethernet/broadcom/bnx2x",
    "drivers/net/ethernet/qlogic",
    "drivers/net/ethernet/netronome",
    "drivers/net/ethernet/marvell/octeontx2",
    "drivers/net/ethernet/sfc",
    "drivers/accel",
    "drivers/isdn",
    "drivers/message",
    "drivers/crypto/intel",
    "fs/ocfs2",
    "fs/gfs2",
    "fs/ceph",
    "fs/xfs",
    "fs/btrfs",
    "fs/bcachefs",
)
"""Folders of kernel modules for hardware that no Raspberry Pi and no emulator has."""
KERNEL_MODULES_KEPT = (
    "drivers/scsi/scsi_*",
    "drivers/scsi/sd_mod*",
    "drivers/scsi/sg.*",
    "drivers/scsi/sr_mod*",
)

DOCUMENTATION = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the card."""

    label: str
    kind: Literal["vfat", "ext4"]
    megabytes: int
    """0: as many as its contents need."""


FIRMWARE_PARTITION = Partition("JUMPSTARTER", "vfat", 256)
"""What the Pi's boot loader reads, and where a person edits jumpstarter.yaml on a laptop. Room for two kernels."""
ROOT_PARTITION = Partition("root", "ext4", 0)
"""Mounted read-only."""
DATA_PARTITION = Partition("data", "ext4", 64)
"""What lasts. The first boot grows it to the card's end."""
PARTITIONS = (FIRMWARE_PARTITION, ROOT_PARTITION, DATA_PARTITION)
FIRST_MEGABYTE = 4
"""Where the first partition begins: cards erase in blocks of up to 4 MB."""


def packages(architecture: Architecture) -> list[str]:
    """Debian's packages of the image, its kernel apart."""
    return [*PACKAGES, *(FIRMWARE if architecture == "arm64" else ())]


def kernel(architecture: Architecture) -> str:
    """The kernel's package, as apt is asked for it."""
    return f"linux-image-{architecture}/{KERNEL_SUITE}"


def excluded_paths() -> list[str]:
    """What dpkg leaves out, and after it what it puts in all the same, as its options."""
    modules = ("/lib/modules/*/kernel", "/usr/lib/modules/*/kernel")
    return [
        *(f"path-exclude={path}" for path in DOCUMENTATION),
        "path-include=/usr/share/doc/*/copyright",
        *(f"path-exclude={base}/{folder}/*" for base in modules for folder in KERNEL_MODULES_LEFT_OUT),
        *(f"path-include={base}/{name}" for base in modules for name in KERNEL_MODULES_KEPT),
    ]
