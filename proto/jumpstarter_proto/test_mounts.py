"""Lists of mounts as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.mounts import (
    MOUNTINFO,
    Mount,
    PlannedMount,
    mount_of,
    parse_fstab,
    parse_mountinfo,
)

# Inside a unit with ProtectSystem=strict: all is mounted read-only, and file systems are as they are.
SANDBOX = """\
36 1 254:2 / / ro,noatime - ext4 /dev/vda2 ro
37 36 254:3 / /data ro,noatime - ext4 /dev/vda3 rw,errors=remount-ro
38 36 0:25 / /var ro,relatime - overlay overlay rw,lowerdir=/root/var,upperdir=/root/data/overlay/var/upper
39 36 254:1 / /boot/firmware rw,noatime shared:9 - vfat /dev/vda1 rw,errors=remount-ro
40 36 8:1 / /mnt/a\\040stick rw - vfat /dev/sda1 ro
41 36 8:17 / /media/My\u00a0Stick\u2028\x85\r rw - vfat /dev/sdb1 rw
42 36 0:51 / /srv rw - tmpfs  rw
"""


@pytest.mark.parametrize(
    ("path", "source", "is_read_only"),
    [
        ("/", "/dev/vda2", True),
        ("/usr/bin", "/dev/vda2", True),
        ("/data", "/dev/vda3", False),
        ("/data/overlay", "/dev/vda3", False),
        ("/database", "/dev/vda2", True),
        ("/var/lib", "overlay", False),
        ("/boot/firmware", "/dev/vda1", False),
        ("/mnt/a stick/file", "/dev/sda1", True),
        ("/media/My\u00a0Stick\u2028\x85\r/file", "/dev/sdb1", False),
        ("/srv/x", "", False),
    ],
)
def test_the_file_system_counts_and_not_how_it_is_mounted(path: str, source: str, is_read_only: bool) -> None:
    found = mount_of(parse_mountinfo(SANDBOX), path)
    assert found is not None
    assert (found.source, found.is_read_only) == (source, is_read_only)


def test_what_is_mounted_on_top_counts() -> None:
    again = SANDBOX + "43 37 254:3 / /data ro - ext4 /dev/vda3 ro\n"
    assert mount_of(parse_mountinfo(again), "/data/x") == Mount("/data", "254:3", "/dev/vda3", True)


def test_what_this_computer_says_is_understood() -> None:
    text = (Path("/") / MOUNTINFO).read_bytes().decode(errors="surrogateescape")
    mounts = list(parse_mountinfo(text))
    assert len(mounts) == text.count("\n")
    assert mount_of(mounts, "/proc/self") == next(one for one in reversed(mounts) if one.target == "/proc")


@given(st.text())
def test_a_list_that_is_not_understood_says_nothing(text: str) -> None:
    assert mount_of(parse_mountinfo(text), "/data") is None
    assert all(one.target.startswith("/") for one in parse_fstab(text))


@given(st.text(st.characters(exclude_characters="\0")), st.text(st.characters(exclude_characters="\0")))
def test_every_name_comes_back(source: str, name: str) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{ord(one):03o}" if one in " \t\n\\" else one for one in text)

    line = f"40 36 8:1 / /{escaped(name)} rw - vfat {escaped(source)} rw"
    assert list(parse_mountinfo(line)) == [Mount(f"/{name}", "8:1", source, False)]


def test_a_table_of_file_systems() -> None:
    text = (
        "# /dev/sda1 /old ext4 ro 0 0\n\n"
        "LABEL=root\t/  ext4 ro,noatime 0 0\r\n"
        "  LABEL=data /srv/my\\040data ext4 defaults 0 0\n"
        "UUID=1 none swap sw 0 0\n"
        "server:/x /mnt\n"
    )
    assert list(parse_fstab(text)) == [
        PlannedMount("LABEL=root", "/", True),
        PlannedMount("LABEL=data", "/srv/my data"),
        PlannedMount("server:/x", "/mnt"),
    ]
