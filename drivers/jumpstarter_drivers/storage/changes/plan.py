"""Which windows of the medium are read, which blocks are asked for, written and verified: one flash, without I/O.

The client announces windows with their hashes, in order. For each the plan says whether it is read, or answered at
once: because it is known to be there, or because reading does not pay. Reading costs less than writing, so it pays
while some of the blocks are the same; where hardly any is, as on a card with another system, only a sample is read. The
answer is the mask of the blocks that the client sends. A block that was not found to be the same is written, always:
doubt costs time and never the content.

    announce -> next_step -> Read -> read -> WindowAnswer -> arrived -> written -> verify_steps -> verified
                          -> WindowAnswer

The messages of the client are checked here: `ImageChanged` and `PlanError` end the flash.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jumpstarter_proto.encoding import ContentError

from jumpstarter_drivers.storage.changes.knowledge import MediumKnowledge
from jumpstarter_drivers.storage.changes.layout import DIGEST_BYTES, BlockHasher, WindowHashes, block_count

__all__ = [
    "Counts",
    "FlashPlan",
    "ImageChanged",
    "PlanError",
    "Read",
    "ReadPolicy",
    "WindowAnswer",
    "WrittenWindow",
]


class PlanError(ContentError):
    """The client broke the protocol."""


class ImageChanged(ContentError):  # noqa: N818 - what happened
    """The image does not match its hashes."""


@dataclass(frozen=True)
class Read:
    """Read the mapped blocks of the window, and pass them to `read`."""

    window: WindowHashes


@dataclass(frozen=True)
class WindowAnswer:
    """Ask the client for blocks of a window, and write zeros to others; both masks may be empty."""

    window: WindowHashes
    wanted: int
    zeros: int


@dataclass(frozen=True)
class WrittenWindow:
    """What has to be read back of a window."""

    index: int
    length: int
    mask: int
    expected: bytes
    """The SHA-256 of its blocks' digests."""
    window_digest: bytes


@dataclass
class Counts:
    """Bytes of the image so far."""

    done: int = 0
    """Found, or written."""
    read: int = 0
    """From the medium, to compare."""
    skipped: int = 0
    """Found to be there."""
    unmapped: int = 0
    """Not mapped by the block map."""
    written: int = 0


class ReadPolicy:
    """Whether reading pays, by how much of what was read lately was the same."""

    MIN_SAME_SHARE = 0.25
    """Of blocks that are the same. With a card's 80 MB/s for reading and 25 MB/s for writing and reading back, a block
    costs 12 ns a byte to read and 52 ns to write: reading pays from 24 % on."""
    SAMPLE_INTERVAL_WINDOWS = 8
    """One of so many windows is read although it may not pay: later windows may be the same again."""

    def __init__(self) -> None:
        self._share = 1.0
        self._passed = 0

    def pays(self) -> bool:
        """Whether reading the next window pays. If not, it is counted as not read."""
        if self._share >= self.MIN_SAME_SHARE:
            return True
        self._passed += 1
        if self._passed < self.SAMPLE_INTERVAL_WINDOWS:
            return False
        self._passed = 0
        return True

    def found(self, same: int, total: int) -> None:
        """Record how many blocks of a window that was read were the same."""
        self._share = (self._share + same / max(total, 1)) / 2


class FlashPlan:
    """One flash. `limit` is what the medium takes, `ahead` how many windows may be open."""

    def __init__(
        self,
        hasher: BlockHasher,
        knowledge: MediumKnowledge,
        *,
        limit: int | None,
        ahead: int,
        too_large: Callable[[int], Exception],
    ) -> None:
        """`too_large` makes the error for an image that ends behind the limit."""
        self.layout = hasher.layout
        self.counts = Counts()
        self.size: int | None = None
        """Bytes of the image, once the client has said it."""
        self._hasher = hasher
        self._knowledge = knowledge
        self._limit = limit
        self._ahead = ahead
        self._too_large = too_large
        self._policy = ReadPolicy()
        self._announced: deque[WindowHashes] = deque()
        self._reading: dict[int, WindowHashes] = {}
        self._asked: dict[int, WindowAnswer] = {}
        self._writing: dict[int, WindowAnswer] = {}
        self._written: list[WrittenWindow] = []
        self._next_index = 0
        self._end = 0

    # From the client.

    def announce(self, window: WindowHashes) -> None:
        """The next window. Raises PlanError, or what `too_large` makes."""
        layout = self.layout
        if self.size is not None or window.index < self._next_index or self._end % layout.window_bytes:
            raise PlanError("the client announces a window out of order; update the client, then flash again")
        if not 0 < window.length <= layout.window_bytes:
            raise PlanError(f"the client announces a window of {window.length} bytes; update the client")
        if window.mapped & ~layout.everything(window.length):
            raise PlanError("the client announces blocks behind a window's end; update the client")
        if len(window.digests) != block_count(window.mapped) * DIGEST_BYTES:
            raise PlanError("the client announces another number of blocks than of hashes; update the client")
        if self.open_windows >= self._ahead:
            raise PlanError(f"the client announces more than {self._ahead} windows ahead; update the client")
        end = window.index * layout.window_bytes + window.length
        if self._limit is not None and end > self._limit:
            raise self._too_large(end)
        self._pass_over(window.index * layout.window_bytes - self._end)
        self._next_index, self._end = window.index + 1, end
        self._announced.append(window)

    @property
    def open_windows(self) -> int:
        """Windows that are announced and not finished."""
        return len(self._announced) + len(self._reading) + len(self._asked) + len(self._writing)

    def arrived(self, index: int, found: bytes) -> Iterator[tuple[int, int, int]]:
        """The asked blocks of a window are here, and `found` are their digests.

        What to write: offset on the medium, offset in what arrived, length.
        """
        answer = self._asked.pop(index, None)
        if answer is None:
            raise PlanError("the client sends blocks that it was not asked for; update the client")
        if found != answer.window.digests_in(answer.wanted):
            raise ImageChanged(
                "the image is not what it was when it was hashed; the file changed meanwhile, flash it again"
            )
        self._writing[index] = answer
        self._knowledge.forget_window(index)
        return self._places(answer.window, answer.wanted)

    def asked_bytes(self, index: int) -> int:
        """How many bytes the client has to send for a window. Raises PlanError if it was not asked for any."""
        answer = self._asked.get(index)
        if answer is None:
            raise PlanError("the client sends blocks that it was not asked for; update the client")
        return self.layout.size_of(answer.wanted, answer.window.length)

    def end(self, size: int) -> None:
        """The client has sent all of an image of `size` bytes. Raises PlanError."""
        if self.open_windows:
            raise PlanError("the client ended before it had sent what it was asked for; flash again")
        if self.size is not None or size < self._end:
            raise PlanError(f"the client says that an image of {self._end} bytes has {size}; update it")
        if self._limit is not None and size > self._limit:
            raise self._too_large(size)
        self._pass_over(size - self._end)
        self.size = size

    def _pass_over(self, count: int) -> None:
        self.counts.unmapped += count
        self.counts.done += count

    # For the medium.

    def next_step(self) -> Read | WindowAnswer | None:
        """Return what to do for the next announced window; None while there is none."""
        if not self._announced:
            return None
        window = self._announced.popleft()
        if self._knowledge.has(window.index, window.digest):
            return self._answer(window, 0)
        if window.mapped and self._policy.pays():
            self._reading[window.index] = window
            return Read(window)
        return self._answer(window, window.mapped)

    def read(self, index: int, found: bytes) -> WindowAnswer:
        """The medium was read; `found` has the digests of the mapped blocks, fewer where the medium ends."""
        window = self._reading.pop(index)
        self.counts.read += self.layout.size_of(window.mapped, window.length)
        differing = window.differing(found)
        total = block_count(window.mapped)
        self._policy.found(total - block_count(differing), total)
        if not differing:
            self._knowledge.learn(index, window.digest)
        return self._answer(window, differing)

    def _answer(self, window: WindowHashes, differing: int) -> WindowAnswer:
        zeros = window.blocks_with(self._hasher.of_zeros, differing) if differing else 0
        answer = WindowAnswer(window, differing & ~zeros, zeros)
        mapped = self.layout.size_of(window.mapped, window.length)
        same = mapped - self.layout.size_of(differing, window.length)
        self.counts.unmapped += window.length - mapped
        self.counts.skipped += same
        self.counts.done += window.length - mapped + same
        if answer.wanted:
            self._asked[window.index] = answer
        elif zeros:
            self._writing[window.index] = answer
            self._knowledge.forget_window(window.index)
        return answer

    def places_of_zeros(self, answer: WindowAnswer) -> Iterator[tuple[int, int]]:
        """Where on the medium zeros are written, and how many."""
        self._knowledge.forget_window(answer.window.index)
        return ((place, length) for place, _, length in self._places(answer.window, answer.zeros))

    def _places(self, window: WindowHashes, mask: int) -> Iterator[tuple[int, int, int]]:
        start, taken = window.index * self.layout.window_bytes, 0
        for offset, length in self.layout.runs(mask, window.length):
            yield start + offset, taken, length
            taken += length

    def written(self, index: int) -> None:
        """All differing blocks of the window were written, zeros as well."""
        answer = self._writing.pop(index)
        window, mask = answer.window, answer.wanted | answer.zeros
        count = self.layout.size_of(mask, window.length)
        self.counts.written += count
        self.counts.done += count
        expected = hashlib.sha256(window.digests_in(mask)).digest()
        self._written.append(WrittenWindow(index, window.length, mask, expected, window.digest))

    # To verify.

    def verify_steps(self) -> Iterator[WrittenWindow]:
        """What has to be read back, once all of it is on the medium."""
        yield from self._written

    def verified(self, window: WrittenWindow, found: bytes) -> bool:
        """Whether the digests of what was read back are the right ones."""
        if hashlib.sha256(found).digest() != window.expected:
            return False
        self._knowledge.learn(window.index, window.window_digest)
        return True
