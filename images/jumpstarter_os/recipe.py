"""The contents of the image, as data.

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
    "chrony",
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
"""Packages for a Raspberry Pi only: files of the boot loader, Wi-Fi."""

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
    "drivers/net/wireless/intel",
    "drivers/media/pci",
    "drivers/media/dvb-frontends",
    "drivers/media/tuners",
    "drivers/media/usb/dvb-usb",
    "drivers/media/usb/dvb-usb-v2",
    "sound/pci",
    "sound/hda",
    "sound/firewire",
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
"""Folders of kernel modules for hardware that no Raspberry Pi, no emulator and no lab has: graphics cards, storage and
network cards of servers, television, and what sits in laptops. They are packed already, so each is the download's."""
KERNEL_MODULES_KEPT = (
    "drivers/scsi/scsi_*",
    "drivers/scsi/sd_mod*",
    "drivers/scsi/sg.*",
    "drivers/scsi/sr_mod*",
)

DEVICE_TREES = "/usr/lib/modules/*/dtb"
DEVICE_TREES_KEPT = ("bcm2711*", "bcm2712*", "bcm2837*")
"""Of 120 MB of descriptions of all the world's boards: Pi 4, 400 and CM4; Pi 5; Pi 3 and Zero 2 W."""

RADIO_FIRMWARE = ("/usr/lib/firmware/brcm", "/usr/lib/firmware/cypress")
RADIO_FIRMWARE_KEPT = ("43430", "43436", "43455", "43456")
"""The Wi-Fi chips of Raspberry Pis, by the numbers in the names of their files."""

TABLES_LEFT_OUT = (
    # Names of PCI, ACPI and Bluetooth makers, and of network cards by their addresses; laptops' keys and sensors. Those
    # of USB stay. What is left is compiled, by emulation, in a fraction of the time.
    *(
        f"/usr/lib/udev/hwdb.d/20-{name}*"
        for name in ("OUI", "pci-vendor", "acpi", "bluetooth", "sdio", "vmbus", "dmi")
    ),
    *(f"/usr/lib/udev/hwdb.d/60-{name}*" for name in ("keyboard", "sensor", "evdev", "autosuspend")),
    # Converters between encodings; UTF-8 is the C library's own.
    "/usr/lib/*-linux-gnu/gconv/*.so",
    # The third stage of the Pi's boot loader with a camera's part, with debugging, and without graphics.
    *(f"/usr/lib/raspi-firmware/{name}*" for name in ("start_", "fixup_", "start4c", "start4d", "start4x")),
    *(f"/usr/lib/raspi-firmware/fixup4{kind}.dat" for kind in ("cd", "db", "x")),
)
"""Data of packages that no program here reads."""

DOCUMENTATION = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the card."""

    label: str
    kind: Literal["vfat", "ext4"]
    megabytes: int
    """0 means: the size of its contents."""


FIRMWARE_PARTITION = Partition("JUMPSTARTER", "vfat", 256)
"""The files of the Pi's boot loader, and jumpstarter.yaml. It has space for two kernels."""
ROOT_PARTITION = Partition("root", "ext4", 0)
"""Mounted read-only."""
DATA_PARTITION = Partition("data", "ext4", 160)
"""What lasts. The first boot grows it to the card's end. More than one of ext4's groups of 128 MB, so that there is a
second superblock: each mount writes the first one outside of the journal, and a power cut may leave half of that."""
PARTITIONS = (FIRMWARE_PARTITION, ROOT_PARTITION, DATA_PARTITION)
FIRST_MEGABYTE = 4
"""The begin of the first partition: cards erase blocks of up to 4 MB."""


def packages(architecture: Architecture) -> list[str]:
    """Debian's packages in the image, without the kernel."""
    return [*PACKAGES, *(FIRMWARE if architecture == "arm64" else ())]


def kernel(architecture: Architecture) -> str:
    """The kernel's package in the notation of apt."""
    return f"linux-image-{architecture}/{KERNEL_SUITE}"


def excluded_paths() -> list[str]:
    """Options of dpkg: paths to leave out, and then exceptions that are installed."""
    modules = ("/lib/modules/*/kernel", "/usr/lib/modules/*/kernel")
    return [
        *(f"path-exclude={path}" for path in DOCUMENTATION),
        "path-include=/usr/share/doc/*/copyright",
        *(f"path-exclude={base}/{folder}/*" for base in modules for folder in KERNEL_MODULES_LEFT_OUT),
        *(f"path-include={base}/{name}" for base in modules for name in KERNEL_MODULES_KEPT),
        f"path-exclude={DEVICE_TREES}/*",
        *(f"path-include={DEVICE_TREES}/broadcom/{name}" for name in DEVICE_TREES_KEPT),
        *(f"path-exclude={folder}/*" for folder in RADIO_FIRMWARE),
        *(f"path-include={folder}/*{chip}*" for folder in RADIO_FIRMWARE for chip in RADIO_FIRMWARE_KEPT),
        *(f"path-exclude={path}" for path in TABLES_LEFT_OUT),
    ]
