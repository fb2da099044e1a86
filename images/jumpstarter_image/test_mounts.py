"""Lists of mounts as Linux writes them."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_image.mounts import is_read_only

# Inside a unit with ProtectSystem=strict: all is mounted read-only, and file systems are as they are.
SANDBOX = """\
36 1 254:2 / / ro,noatime - ext4 /dev/vda2 ro
37 36 254:3 / /data ro,noatime - ext4 /dev/vda3 rw,errors=remount-ro
38 36 0:25 / /var ro,relatime - overlay overlay rw,lowerdir=/root/var,upperdir=/root/data/overlay/var/upper
39 36 254:1 / /boot/firmware rw,noatime shared:9 - vfat /dev/vda1 rw,errors=remount-ro
40 36 8:1 / /mnt/a\\040stick rw - vfat /dev/sda1 ro
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", True),
        ("/usr/bin", True),
        ("/data", False),
        ("/data/overlay", False),
        ("/database", True),
        ("/var/lib", False),
        ("/boot/firmware", False),
        ("/mnt/a stick/file", True),
    ],
)
def test_the_file_system_counts_and_not_how_it_is_mounted(path: str, expected: bool) -> None:
    assert is_read_only(SANDBOX, PurePosixPath(path)) is expected


def test_what_is_mounted_on_top_counts() -> None:
    again = SANDBOX + "41 37 254:3 / /data ro - ext4 /dev/vda3 ro\n"
    assert is_read_only(again, PurePosixPath("/data/x"))


@given(st.text())
def test_a_list_that_is_not_understood_says_nothing(text: str) -> None:
    assert is_read_only(text, PurePosixPath("/data")) in (True, False)
    assert not is_read_only("", PurePosixPath("/data"))
