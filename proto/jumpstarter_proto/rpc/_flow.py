"""The receiving half of HTTP/2's flow control: how much a peer may send before it was read.

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

    __slots__ = ("_advance", "_read", "_size", "extended", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        """What the peer may still send."""
        self.extended = 0
        """By how much the window was extended for the message that is being read."""
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
        """Record bytes that the application has read. Returns the window increment to send now, often 0."""
        repaid = min(self._advance, count)
        self._advance -= repaid
        self._read += count - repaid
        # Waiting for half of the window saves frames, and leaves the peer enough to go on with.
        return self._give_back() if self._read * 2 >= self._size else 0

    def shortfall(self, needed: int) -> int:
        """How much of the message that has begun does not fit into the window."""
        return max(0, needed - self.left - self._read)

    def extend(self, needed: int) -> int:
        """Extend the window so that the peer can finish its message. Returns by how much to open it now."""
        missing = self.shortfall(needed)
        self.extended += missing
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
        """Bytes of whole messages that are not read yet."""
        self.partial = 0
        """Bytes of messages that have arrived in part."""
        self.waiting: list[int] = []
        """Calls with a large message that wait until their window may be extended."""
        self.is_confined = False
        """Everything in memory counts, also messages in part: the limit of an unauthenticated peer."""
        self._size = size
        self._extended = 0

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
        """Whether messages that have arrived in part take more memory than allowed."""
        return self.partial > 2 * self._size

    def may_extend(self, count: int) -> bool:
        """Whether one more large message may be read now."""
        return not count or not self._extended or self._extended + count <= self._size // 2

    def extended(self, count: int) -> None:
        """A call's window was extended by so much; negative when its message is complete or its call has ended."""
        self._extended += count
