"""What the recipe says fits together."""

from __future__ import annotations

import fnmatch
from typing import get_args

import pytest

from jumpstarter_os import recipe
from jumpstarter_os.rootfs import HERE


def kept(path: str) -> bool:
    """What dpkg does with a path: the last option that matches it says whether it is unpacked."""
    keep = True
    for option in recipe.excluded_paths():
        word, _, pattern = option.partition("=")
        if fnmatch.fnmatchcase(path, pattern):
            keep = word == "path-include"
    return keep


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/lib/modules/7.3.4/kernel/drivers/scsi/sd_mod.ko.xz", True),
        ("/usr/lib/modules/7.3.4/kernel/drivers/scsi/scsi_mod.ko.xz", True),
        ("/usr/lib/modules/7.3.4/kernel/drivers/scsi/qla2xxx/qla2xxx.ko.xz", False),
        ("/lib/modules/7.3.4/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.xz", False),
        ("/usr/lib/modules/7.3.4/kernel/drivers/usb/serial/ftdi_sio.ko.xz", True),
        (
            "/usr/lib/modules/7.3.4/kernel/drivers/net/wireless/broadcom/brcm80211/brcmfmac/brcmfmac.ko.xz",
            True,
        ),
        ("/usr/lib/modules/7.3.4/kernel/drivers/net/ethernet/broadcom/genet/genet.ko.xz", True),
        ("/usr/lib/modules/7.3.4/kernel/drivers/gpu/drm/vc4/vc4.ko.xz", True),
        ("/usr/lib/modules/7.3.4/dtb/broadcom/bcm2711-rpi-cm4-io.dtb", True),
        ("/usr/lib/modules/7.3.4/dtb/broadcom/bcm2712-rpi-5-b.dtb", True),
        ("/usr/lib/modules/7.3.4/dtb/broadcom/northstar2/ns2-svk.dtb", False),
        ("/usr/lib/modules/7.3.4/dtb/qcom/sdm845-db845c.dtb", False),
        ("/usr/lib/firmware/brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.txt", True),
        ("/usr/lib/firmware/cypress/cyfmac43455-sdio.bin", True),
        ("/usr/lib/firmware/brcm/brcmfmac4373-sdio.bin", False),
        ("/usr/lib/udev/hwdb.d/20-usb-vendor-model.hwdb", True),
        ("/usr/lib/udev/hwdb.d/20-OUI.hwdb", False),
        ("/usr/lib/raspi-firmware/start.elf", True),
        ("/usr/lib/raspi-firmware/start4.elf", True),
        ("/usr/lib/raspi-firmware/fixup4.dat", True),
        ("/usr/lib/raspi-firmware/fixup.dat", True),
        ("/usr/lib/raspi-firmware/start_db.elf", False),
        ("/usr/lib/raspi-firmware/fixup4cd.dat", False),
        ("/usr/share/doc/bash/README", False),
        ("/usr/share/doc/bash/copyright", True),
        ("/usr/bin/bash", True),
    ],
)
def test_what_is_left_out_of_packages(path: str, expected: bool) -> None:
    assert kept(path) is expected


@pytest.mark.parametrize("architecture", get_args(recipe.Architecture))
def test_no_package_is_named_twice(architecture: recipe.Architecture) -> None:
    names = recipe.packages(architecture)
    assert len(names) == len(set(names))
    assert recipe.kernel(architecture).startswith(f"linux-image-{architecture}/")


def test_one_partition_takes_what_the_root_needs_and_the_last_one_grows() -> None:
    assert [one.label for one in recipe.PARTITIONS if not one.megabytes] == ["root"]
    assert recipe.PARTITIONS[-1] is recipe.DATA_PARTITION
    script = (HERE.parent / "rootfs/usr/sbin/jumpstarter-image-grow").read_text()
    assert f"/dev/disk/by-label/{recipe.DATA_PARTITION.label}" in script


def test_labels_are_those_that_the_card_mounts() -> None:
    table = (HERE.parent / "rootfs/etc/fstab").read_text()
    for partition in (recipe.ROOT_PARTITION, recipe.FIRMWARE_PARTITION):
        assert f"\nLABEL={partition.label} " in table
    script = (HERE.parent / "rootfs/etc/initramfs-tools/scripts/init-bottom/lasting").read_text()
    assert f"data=/dev/disk/by-label/{recipe.DATA_PARTITION.label}\n" in script
