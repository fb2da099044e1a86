"""A host of the image in a folder: its partitions, and small programs in the place of systemd's and the kernel's.

The programs are real ones, found on the PATH: they do what the host's would say, and write down how they were called.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jumpstarter_image.host_system import HostSystem
from jumpstarter_proto.yaml_files import load_text

__all__ = ["ImageHost"]

LIMIT = 60.0
PROGRAMS = {
    # Says or sets the name.
    "hostname": '[ $# = 0 ] || echo "$1" > name; cat name',
    "timedatectl": "cat clock",
    # No time server answers while it waits.
    "chronyc": "false",
    "ip": "cat addresses",
    "journalctl": 'for unit; do :; done; cat "journal-$unit" 2>/dev/null || true',
    "systemctl": "true",
    "networkctl": "true",
    "setpriv": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
}
WIRED = '{"ifname": "eth0", "link_type": "ether", "flags": ["LOWER_UP"], "addr_info": [%s]}'
ADDRESS = '{"local": "192.168.1.20", "scope": "global"}, {"local": "fe80::1", "scope": "link"}'


class ImageHost:
    """Everything in `home`."""

    def __init__(self, home: Path) -> None:
        self.root = home / "root"
        self.host = HostSystem(self.root)
        self.programs = home / "programs"
        self._facts = home / "facts"
        for folder in (self.programs, self._facts, self.host.site_file.parent, self.host.state_folder.parent):
            folder.mkdir(parents=True)
        self.host.exporter_socket.parent.mkdir(parents=True)
        self.host.exporter_socket.touch()
        (self.root / "etc").mkdir()
        (self.root / "etc/machine-id").write_text("1a2b3c4d\n")
        (self.root / "sys/class/net/wlan0/wireless").mkdir(parents=True)
        for name, script in PROGRAMS.items():
            self.program(name, f'cd {self._facts}\necho "{name} $*" >> called\n{script}')
        self.fact("name", "as-built")
        self.fact("clock", "yes")
        self.fact("addresses", f"[{WIRED % ADDRESS}]")
        self.fact("called", "")

    def program(self, name: str, script: str) -> None:
        """One on the PATH."""
        file = self.programs / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def fact(self, name: str, text: str) -> None:
        """What the programs say: `name`, `clock`, `addresses`, `journal-UNIT`."""
        (self._facts / name).write_text(f"{text}\n")

    def called(self) -> list[str]:
        """How programs that change something were called since this was asked last."""
        lines = (self._facts / "called").read_text().splitlines()
        self.fact("called", "")
        changing = ("hostname ", "systemctl ", "networkctl ")
        return [line for line in lines if line.startswith(changing) and line != "hostname "]

    def asked(self) -> list[str]:
        """How programs were called, whatever they do, since `called` was asked last."""
        return (self._facts / "called").read_text().split("\n")[1:-1]

    @property
    def environment(self) -> dict[str, str]:
        """With the programs before those of this tree, and those before the machine's."""
        path = f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"PATH": path}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`jumpstarter-image`, as a unit runs it."""
        return subprocess.run(
            [sys.executable, "-m", "jumpstarter_image", *words, "--root", str(self.root)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def boot(self) -> subprocess.CompletedProcess[str]:
        """Without what was in /run, as after a power cut."""
        for path in sorted((self.root / "run").glob("*/**/*"), reverse=True):
            if path == self.host.exporter_socket:
                continue
            path.rmdir() if path.is_dir() else path.unlink()
        self.fact("name", "as-built")
        return self.run("apply")

    def write(self, text: str) -> None:
        """The file on the FAT, as from a laptop with Windows."""
        self.host.site_file.write_bytes(text.replace("\n", "\r\n").encode())

    def site(self) -> str:
        """The file as it is."""
        return self.host.site_file.read_bytes().decode()

    def settings(self) -> object:
        """What it says."""
        return load_text(self.site())

    def status(self) -> str:
        """What a person reads, on one line."""
        text = self.host.status_file.read_bytes().decode()
        assert "\n" not in text.replace("\r\n", "")
        return " ".join(text.split())
