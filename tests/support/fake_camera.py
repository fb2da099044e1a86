"""A V4L2 camera without hardware: a library that is preloaded below programs, and a folder that says what it does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.peers import ROOT

__all__ = ["FakeCamera", "require_ustreamer"]

SOURCE = ROOT / "tests" / "support" / "fake_v4l2.c"


def require_ustreamer() -> None:
    """Skip the test where there is no ustreamer, or nothing to compile the camera with."""
    if shutil.which("ustreamer") is None:
        pytest.skip("missing: ustreamer; apt install ustreamer")
    if shutil.which("cc") is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("missing: a C compiler; apt install gcc libc6-dev")


class FakeCamera:
    """One camera, of 640x480."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = folder / "video0"
        self.library = folder / "fake_v4l2.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self.library, SOURCE, "-ldl"],
            check=True,
        )
        self.node.touch()
        self.program = self._wrapped()

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to see it."""
        return {"LD_PRELOAD": str(self.library), "FAKE_V4L2_FOLDER": str(self.folder)}

    def show(self, jpeg: bytes) -> None:
        """From now on it sends this picture."""
        new = self.folder / "frame.new"
        new.write_bytes(jpeg)
        new.rename(self.folder / "frame.jpg")

    def show_raw(self, luminance: int) -> None:
        """From now on it sends pictures that are not encoded, and grey."""
        (self.folder / "frame.yuyv").write_bytes(bytes([luminance, 128]) * (640 * 480))

    def stall(self) -> None:
        """From now on no picture comes."""
        (self.folder / "stalled").touch()

    def go_on(self) -> None:
        (self.folder / "stalled").unlink()

    def unplug(self) -> None:
        (self.folder / "gone").touch()
        self.node.unlink()

    def plug_in(self) -> None:
        self.node.touch()
        (self.folder / "gone").unlink()

    def _wrapped(self) -> Path:
        """ustreamer, which sees the camera."""
        words = " ".join(f"{name}={value}" for name, value in self.environment.items())
        program = self.folder / "ustreamer"
        program.write_text(f'#!/bin/sh\nexec env {words} {shutil.which("ustreamer")} "$@"\n')
        program.chmod(0o700)
        return program
