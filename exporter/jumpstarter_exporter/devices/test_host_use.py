"""What a host uses, from texts as kernels print them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jumpstarter_proto.mounts import PlannedMount

from jumpstarter_exporter.devices.host_use import parse_host_use, read_host_use
from jumpstarter_exporter.devices.udev_database import UdevError

MOUNTINFO = r"""
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
60 28 179:2 /var/lib/containers /var/lib/containers rw,noatime - ext4 /dev/mmcblk0p2 rw
61 28 179:1 / /boot/firmware rw,relatime shared:31 - vfat /dev/mmcblk0p1 rw
62 28 0:44 /@data /srv rw,relatime - btrfs /dev/sda3 rw,subvol=/@data
63 28 8:17 / /media/my\040card rw - ext4 /dev/sdb1 rw
65 28 8:33 / /mnt/my\040disk rw - ext4 /dev/sdc1 rw
64 28 0:45 / /mnt/nas rw,relatime - nfs4 nas:/export rw
broken
"""
SWAPS = (
    "Filename\t\tType\t\tSize\tUsed\tPriority\n/dev/zram0\tpartition\t1\t0\t100\n/var/swap\tfile\t1\t0\t-2\n"
)
ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
usb0\t0007A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0000000A\t0105A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
"""
ZERO = "0" * 32
ROUTE6 = f"""fe80{ZERO[4:]} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     usb0
{ZERO} 00 {ZERO} 00 fe80{ZERO[6:]}01 00000400 00000001 00000000 00000003    wlan0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""
FSTAB = """# <file system> <mount point> <type> <options>
PARTUUID=4c4e106f-02  /               ext4    defaults,noatime  0  1
#UUID=old /old ext4 defaults 0 0
LABEL=data /srv/my\\040data ext4 noauto 0 0
UUID=f00 none swap sw 0 0
"""


def test_mounts_swap_routes_and_fstab_are_read() -> None:
    use = parse_host_use(MOUNTINFO, SWAPS, ROUTE, ROUTE6, FSTAB)
    assert use.mounts == {
        "179:2": "/",
        "/dev/mmcblk0p2": "/",
        "179:1": "/boot/firmware",
        "/dev/mmcblk0p1": "/boot/firmware",
        "/dev/sda3": "/srv",
        "8:33": "/mnt/my disk",
        "/dev/sdc1": "/mnt/my disk",
    }
    assert use.swaps == {"/dev/zram0", "/var/swap"}
    assert use.routes == {"eth0", "eth1", "wlan0"}
    assert use.planned == (
        PlannedMount("PARTUUID=4c4e106f-02", "/"),
        PlannedMount("LABEL=data", "/srv/my data"),
    )


@pytest.mark.parametrize("folder", ["/media/pi/BOOT", "/run/media/pi/BOOT"])
def test_what_a_desktop_mounts_is_none_of_the_hosts_unless_fstab_names_it(folder: str) -> None:
    mounted = f"63 28 8:17 / {folder} rw - vfat /dev/sdb1 rw\n"
    assert parse_host_use(mounted, "", "", "", "").mounts == {}
    assert parse_host_use(mounted, "", "", "", f"LABEL=x {folder} vfat defaults 0 0").mounts["8:17"] == folder
    both = mounted + "64 28 8:17 / /srv/boot rw - vfat /dev/sdb1 rw\n"
    assert parse_host_use(both, "", "", "", "").mounts["8:17"] == "/srv/boot"


def test_what_disks_and_interfaces_are_made_of_is_read_from_sysfs(tmp_path: Path) -> None:
    for path in "self", "net":
        (tmp_path / "proc" / path).mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(MOUNTINFO)
    (tmp_path / "proc" / "net" / "route").write_text(ROUTE)
    for path in (
        "block/dm-0/slaves/sda2",
        "block/sda2/slaves",
        "net/br0/lower_eth0",
        "net/br0/queues",
        "net/eth0/upper_br0",
    ):
        (tmp_path / "sys" / "class" / path).mkdir(parents=True)
    use = read_host_use(tmp_path)
    assert use.made_of == {"dm-0": ("sda2",), "br0": ("eth0",)}
    assert use.mounts["179:2"] == "/"
    assert use.routes == {"eth0", "eth1"}


def test_a_host_whose_mounts_nobody_knows_offers_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        UdevError, match=r"cannot find out what this host has mounted: .*mountinfo: No such file"
    ):
        read_host_use(tmp_path)


def test_this_host_can_be_read() -> None:
    device = Path("/").stat().st_dev
    # By its number, as the root of a chroot is no mount; a file system of no device, as overlay is, has major 0.
    assert f"{os.major(device)}:{os.minor(device)}" in read_host_use().mounts or os.major(device) == 0
