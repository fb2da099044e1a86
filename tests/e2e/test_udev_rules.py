"""The rules that come with the exporter, as udev itself reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "udev" / "jumpstarter_udev").glob("*.rules"))


def verify(udevadm: list[str], *rules: Path) -> subprocess.CompletedProcess[str]:
    command = [*udevadm, "verify", "--resolve-names=never", *map(str, rules)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_udev_takes_the_rules(udevadm: list[str]) -> None:
    done = verify(udevadm, *RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert RULES


def test_udev_would_say_what_is_wrong_with_one(udevadm: list[str], tmp_path: Path) -> None:
    wrong = tmp_path / "60-wrong.rules"
    wrong.write_text(RULES[0].read_text() + '\nSUBSYSTEM=="tty", SYMLNK+="wrong"\n')
    done = verify(udevadm, wrong)
    assert done.returncode == 1
    assert "SYMLNK" in done.stdout + done.stderr
