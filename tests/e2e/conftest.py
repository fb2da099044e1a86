"""A daemon with the virtual board, and its user."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bench import Bench

LIMIT = 60.0


@dataclass(frozen=True)
class Lab:
    """A running daemon, and the command line pointed at it."""

    daemon: Daemon
    socket: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return exporters.clean_environment(self.home) | {"JUMPSTARTER_HOST": str(self.socket)}

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        """A command that is left running."""
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [exporters.scripts() / words[0], *words[1:]],
            text=True,
            env=self.environment,
            cwd=self.home,
            stdin=options.pop("stdin", subprocess.PIPE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        done = subprocess.run(
            [exporters.scripts() / "jumpstarter", *words],
            env=self.environment,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        """The output of a command that must succeed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        """The exit code and the one sentence of a command that must fail."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode != 0, done
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr.strip()


CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: lab, name: e2e}
export:
  rpi4:
    type: virtual.VirtualBoard
    config:
      hostname: rpi4
      boot_seconds: 0
      storage: @HOME@/card.img
  full:
    children:
      storage:
        type: storage.FileStorage
        config:
          path: @HOME@/full.img
          size: 1000000
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    config = tmp_path / "exporter.yaml"
    config.write_text(CONFIG.replace("@HOME@", str(tmp_path)))
    socket = tmp_path / "exporter.sock"
    command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run"]
    with exporters.running([*command, "--config", config, "--socket", socket], tmp_path) as daemon:
        daemon.first_line()
        yield Lab(daemon, socket, tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A host on a mocked bus, and what is plugged into it."""
    require_umockdev()
    bench = Bench(tmp_path)
    yield bench
    bench.close_all()
