"""Where a storage is connected and what is on it, as facts without I/O.

The rule that this module guards: no board boots a half-written image without somebody having said so. An
image is incomplete from the first byte written until the last one is verified, across errors, cancels and
restarts, and while it is, the storage goes to the board only when forced.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.value import JSON

__all__ = ["ContentState", "IncompleteImage", "Position", "StorageState", "WrittenImage", "WrongPosition"]


class Position(enum.StrEnum):
    """What the multiplexer connects the storage to."""

    HOST = "host"
    DUT = "dut"
    OFF = "off"
    UNKNOWN = "unknown"
    """A switch failed half-way; the next one that works tells."""


class ContentState(enum.StrEnum):
    """What is known about the bytes on the storage."""

    UNCHANGED = "as found"
    """Nothing was written since the exporter first used it."""
    WRITING = "writing"
    INCOMPLETE = "incomplete"
    COMPLETE = "complete"


_NEXT: dict[ContentState, frozenset[ContentState]] = {
    ContentState.UNCHANGED: frozenset({ContentState.WRITING, ContentState.INCOMPLETE}),
    ContentState.WRITING: frozenset({ContentState.INCOMPLETE, ContentState.COMPLETE}),
    ContentState.INCOMPLETE: frozenset({ContentState.WRITING}),
    ContentState.COMPLETE: frozenset({ContentState.WRITING}),
}


class IncompleteImage(JumpstarterError):  # noqa: N818 - a state, as in the table above
    """The storage holds part of an image, so it does not go to the board."""

    status = "FAILED_PRECONDITION"


class WrongPosition(JumpstarterError):  # noqa: N818
    """The storage is not connected to the host, so it cannot be written or read."""

    status = "FAILED_PRECONDITION"


@dataclass(frozen=True)
class WrittenImage:
    """What a finished write put on the storage."""

    bytes: int
    sha256: str
    """64 hexadecimal digits; empty when the exporter has not hashed the whole image, or has not verified it."""
    seconds: float
    verified: bool
    remarks: list[str] = field(default_factory=list)
    """What of the file was left out."""
    changes: dict[str, int] | None = None
    """Bytes that were `read` to compare, `skipped` because they were there, `unmapped` and `written`; None when all of
    the image was written."""

    def as_data(self) -> dict[str, JSON]:
        """Return it as JSON values. An unknown `sha256` is left out, and so are `changes` of a whole image."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


@dataclass(frozen=True)
class Operation:
    """What is under way, for progress bars."""

    phase: str
    done: int
    total: int | None
    changes: dict[str, int] | None = None
    """Like `changes` of `WrittenImage`, up to now."""


class StorageState:
    """Position, content and operation of one storage; `reason` says why the content is incomplete."""

    def __init__(self, position: Position = Position.DUT) -> None:
        self.position = position
        self.content = ContentState.UNCHANGED
        self.reason = ""
        self.image: WrittenImage | None = None
        self.operation: Operation | None = None

    def begin_write(self) -> None:
        """The first byte is about to be written."""
        self._enter(ContentState.WRITING, "it is being written")
        self.image = None

    def written(self, image: WrittenImage) -> None:
        """The whole image is on the storage."""
        self._enter(ContentState.COMPLETE, "")
        self.image = image

    def mark_incomplete(self, reason: str) -> None:
        """The write ended early, in this process or in an earlier one that left its marker."""
        self._enter(ContentState.INCOMPLETE, reason)
        self.image = None

    def check_host(self) -> None:
        """Raise WrongPosition unless the host can reach the storage."""
        if self.position is not Position.HOST:
            raise WrongPosition(
                f"the storage is connected to {self.position}, not to the host; "
                "switch it with `jumpstarter storage host`, or use `flash` and `dump`, which do it"
            )

    def check_dut(self, *, force: bool) -> None:
        """Raise IncompleteImage if the storage holds a part of an image, unless forced."""
        if self.content in (ContentState.INCOMPLETE, ContentState.WRITING) and not force:
            raise IncompleteImage(
                f"the storage holds an incomplete image ({self.reason}), so it stays away from the board; "
                "flash it again, or insist with `jumpstarter storage dut --force`"
            )

    def report(self) -> dict[str, JSON]:
        """Return the state as JSON values."""
        return {
            "position": self.position.value,
            "content": self.content.value,
            "reason": self.reason,
            "image": self.image.as_data() if self.image else None,
            "operation": asdict(self.operation) if self.operation else None,
        }

    def _enter(self, content: ContentState, reason: str) -> None:
        if content not in _NEXT[self.content]:
            raise AssertionError(f"storage content cannot go from {self.content} to {content}")
        self.content = content
        self.reason = reason
