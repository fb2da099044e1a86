"""The host as this program sees it: files below a root folder, and programs that are on the PATH."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_image.settings import FILE

__all__ = ["Done", "HostSystem"]

STATUS_FILE = "jumpstarter-status.txt"


@dataclass(frozen=True)
class Done:
    """The result of a program. The code is 127 if the program does not exist, and 124 after a timeout."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class HostSystem:
    """Paths and programs of the host. In tests, `root` is another folder than `/`."""

    root: Path

    @property
    def site_file(self) -> Path:
        """The file with the settings, written by a person."""
        return self.root / "boot/firmware" / FILE

    @property
    def status_file(self) -> Path:
        """The file with the status, read by a person."""
        return self.root / "boot/firmware" / STATUS_FILE

    @property
    def state_folder(self) -> Path:
        """The folder of the stored settings and secrets."""
        return self.root / "var/lib/jumpstarter-image"

    @property
    def data_folder(self) -> Path:
        """The mount point of the data partition."""
        return self.root / "data"

    @property
    def data_report(self) -> Path:
        """The report of the initial file system about that partition: a word of `sentences.DATA`, or `kept`."""
        return self.root / "run/jumpstarter-image/data"

    @property
    def exporter_state(self) -> Path:
        """The state directory of the exporter, with the host's identity."""
        return self.root / "var/lib/jumpstarter"

    @property
    def exporter_socket(self) -> Path:
        """The socket of the exporter."""
        return self.root / "run/jumpstarter/exporter.sock"

    @property
    def sealing_mark(self) -> Path:
        """A file that exists after an update until the root is read-only again."""
        return self.run_folder / "sealing"

    @property
    def run_folder(self) -> Path:
        """A folder whose content is lost at shutdown."""
        return self.root / "run/jumpstarter-image"

    @property
    def update_folder(self) -> Path:
        """The folder with the record and the packages of a running update."""
        return self.state_folder / "update"

    @property
    def last_update(self) -> Path:
        """The record of the last finished update."""
        return self.state_folder / "last-update.json"

    @property
    def package_folders(self) -> tuple[Path, ...]:
        """The folders with the package files of the installed versions: of updates, and of the image."""
        return self.state_folder / "packages", self.root / "usr/lib/jumpstarter-image/packages"

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return (self.root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def machine_id(self) -> str:
        """The unique id of this machine; empty if there is none."""
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
        """Run a program; kill it with its children after the time limit. `variables` are added to its environment."""
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
                # Do not read its output to the end: a service that it started may keep the pipe open.
                return Done(124, "", f"{command[0]} did not end within {timeout:g} s")
        return Done(process.returncode, output, errors)
