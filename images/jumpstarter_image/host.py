"""The host as this program sees it: files below a root folder, and programs that are on the PATH."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_image.settings import FILE

__all__ = ["Done", "Host"]

STATUS_FILE = "jumpstarter-status.txt"


@dataclass(frozen=True)
class Done:
    """How a program ended: with 127 if there is none of that name, with 124 if it took too long."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Host:
    """Where everything is. `root` is another folder than `/` in tests."""

    root: Path

    @property
    def site_file(self) -> Path:
        """What a person writes."""
        return self.root / "boot/firmware" / FILE

    @property
    def status_file(self) -> Path:
        """What they read."""
        return self.root / "boot/firmware" / STATUS_FILE

    @property
    def state_folder(self) -> Path:
        """Where what is known is kept, with the secrets."""
        return self.root / "var/lib/jumpstarter-image"

    @property
    def data_folder(self) -> Path:
        """Where the partition is mounted on which all lies that lasts."""
        return self.root / "data"

    @property
    def data_report(self) -> Path:
        """What the initial file system says of that partition: a word of `sentences.DATA`, or `kept`."""
        return self.root / "run/jumpstarter-image/data"

    @property
    def exporter_state(self) -> Path:
        """The exporter's own, with the host's identity."""
        return self.root / "var/lib/jumpstarter"

    @property
    def exporter_socket(self) -> Path:
        """Where the exporter listens, if it does."""
        return self.root / "run/jumpstarter/exporter.sock"

    @property
    def sealing_mark(self) -> Path:
        """There while the root is still writable behind an update, and about to be read-only."""
        return self.run_folder / "sealing"

    @property
    def run_folder(self) -> Path:
        """What ends with the boot."""
        return self.root / "run/jumpstarter-image"

    @property
    def update_folder(self) -> Path:
        """Where an update that is going on has its record and its packages."""
        return self.state_folder / "update"

    @property
    def last_update(self) -> Path:
        """The record of the last one that is over."""
        return self.state_folder / "last-update.json"

    @property
    def package_folders(self) -> tuple[Path, ...]:
        """Where files of installed packages are kept: of those that were updated, and those of the image."""
        return self.state_folder / "packages", self.root / "usr/lib/jumpstarter-image/packages"

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return (self.root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def machine_id(self) -> str:
        """One that no other host has; empty if it has none."""
        try:
            return (self.root / "etc/machine-id").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def run(
        self,
        *command: str,
        given: str = "",
        timeout: float = 60.0,
        variables: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a program to its end, or to that of its time, with all that it started; `variables` are added."""
        environment = os.environ | {
            "LC_ALL": "C.UTF-8",
            "JUMPSTARTER_STATE_DIRECTORY": str(self.exporter_state),
            **(variables or {}),
        }
        try:
            process = subprocess.Popen(  # noqa: S603 - programs of this host
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return Done(127, "", f"{command[0]} cannot be started: {error.strerror}")
        with process:
            try:
                output, errors = process.communicate(given, timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                # Its output is not read to the end: a service that it has started may hold that open for ever.
                return Done(124, "", f"{command[0]} did not end within {timeout:g} s")
        return Done(process.returncode, output, errors)
