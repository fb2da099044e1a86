"""How much a peer may send before we have read it: the receiving half of HTTP/2's flow control.

A call's window comes back as its messages are read, so a reader that stops stops its writer. A message larger
than the window gets what it still needs. The connection's window comes back as soon as bytes arrive, except
for what whole messages hold that nobody has read: pieces of messages must not keep each other from being
completed. What they may hold together is bounded all the same.
"""

from __future__ import annotations

__all__ = ["CallWindow", "ConnectionWindow", "FlowControlFault"]


class FlowControlFault(Exception):  # noqa: N818 - a fault of the peer's
    """The peer sent more than it was allowed to."""


class CallWindow:
    """What a peer may send on one call."""

    __slots__ = ("_advance", "_read", "_size", "left", "lent")

    def __init__(self, size: int) -> None:
        self.left = size
        """What the peer may still send."""
        self.lent = 0
        """What the message that is being read got beyond the window."""
        self._size = size
        self._read = 0
        """Read by the application and not yet given back."""
        self._advance = 0
        """Given to the peer before it was read."""

    def received(self, count: int) -> None:
        """Bytes have arrived. Raises FlowControlFault."""
        self.left -= count
        if self.left < 0:
            raise FlowControlFault("the peer sent more than this call's window")

    def read(self, count: int) -> int:
        """The application has read so much. Returns by how much to open the window now, often 0."""
        repaid = min(self._advance, count)
        self._advance -= repaid
        self._read += count - repaid
        # Waiting for half of the window saves frames, and leaves the peer enough to go on with.
        return self._give_back() if self._read * 2 >= self._size else 0

    def lacks(self, needed: int) -> int:
        """How much the peer cannot send of the message that it has begun."""
        return max(0, needed - self.left - self._read)

    def lend(self, needed: int) -> int:
        """Let the peer finish its message. Returns by how much to open the window now."""
        missing = self.lacks(needed)
        self.lent += missing
        self._advance += missing
        self.left += missing
        return missing + self._give_back()

    def _give_back(self) -> int:
        count, self._read = self._read, 0
        self.left += count
        return count


class ConnectionWindow:
    """What a peer may send on all calls together, and what of it we hold."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.unread = 0
        """Whole messages that nobody has read yet."""
        self.partial = 0
        """Pieces of messages that have not arrived in full."""
        self.waiting: list[int] = []
        """Calls whose large message waits for its turn to be lent a window."""
        self.is_confined = False
        """All that we hold counts, pieces of messages too: what an unauthenticated peer may send."""
        self._size = size
        self._lent = 0

    def received(self, count: int) -> None:
        """Bytes have arrived. Raises FlowControlFault."""
        self.left -= count
        if self.left < 0:
            raise FlowControlFault("the peer sent more than the connection's window")

    def increment(self) -> int:
        """By how much to open the window now; 0 for not at all."""
        held = self.unread + self.partial if self.is_confined else self.unread
        due = self._size - held - self.left
        if due * 2 < self._size:
            return 0
        self.left += due
        return due

    def grow(self, size: int) -> int:
        """It has that size from now on, and pieces of messages do not count. Returns by how much to open it."""
        self._size, self.is_confined = size, False
        due = max(0, size - self.unread - self.left)
        self.left += due
        return due

    @property
    def is_full(self) -> bool:
        """Whether pieces of messages hold more than we are ready to hold."""
        return self.partial > 2 * self._size

    def may_lend(self, count: int) -> bool:
        """Whether one more large message may be read now."""
        return not count or not self._lent or self._lent + count <= self._size // 2

    def lent(self, count: int) -> None:
        """A call was lent so much; negative when its message is complete or its call has ended."""
        self._lent += count
