"""On a fresh Debian each package is installed, used, upgraded, removed and purged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from jumpstarter_deb import build, elf, roots
from jumpstarter_deb.guest import Guest
from jumpstarter_deb.recipe import ARCHITECTURES, EXCLUDED, PACKAGES
from jumpstarter_deb.trial import NEWER, OLDER, Packages

from tests.interop.exporters import free_port

pytestmark = pytest.mark.timeout(3600)
MAX_PACKAGES_BESIDE = 12
MAX_INSTALLED_MEGABYTES = 60
EXPORTER, CONTROLLER, CLIENT = PACKAGES

SERVE = """
systemd-tmpfiles --create jumpstarter-exporter.conf
install -d -o jumpstarter -g jumpstarter /var/lib/jumpstarter
cp /usr/share/doc/jumpstarter-exporter/examples/virtual.yaml /etc/jumpstarter/exporters/rpi4.yaml
runuser -u jumpstarter -- jumpstarter-exporter run --no-discovery >/tmp/log 2>&1 &
timeout 100 sh -c 'until [ -S /run/jumpstarter/exporter.sock ]; do sleep 0.1; done' || { cat /tmp/log; exit 1; }
"""
"""The daemon as its unit starts it, where no systemd runs. It ends with the command."""

CONTROL = """
data=/var/lib/jumpstarter-controller
ports="--listen 127.0.0.1:$port --router-listen 127.0.0.1:$router"
install -d -m 700 -o jumpstarter-controller -g jumpstarter-controller $data
runuser -u jumpstarter-controller -- jumpstarter-controller run --data $data --with-router $ports >/tmp/log 2>&1 &
pair="runuser -u jumpstarter-controller -- jumpstarter-controller admin pair host pi4 --data $data"
timeout 100 sh -c "until $pair; do sleep 0.5; done" || { cat /tmp/log; exit 1; }
"""


def test_exporter_brings_little_and_serves_a_board(guest: Guest, packages: Packages) -> None:
    before = guest.packages()
    guest.install(packages.file(EXPORTER))
    brought = {name: size for name, size in guest.packages().items() if name not in before}
    beside = sorted(brought.keys() - {EXPORTER})
    megabytes = sum(brought.values()) / 1024
    print(
        f"\nDebian {packages.release.number}: {len(beside)} packages beside it, {megabytes:.1f} MB: {beside}"
    )
    assert len(beside) <= MAX_PACKAGES_BESIDE
    assert megabytes <= MAX_INSTALLED_MEGABYTES
    assert guest.sh("jumpstarter-exporter --version").strip() == NEWER
    assert "jumpstarter-sbc 0.0.2, Python" in guest.sh("jumpstarter version")
    assert guest.sh("jumpstarter-exporter profiles test 1-1", check=False) == ""
    assert {"jumpstarter", "dialout", "video"} <= set(guest.sh("id -nG jumpstarter").split())
    shown = guest.sh(
        SERVE + "jumpstarter power on; jumpstarter power off; jumpstarter devices; kill %1 || true"
    )
    assert re.search(r"power +power +ready", shown)


def test_nothing_of_the_host_is_on_the_programs_path(guest: Guest, packages: Packages) -> None:
    guest.install(packages.file(EXPORTER))
    poison = "raise SystemExit('poison')"
    for place in (
        "usr/lib/python3/dist-packages",
        f"usr/local/lib/python{packages.release.python}/dist-packages",
    ):
        (guest.root / place).mkdir(parents=True, exist_ok=True)
        (guest.root / place / "trio.py").write_text(poison)
    (guest.root / "tmp/trio.py").write_text(poison)
    assert guest.sh("cd /tmp; PYTHONPATH=/tmp jumpstarter-exporter --version").strip() == NEWER


def test_drivers_of_a_lab_are_found_behind_ours(guest: Guest, packages: Packages) -> None:
    guest.install(packages.file(EXPORTER))
    lab = guest.root / "usr/local/lib/jumpstarter/jumpstarter_drivers/thermometer"
    lab.mkdir(parents=True)
    label = "jumpstarter_drivers.thermometer.client.Client"
    (lab / "__init__.py").write_text(
        f'INTERFACE = "thermometer"\nDRIVERS = {{}}\nCLIENTS = {{"{label}": "Client"}}\n'
    )
    (lab / "client.py").write_text("from jumpstarter_client.base import DriverClient as Client\n")
    (lab.parent.parent / "trio.py").write_text("raise SystemExit('theirs counts first')")
    assert "thermometer" in guest.sh("jumpstarter --help")


def test_modules_are_compiled_already(guest: Guest, packages: Packages) -> None:
    guest.install(packages.file(EXPORTER), packages.file(CONTROLLER))
    lib = "/usr/lib/jumpstarter"
    files = guest.sh(f"find {lib} -name '*.py' | wc -l")
    compiled = guest.sh(f"find {lib} -name '*.pyc' | wc -l")
    assert files == compiled
    before = guest.sh(f"find {lib} | sort | md5sum")
    shown = guest.sh(f"{packages.release.interpreter} -ISv /usr/bin/jumpstarter-exporter --version 2>&1")
    assert f"{lib}/exporter/lib/cyclopts/__init__.py" in shown
    assert f"code object from {lib}" not in shown, "it was compiled now"
    assert guest.sh(f"find {lib} | sort | md5sum") == before


def test_exporter_is_upgraded_removed_and_purged(guest: Guest, packages: Packages) -> None:
    older, newer = packages.file(EXPORTER, OLDER), packages.file(EXPORTER)
    guest.install(older)
    default, own = (
        guest.root / "etc/default/jumpstarter-exporter",
        guest.root / "etc/jumpstarter/exporters/rpi4.yaml",
    )
    default.write_text(default.read_text() + "GPIOZERO_PIN_FACTORY=mock\n")
    own.write_text("# mine\n")
    state = guest.root / "var/lib/jumpstarter"
    state.mkdir(exist_ok=True)
    (state / "identity").write_text("me\n")

    guest.install(newer)
    assert guest.sh("jumpstarter-exporter --version").strip() == NEWER
    assert default.read_text().endswith("GPIOZERO_PIN_FACTORY=mock\n")
    refused = guest.install(older, check=False)
    assert refused.returncode != 0
    assert f"{EXPORTER} {OLDER}+deb" in refused.stdout
    assert f"apt purge {EXPORTER}" in refused.stdout
    assert guest.sh("jumpstarter-exporter --version").strip() == NEWER
    # As `jumpstarter-image update` does with a version that did not become ready.
    guest.sh(f"JUMPSTARTER_TAKE_BACK=1 dpkg --install /tmp/{older.name}")
    assert guest.sh("jumpstarter-exporter --version").strip() == OLDER
    guest.install(newer)

    guest.run("apt-get", "remove", "-y", "-qq", EXPORTER)
    assert not (guest.root / "usr/bin/jumpstarter-exporter").exists()
    assert not (guest.root / "usr/bin/jumpstarter").is_symlink()
    assert not (guest.root / "usr/lib/jumpstarter").exists()
    assert default.exists()
    assert (state / "identity").exists()

    assert guest.install(older, check=False).returncode != 0, "a downgrade by way of remove"
    guest.install(newer)
    assert default.read_text().endswith("GPIOZERO_PIN_FACTORY=mock\n")

    guest.run("apt-get", "purge", "-y", "-qq", EXPORTER)
    assert not default.exists()
    assert not state.exists()
    assert own.read_text() == "# mine\n"
    own.unlink()
    guest.install(older)
    guest.run("apt-get", "purge", "-y", "-qq", EXPORTER)
    assert not (guest.root / "etc/jumpstarter").exists()


def test_controller_is_installed_used_upgraded_and_purged(guest: Guest, packages: Packages) -> None:
    guest.install(packages.file(CONTROLLER, OLDER))
    guest.install(packages.file(CONTROLLER))
    assert guest.sh("jumpstarter-controller --version; jumpstarter-router --version").split() == [
        NEWER,
        NEWER,
    ]
    refused = guest.install(packages.file(CONTROLLER, OLDER), check=False)
    assert "may have changed /var/lib/jumpstarter-controller" in refused.stdout
    said = guest.sh(f"port={free_port()} router={free_port()}\n{CONTROL}")
    assert "jumpstarter-exporter enrol" in said
    guest.run("apt-get", "purge", "-y", "-qq", CONTROLLER)
    for name in ("controller", "router"):
        assert not (guest.root / f"var/lib/jumpstarter-{name}").exists()
        assert not (guest.root / f"etc/default/jumpstarter-{name}").exists()


def test_all_three_are_on_one_host_and_the_exporters_client_counts(guest: Guest, packages: Packages) -> None:
    guest.install(packages.file(CLIENT))
    assert (
        guest.sh("readlink -f /usr/bin/jumpstarter").strip() == "/usr/lib/jumpstarter/client/bin/jumpstarter"
    )
    assert f"jumpstarter-sbc {NEWER}" in guest.sh("jumpstarter version")
    assert (guest.root / "usr/share/bash-completion/completions/jumpstarter").is_symlink()
    guest.install(packages.file(EXPORTER), packages.file(CONTROLLER))
    assert guest.sh("readlink -f /usr/bin/j").strip() == "/usr/lib/jumpstarter/exporter/bin/j"
    guest.run("apt-get", "purge", "-y", "-qq", EXPORTER)
    assert f"jumpstarter-sbc {NEWER}" in guest.sh("jumpstarter version")
    guest.run("apt-get", "purge", "-y", "-qq", CLIENT)
    assert not (guest.root / "usr/bin/jumpstarter").is_symlink()


def test_what_is_left_out_is_never_loaded(guest: Guest, packages: Packages) -> None:
    """Help of everything, and what goes wrong: nobody asks for a library that the packages leave out."""
    guest.install(packages.file(EXPORTER), packages.file(CONTROLLER))
    modules = {name.replace("-", "_") for name in EXCLUDED} | {"markdown_it", "pkg_resources"}
    folders = "/usr/lib/jumpstarter/exporter/lib /usr/lib/jumpstarter/controller/lib"
    assert guest.sh(f"ls {folders} | grep -xE '({'|'.join(sorted(modules))})(\\.py)?' || true") == ""
    for command in (
        *(
            "jumpstarter power --help",
            "jumpstarter power cycle --help",
            "jumpstarter nonsense",
            "jumpstarter power on -x",
        ),
        *(
            "jumpstarter-exporter run --nonsense",
            "jumpstarter-exporter run --help",
            "jumpstarter-exporter check /nowhere",
        ),
        *("jumpstarter-controller admin --help", "jumpstarter-controller admin pair host --nonsense"),
        *("jumpstarter-router --help", "jumpstarter-router --nonsense", "jumpstarter test /nowhere"),
    ):
        done = guest.run("sh", "-c", command, check=False)
        assert "Traceback" not in done.stdout + done.stderr, command
        assert "No module" not in done.stdout + done.stderr, command


@pytest.mark.parametrize("name", PACKAGES)
def test_lintian_finds_no_error(packages: Packages, name: str, tmp_path: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("missing: lintian; apt install lintian")
    for architecture in ARCHITECTURES:
        done = subprocess.run(
            ["lintian", "--allow-root", "--fail-on", "error", packages.file(name, architecture=architecture)],
            env=os.environ | {"TMPDIR": str(tmp_path)},  # it leaves files there
            capture_output=True,
            text=True,
            check=False,
        )
        assert [line for line in done.stdout.splitlines() if line.startswith("E:")] == []
        assert done.returncode == 0, done.stdout + done.stderr


def test_extension_modules_are_for_the_packages_machine(packages: Packages, tmp_path: Path) -> None:
    for architecture in ARCHITECTURES.values():
        for name in PACKAGES:
            folder = tmp_path / architecture.name / name
            folder.mkdir(parents=True)
            subprocess.run(
                ["dpkg-deb", "-x", packages.file(name, architecture=architecture.name), folder], check=True
            )
            modules = elf.shared_objects(folder)
            assert {elf.read(path).machine for path in modules} == {architecture.elf_machine}
            tags = {part for path in modules for part in re.findall(r"cpython-(\d+)-", path.name)}
            assert tags == {packages.release.tag.removeprefix("cp")}


def test_the_package_for_another_machine_runs_in_an_emulator(packages: Packages, tmp_path: Path) -> None:
    other = next(item for item in ARCHITECTURES.values() if item.name != roots.native_architecture())
    emulator = shutil.which(f"qemu-{other.machine}-static")
    if emulator is None:
        pytest.skip(f"missing: qemu-{other.machine}-static; apt install qemu-user-static")
    python = f"python{packages.release.python}"
    needed = ["base-files", python]
    root = roots.unpacked(packages.release, needed, tmp_path / "root", "extract", other.name)
    subprocess.run(["dpkg-deb", "-x", packages.file(EXPORTER, architecture=other.name), root], check=True)
    shutil.copy(emulator, root / "emulator")
    run = ["/emulator", f"/usr/bin/{python}", "-IS"]
    assert roots.enter(root, [*run, "/usr/bin/jumpstarter-exporter", "--version"]).strip() == NEWER
    lib = root / "usr/lib/jumpstarter/exporter/lib"
    modules = [
        str(path.relative_to(lib)).partition(".")[0].replace("/", ".") for path in elf.shared_objects(lib)
    ]
    load = f"import sys, importlib; sys.path.insert(0, {f'/{lib.relative_to(root)}'!r})\n"
    load += f"for name in {modules}: importlib.import_module(name); print(name)"
    assert roots.enter(root, [*run, "-c", load]).split() == modules


def test_two_builds_give_the_same_bytes(packages: Packages, tmp_path: Path) -> None:
    build.texts.cache_clear()
    packages.build(NEWER, EXPORTER, CLIENT, foreign=True, output=tmp_path)
    for name in (EXPORTER, CLIENT):
        for architecture in ARCHITECTURES:
            first = packages.file(name, architecture=architecture)
            assert first.read_bytes() == (tmp_path / first.name).read_bytes(), first.name
