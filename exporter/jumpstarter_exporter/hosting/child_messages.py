"""What the exporter and a child say to each other, within bounds: a child is not trusted.

The job is one line of JSON on the child's stdin. Each line on its stdout is a `Ready` or a `LogMessage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.report_labels import OWN_PREFIX
from msgspec import Meta

__all__ = [
    "MAX_LINE_BYTES",
    "HostedDevice",
    "Job",
    "LineSplitter",
    "LogMessage",
    "MethodReport",
    "Ready",
    "decode_message",
]

MAX_LINE_BYTES = 1024 * 1024
"""Of one message; the report of all devices is one."""
MAX_DEVICES = 256
MAX_LABELS = 64
MAX_METHODS = 256
MAX_PATH_LENGTH = 512

Name = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[\x20-\x7e]+$")]
Path = Annotated[str, Meta(min_length=1, max_length=MAX_PATH_LENGTH)]
Text = Annotated[str, Meta(max_length=4096)]
ClassPath = Annotated[str, Meta(max_length=253, pattern=r"^[A-Za-z_][\w]*(\.[A-Za-z_]\w*)+$")]
Labels = Annotated[dict[Name, Text], Meta(max_length=MAX_LABELS)]


class MethodReport(msgspec.Struct, frozen=True):
    """A method that users may call."""

    name: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^\w+$")]
    kind: Literal["call", "streaming", "stream"]
    signature: Text = ""
    """Its parameters, as in its definition."""
    description: Text = ""


class HostedDevice(msgspec.Struct, frozen=True):
    """A device of the child."""

    path: Path
    """Names from the top of the board's tree, joined by dots."""
    uuid: UUID
    client: ClassPath
    labels: Labels = {}
    description: Text | None = None
    methods_description: Annotated[dict[Name, Text], Meta(max_length=MAX_METHODS)] = {}
    methods: Annotated[tuple[MethodReport, ...], Meta(max_length=MAX_METHODS)] = ()

    def __post_init__(self) -> None:
        """Check the names in the path."""
        for name in self.path.split("."):
            if not name or not name.isprintable():
                raise ValueError("a device's name is empty or not printable")

    @property
    def own_labels(self) -> dict[str, str]:
        """Its labels without those that only the exporter sets."""
        return {key: value for key, value in self.labels.items() if not key.startswith(OWN_PREFIX)}


class Ready(msgspec.Struct, frozen=True, tag_field="kind", tag="ready"):
    """All devices, parents before their children, and why the others could not be made."""

    devices: Annotated[tuple[HostedDevice, ...], Meta(max_length=MAX_DEVICES)] = ()
    failed: Annotated[dict[Path, str], Meta(max_length=MAX_DEVICES)] = {}

    def __post_init__(self) -> None:
        """Check that each device has a path and a UUID of its own."""
        if len({one.path for one in self.devices}) < len(self.devices):
            raise ValueError("two devices have one name")
        if len({one.uuid for one in self.devices}) < len(self.devices):
            raise ValueError("two devices have one UUID")


class LogMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="log"):
    """A record of the child's `logging`."""

    level: Annotated[str, Meta(max_length=32)]
    logger: Annotated[str, Meta(max_length=253)]
    text: str
    time: float = 0.0
    """Ignored: the child's clock is not trusted."""


ChildMessage: TypeAlias = Ready | LogMessage


class Job(msgspec.Struct, frozen=True):
    """What a child is to make, and where it serves it."""

    devices: Mapping[str, object]
    """By path, as in a configuration of Jumpstarter 0.9."""
    uuids: Mapping[str, str] = {}
    """By path."""
    socket: str = ""
    """Without it, the child sends its report and ends."""

    def encoded(self) -> bytes:
        """The line."""
        return msgspec.json.encode(self) + b"\n"


def decode_message(line: bytes) -> ChildMessage:
    """ValueError: it is none, or not within bounds."""
    return decode_json(line, ChildMessage)  # type: ignore[arg-type] # msgspec takes unions


class LineSplitter:
    """Cuts bytes into lines. Of a line that is too long, nothing is kept."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._is_skipping = False
        self.skipped = 0
        """Lines that were too long."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            if not self._is_skipping:
                yield bytes(self._rest)
            self._rest.clear()
            self._is_skipping = False
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        if self._is_skipping:
            return
        if len(self._rest) + len(piece) > self._max_bytes:
            self._rest.clear()
            self._is_skipping = True
            self.skipped += 1
            return
        self._rest += piece
