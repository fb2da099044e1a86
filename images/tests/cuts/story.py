"""The events during a recording, with their times and the contents of files at that time."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cuts.write_log import WriteLog

__all__ = ["Save", "Story"]


class Save(msgspec.Struct, frozen=True):
    """jumpstarter.yaml, as a person has written it."""

    text: str
    begun: str = ""
    """The mark before it; the first one was written before the first start."""
    done: str = ""
    """The mark after which it was on the disk."""


class Story(msgspec.Struct):
    """The story of a recording. It contains secrets of a lab that exists only for the test."""

    image: str = ""
    """The image's SHA-256."""
    marks: dict[str, int] = {}
    """How long the log was, in bytes, when something had been seen: what is promised by then is before that place."""
    saves: list[Save] = []
    code: str = ""
    hostnames: list[str] = []
    passphrases: list[str] = []
    machine_id: str = ""
    identity: str = ""
    """The text of the host's identity, host.yaml."""
    host_keys: dict[str, str] = {}
    """The files of sshd's keys, private and public."""
    empty: list[str] = []
    """Files on the data partition that are empty in the end, too."""
    seconds: dict[str, float] = {}
    """Since the host was switched on."""
    console: str = ""
    """The end of its first console."""

    def counted(self, log: WriteLog) -> dict[str, int]:
        """For each mark, how many entries of the log come before it."""
        return {name: log.entries_before(place) for name, place in self.marks.items()}

    @classmethod
    def read(cls, path: Path) -> Story:
        """Read the story that `write` has written."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write the story for another process."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
