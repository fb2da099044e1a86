"""Packages of a host of the image in a folder: small programs in the place of dpkg, apt, mount and systemctl.

A package is a file whose first line is what `dpkg-deb` says of it; the lines after that say what goes wrong with it:
`broken` (its service does not become ready), `fails` (its scripts do), `cut` (the power fails while it is unpacked),
`shutdown` (the host is shut down meanwhile).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jumpstarter_image.host_system import HostSystem

from tests.support.image_host import LIMIT, ImageHost

__all__ = ["EXPORTER_PACKAGE", "ImagePackages"]

EXPORTER_PACKAGE = "jumpstarter-exporter"
_NEWER = '[ "$1" != "$2" ] && [ "$(printf "%s\\n%s\\n" "$1" "$2" | sort -V | tail -n 1)" = "$1" ]'
PROGRAMS = {
    "dpkg-deb": 'for file; do :; done; head -n 1 "$file" | grep -q "\t" || exit 2; head -n 1 "$file"',
    "dpkg-query": """
for name; do :; done
[ -e "installed/$name" ] || exit 1
printf "installed\t"; cat "installed/$name"
""",
    "dpkg": f"""
newer() {{ {_NEWER}; }}
if [ "$1" = --compare-versions ]; then newer "$2" "$4"; exit; fi
if [ -e locked ]; then
    count=$(cat locked); if [ "$count" = 1 ]; then rm locked; else echo $((count - 1)) > locked; fi
    echo "dpkg: error: dpkg frontend lock was locked by another process with pid 1" >&2; exit 2
fi
if echo "$@" | grep -q -- --configure && [ -e unconfigurable ]; then
    echo "dpkg: error processing package $(cat unconfigurable)" >&2; exit 1
fi
echo "$@" | grep -q -- --install || exit 0
grep -q rw root-mode || {{ echo "dpkg: error: the file system is read-only" >&2; exit 2; }}
for file; do
    case $file in *.deb) ;; *) continue ;; esac
    name=$(head -n 1 "$file" | cut -f1); version=$(head -n 1 "$file" | cut -f2)
    if newer "$(cat "installed/$name" 2>/dev/null)" "$version" && [ -z "$JUMPSTARTER_TAKE_BACK" ]; then
        echo "dpkg: error processing package $name: it is older" >&2; exit 1
    fi
    if grep -q cut "$file"; then sed -i /cut/d "$file"; echo 0half > installed/$name; kill -KILL $PPID; exit 1; fi
    if grep -q shutdown "$file"; then sed -i /shutdown/d "$file"; kill -TERM $PPID; sleep 0.1; fi
    echo "$version" > "installed/$name"
    touch udevd-has-table-before
    if grep -q fails "$file"; then echo "dpkg: error processing package $name" >&2; exit 1; fi
    if grep -q broken "$file"; then state=activating; else state=active; fi
    if ! grep -q idle "$file"; then
        printf "ActiveState=%s\nResult=exit-code\nExecMainStatus=7\nInvocationID=%s\n" \
            $state "$version" > unit-$name.service
    fi
done""",
    "apt-get": """
for word; do
    case $word in
    *.deb) printf "Inst %s (%s local-deb [amd64])\n" "$(head -n 1 "$word" | cut -f1)" "$(head -n 1 "$word" | cut -f2)" |
        while read -r _ name rest; do
            old=$(cat "installed/$name" 2>/dev/null); echo "Inst $name ${old:+[$old] }$rest"
        done ;;
    Dir::Cache::archives=*) archives=${word#*=} ;;
    --download-only) cp archive/*.deb "$archives" ;;
    --no-download) [ -n "$archives" ] && exec dpkg --install archive/*.deb ;;
    esac
done
if [ "$word" = upgrade ]; then cat upgradable; else cat also 2>/dev/null; fi; exit 0""",
    "mount": """
if [ -e card-is-broken ] && [ $2 != remount,ro ]; then
    printf "mount: /: cannot remount read-write, is write-protected.\n  dmesg(1) may have more.\n" >&2; exit 32
fi
case $2 in
remount,ro)
    if [ -e is-busy ] || [ -e udevd-has-table-before ]; then echo "mount: / is busy" >&2; exit 32; fi
    echo ro > root-mode ;;
remount,rw) echo rw > root-mode ;;
esac""",
    "udevadm": 'if [ "$*" = "control --reload" ]; then rm -f udevd-has-table-before; fi',
    "systemctl": """
case $* in "--no-block start jumpstarter-image-seal.service") [ ! -e no-seal ] || exit 1; exec sh ./seal ;; esac
case $1 in
show) cat "unit-$2" 2>/dev/null || echo ActiveState=inactive ;;
restart) sed -i s/^InvocationID=.*/InvocationID=again/ "unit-$2" ;;
start) sh ./start ;;
esac""",
    "jumpstarter-exporter": """
case $1 in
boards) cat boards ;;
drain | resume)
    [ ! -e no-drain ] || { echo "jumpstarter-exporter: it does not answer" >&2; exit 1; }
    echo "$1 $2" >> drained ;;
esac""",
}
START = """
import sys
from jumpstarter_image import cli, system_packages as system
system.READY_SECONDS, system.SETTLE_SECONDS, system.POLL_SECONDS = 0.5, 0.0, 0.01
cli.main(["update", "--continue", "--root", sys.argv[1]])
"""
SEAL = """
import sys
from jumpstarter_image import cli, system_packages as system
system.BUSY_SECONDS, system.POLL_SECONDS = 0.2, 0.01
cli.main(["update", "--seal", "--root", sys.argv[1]])
"""


class ImagePackages(ImageHost):
    """A host with one version of the exporter, whose file is kept where the image has it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._given = home / "given"
        self._given.mkdir()
        for folder in ("installed", "archive"):
            (self._facts / folder).mkdir()
        for name, script in PROGRAMS.items():
            self.program(name, f'cd {self._facts}\necho "{name} $*" >> called\n{script}')
        self.fact("root-mode", "ro")
        self.fact("upgradable", "")
        self.fact("drained", "")
        self.boards()
        self.boot_again("1")
        _, kept = self.host.package_folders
        kept.mkdir(parents=True)
        first = self.deb("1")
        first.rename(kept / first.name)
        self.install("1")
        for name, program in (("start", START), ("seal", SEAL)):
            (self._facts / name).write_text(
                f"exec {sys.executable} -c '{program}' {self.root} > {self._facts}/{name}-log 2>&1\n"
            )

    def deb(self, version: str, *what: str, name: str = EXPORTER_PACKAGE, size: int = 100) -> Path:
        """A package's file; `what` is wrong with it."""
        path = self._given / f"{name}_{version}_amd64.deb"
        path.write_text("\n".join([f"{name}\t{version}\tamd64\t{size}", *what]) + "\n")
        return path

    def install(self, version: str, name: str = EXPORTER_PACKAGE) -> None:
        """Make it the installed version, whose service is ready."""
        self.fact(f"installed/{name}", version)
        self.fact(f"unit-{name}.service", f"ActiveState=active\nInvocationID={version}")

    def run_unit(self) -> None:
        """What systemd runs, to its end."""
        subprocess.run(
            ["sh", str(self._facts / "start")],
            env=self.environment,
            cwd=self._facts,
            check=False,
            timeout=LIMIT,
        )

    def boot_again(self, boot: str) -> None:
        """The kernel's id of the boot; the root is read-only after each."""
        path = self.root / "proc/sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{boot}\n")
        self.fact("root-mode", "ro")

    def mounted(self, *mounts: str) -> None:
        """Have file systems there, each as `TARGET ro` or `TARGET rw`."""
        path = self.root / "proc/self/mountinfo"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            f"{number} 1 179:{number} / {target} rw,relatime - ext4 /dev/mmcblk0p{number} {mode}\n"
            for number, (target, mode) in enumerate((mount.split() for mount in mounts), 2)
        )
        path.write_text("".join(lines))

    def boards(self, **uses: str) -> None:
        """What the exporter says of boards that a controller leases."""
        boards = [{"name": name, "exporter": "one", "use": use or None} for name, use in uses.items()]
        self.fact("boards", json.dumps({"boards": boards}))

    def says(self, name: str) -> str:
        """A fact as it is now."""
        path = self._facts / name
        return path.read_text().strip() if path.exists() else ""

    @property
    def facts(self) -> Path:
        """The folder in which the programs keep what they know."""
        return self._facts

    @property
    def installed(self) -> str:
        """The exporter's version."""
        return self.says(f"installed/{EXPORTER_PACKAGE}")

    @property
    def kept(self) -> list[str]:
        """Names of the files that are kept on the data partition."""
        folder, _ = HostSystem(self.root).package_folders
        return sorted(path.name for path in folder.glob("*")) if folder.exists() else []

    def commands(self, program: str) -> list[str]:
        """How it was called so far."""
        return [line for line in self.says("called").splitlines() if line.startswith(f"{program} ")]
