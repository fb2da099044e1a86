"""A `jumpstarter shell` whose commands run when they are asked for."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.interop import exporters
from tests.support.lab import Lab

LONG = 90.0


class Shell:
    """One at a time in a lab's folder; leases a board with the label board=rpi4."""

    def __init__(self, lab: Lab, client: Path) -> None:
        self.home = lab.home
        self._count = 0
        script = 'touch ready; i=1; while ! test -e end; do if test -e do-$i; then (eval "$(cat do-$i)") >out-$i 2>&1; '
        script += "echo $? >code-$i; i=$((i+1)); fi; sleep 0.05; done"
        environment = exporters.clean_environment(lab.home)
        environment["PATH"] = f"{exporters.scripts()}:{os.environ['PATH']}"
        command = [exporters.scripts() / "jumpstarter", "shell", "-l", "board=rpi4", "--client", client]
        self.process = subprocess.Popen(
            [*command, "--", "sh", "-c", script],
            env=environment,
            cwd=lab.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        lab.until(lambda: (self.home / "ready").exists() or self.process.poll() is not None)

    def begin(self, command: str) -> int:
        self._count += 1
        waiting = self.home / "next"
        waiting.write_text(command)
        waiting.rename(self.home / f"do-{self._count}")
        return self._count

    def result(self, number: int, limit: float = LONG) -> tuple[int, str]:
        """Exit code and output; an error if there is none in time."""
        end = time.monotonic() + limit
        code = self.home / f"code-{number}"
        while not (code.exists() and code.read_text().strip()):
            assert time.monotonic() < end, f"it hangs: {(self.home / f'out-{number}').read_text()}"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        return int(code.read_text()), (self.home / f"out-{number}").read_text()

    def do(self, command: str) -> tuple[int, str]:
        return self.result(self.begin(command))

    def leave(self) -> None:
        """Leave it, and do not wait for what its lease's end takes."""
        (self.home / "end").touch()

    def end(self) -> str:
        """What it said; its lease is given back."""
        self.leave()
        _, said = self.process.communicate(timeout=LONG)
        assert self.process.returncode == 0, said
        return said
