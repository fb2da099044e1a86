"""A user with one of the two clients: their shell, and the comparison of images."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backports import zstd

from tests.interop import exporters
from tests.interop.exporters import Exporter

PROGRAM = Path(__file__).with_name("session.py")
LIMIT = 100.0
COMPRESSIONS = ["", "gzip", "xz", "bz2", "zstd"]


class User:
    """Runs commands from the folder `scripts` with what it takes to reach the exporter in the environment."""

    def __init__(
        self, scripts: Path, exporter: Exporter, home: Path, also: Mapping[str, str] | None = None
    ) -> None:
        self.bin = scripts
        self.exporter = exporter
        self.home = home
        self.environment = exporters.clean_environment(home) | dict(exporter.environment) | dict(also or {})
        self.environment["PATH"] = f"{self.bin}:{self.environment['PATH']}"

    def run(
        self, *command: str | Path, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this user's to its end, within 100 s."""
        done = subprocess.run(
            self._words(command),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env=self.environment,
            timeout=LIMIT,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command of this user's, its standard streams all pipes."""
        return subprocess.Popen(
            self._words(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
        )

    def program(self, area: str, *arguments: str) -> Any:
        """What session.py says about an area."""
        return json.loads(self.run("python", PROGRAM, area, *arguments).stdout.splitlines()[-1])

    def _words(self, command: tuple[str | Path, ...]) -> list[str]:
        return [str(self.bin / command[0]), *(str(part) for part in command[1:])]


def assert_same(dump: Path, image: Path, compression: str, exporter: Exporter) -> None:
    """The dump, stored with `compression`, holds the image.

    0.9.0's exporter never flushes its compressor at the end of a dump, so its compressed files are cut short;
    what is there has to be right.
    """
    data, complete = decode(dump.read_bytes(), compression)
    expected = image.read_bytes()
    if not complete and not exporter.ours:
        expected = expected[: len(data)]
    assert digest(data) == digest(expected)
    dump.unlink()


def encode(data: bytes, compression: str) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(data, 1)
        case "xz":
            return lzma.compress(data, preset=0)
        case "bz2":
            return bz2.compress(data, 1)
        case "zstd":
            return zstd.compress(data)
        case _:
            return data


def decode(data: bytes, compression: str) -> tuple[bytes, bool]:
    """What the data holds, and whether it is there up to its end mark."""
    decoders: dict[str, Any] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "xz": lzma.LZMADecompressor,
        "bz2": bz2.BZ2Decompressor,
        "zstd": zstd.ZstdDecompressor,
    }
    if not compression:
        return data, True
    decoder = decoders[compression]()
    return decoder.decompress(data), decoder.eof


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
