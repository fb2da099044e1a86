"""Write what became of the last boots of the image for Raspberry Pis: images/LAST-RUN-arm64.md."""

from __future__ import annotations

import datetime
import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Boot", "commit", "text_of", "write"]

IMAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Boot:
    """A boot that ended as its test expects."""

    model: str
    measured: str
    reached: str
    """How far it went, for people."""
    log: str
    """What its system and our programs said until then."""


def write(disk: Path, boots: Sequence[Boot]) -> None:
    """Write the file. `disk` is the image that was copied for each boot."""
    with disk.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    (IMAGES / "LAST-RUN-arm64.md").write_text(
        text_of(day, commit(), f"{disk.name}, SHA-256 `{digest}`", boots)
    )


def commit() -> str:
    """The present commit."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD"], cwd=IMAGES, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "(unknown)"


def text_of(day: str, commit: str, image: str, boots: Sequence[Boot]) -> str:
    """The file's text."""
    return "\n".join(_lines(day, commit, image, boots)) + "\n"


def _lines(day: str, commit: str, image: str, boots: Sequence[Boot]) -> Iterator[str]:
    yield "# The last boots of the image for Raspberry Pis"
    yield ""
    yield f"Written by `make image-test` on {day}, at commit {commit}; docs/image.md says what it does."
    yield ""
    yield f"- The image: {image}"
    yield from (f"- {one.measured}; {one.reached}" for one in boots)
    for one in boots:
        yield ""
        yield f"The log of the boot on `{one.model}`: systemd and our programs, the last lines."
        yield ""
        yield "```text"
        yield from one.log.splitlines()
        yield "```"
