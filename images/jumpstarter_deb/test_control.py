"""What dpkg is told, and the scripts that it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jumpstarter_deb import control
from jumpstarter_deb.recipe import ARCHITECTURES, PACKAGES, RELEASES, Package

CHECKOUT = Path(__file__).parents[2]
packages = pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)


def test_the_fields_of_the_exporter() -> None:
    told = control.fields(
        PACKAGES["jumpstarter-exporter"],
        "1.0+deb13",
        RELEASES[13],
        ARCHITECTURES["arm64"],
        system=["libc6 (>= 2.34)"],
        size=7,
    )
    assert told["Architecture"] == "arm64"
    assert told["Installed-Size"] == "7"
    assert told["Depends"].startswith("python3.13, libc6 (>= 2.34), libusb-1.0-0, ")
    assert "Recommends" not in told
    lines = told["Description"].splitlines()
    assert len(lines[0]) < 80
    assert all(line == " ." or (line.startswith(" ") and len(line) <= 80) for line in lines[1:])


@packages
def test_scripts_are_complete_and_the_shell_reads_them(package: Package, tmp_path: Path) -> None:
    found = control.scripts(package, "1.0+deb13")
    assert {"postinst", "prerm"} <= found.keys()
    for name, text in found.items():
        assert re.search(r"@[A-Z]+@|# include", text) is None
        (tmp_path / name).write_text(text)
        subprocess.run(["sh", "-n", tmp_path / name], check=True)


@packages
def test_units_that_are_shipped_are_enabled_and_purged(package: Package) -> None:
    found = control.scripts(package, "1.0+deb13")
    for place, _target in package.files:
        unit = Path(place).name
        if unit.endswith((".service", ".socket")) and "@" not in unit:
            assert f"enable_unit {unit}" in found["postinst"]
            assert re.search(rf"deb-systemd-helper purge .*\b{unit}", found["postrm"])
            assert re.search(rf"deb-systemd-invoke stop .*\b{unit}", found["prerm"])


@pytest.mark.parametrize("name", ["jumpstarter-exporter", "jumpstarter-controller"])
@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("upgrade 1.1+deb13", True),
        ("install 1.0+deb14", True),
        ("upgrade 1.0+deb13", False),
        ("install", False),
    ],
)
def test_a_downgrade_is_refused_with_what_to_do(name: str, words: str, refused: bool) -> None:
    text = control.scripts(PACKAGES[name], "1.0+deb13")["preinst"]
    done = subprocess.run(
        ["sh", "-s", "--", *words.split()], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 1) is refused
    if refused:
        assert f"{name} 1.0+deb13 is older than" in done.stderr
        assert f"apt purge {name}" in done.stderr


def test_what_is_below_etc_is_left_alone_by_upgrades(tmp_path: Path) -> None:
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/lab").write_text("one\n")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/two").write_bytes(b"x" * 1025)
    size = control.installed_size(tmp_path)
    control.write(tmp_path, {"Package": "lab"}, {"preinst": "#!/bin/sh\n"})
    assert size == 1 + 2 + 3
    assert (tmp_path / "DEBIAN/conffiles").read_text() == "/etc/default/lab\n"
    sums = (tmp_path / "DEBIAN/md5sums").read_text().splitlines()
    assert [line.split()[1] for line in sums] == ["etc/default/lab", "usr/two"]


@packages
def test_the_files_of_the_recipe_are_in_the_tree(package: Package) -> None:
    assert [pattern for pattern, _place in package.files if not list(CHECKOUT.glob(pattern))] == []


@pytest.mark.parametrize("package", ["exporter", "controller"])
def test_a_purge_removes_the_state_and_does_not_fail_where_a_disk_is_mounted(
    package: str, tmp_path: Path
) -> None:
    """The script itself, with other folders, and without systemd's programs."""
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode:
        pytest.skip("missing: user namespaces")
    programs, state = tmp_path / "bin", tmp_path / "lib"
    for folder in (programs, state):
        folder.mkdir()
    for name in ("rm", "rmdir"):
        (programs / name).symlink_to(str(shutil.which(name)))
    text = control.scripts(PACKAGES[f"jumpstarter-{package}"], "1")["postrm"]
    script = tmp_path / "postrm"
    script.write_text(text.replace("/var/lib/", f"{state}/").replace("/etc/", f"{tmp_path}/etc/"))
    folder = state / {"exporter": "jumpstarter", "controller": "jumpstarter-controller"}[package]
    for mount in ("true", f"mount -t tmpfs tmpfs {folder}"):
        folder.mkdir()
        line = f"{mount}; echo x > {folder}/x; PATH={programs} /bin/sh {script} purge; code=$?; ls {folder}; exit $code"
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", line],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "")
        said = f"jumpstarter-{package}: {folder} could not be removed; if a disk is mounted there, unmount it"
        assert (said in done.stderr) == (mount != "true")
        assert folder.exists() == (mount != "true")
