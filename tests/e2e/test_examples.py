"""The examples in docs/, as they are, on the virtual board."""

from __future__ import annotations

import subprocess
import sys

from jumpstarter_drivers.virtual.image import make_image

from tests.e2e.conftest import Lab
from tests.support.peers import ROOT

EXAMPLES = ROOT / "docs" / "examples"
UIMAGE_MAGIC = bytes.fromhex("27051956")


def test_the_same_boot_test_passes_in_yaml_and_in_pytest(lab: Lab) -> None:
    make_image(lab.home / "hello.img", "hello", "2.0", 4 << 20)
    assert "1 passed" in lab.ok("test", str(EXAMPLES / "boot.yaml"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            lab.home,
            EXAMPLES / "test_boot.py",
        ],
        cwd=lab.home,
        env=lab.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_when_it_fails_both_show_the_console(lab: Lab) -> None:
    # Somebody's board boots from it, so that it is written; this board asks for a boot sector.
    (lab.home / "hello.img").write_bytes(UIMAGE_MAGIC.ljust(4096, b"\0"))
    for name in ("boot.yaml", "test_boot.py"):
        # Nobody has to wait for a minute for what does not come.
        text = (
            (EXAMPLES / name)
            .read_text()
            .replace("timeout: 60s", "timeout: 2s")
            .replace("timeout=60", "timeout=2")
        )
        (lab.home / name).write_text(text)
    done = lab.run("test", "boot.yaml")
    assert done.returncode == 1
    assert "No bootable image" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", lab.home, "test_boot.py"],
        cwd=lab.home,
        env=lab.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "console rpi4.serial" in done.stdout
    assert "No bootable image" in done.stdout
