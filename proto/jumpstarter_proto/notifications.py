"""Events that happen more than once; a `trio.Event` happens once.

`Broadcast` wakes everyone who waits at that moment. `AutoResetEvent` remembers one notification for one waiting task.
"""

from __future__ import annotations

import trio

__all__ = ["AutoResetEvent", "Broadcast"]


class Broadcast:
    """Tells any number of tasks that something has changed.

    A notification is not remembered: only tasks that already wait are woken. A cancelled wait has no effect.
    """

    def __init__(self) -> None:
        self._next = trio.Event()

    @property
    def next(self) -> trio.Event:
        """The event of the next notification.

        Take it before you read the state, and await it afterwards: a change in between is then not missed.
        """
        return self._next

    def notify(self) -> None:
        """Wake all tasks that wait."""
        event, self._next = self._next, trio.Event()
        event.set()

    async def wait(self) -> None:
        """Wait for the next notification."""
        await self._next.wait()


class AutoResetEvent:
    """Tells one task that there is work. Any number of notifications before it waits count as one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def is_set(self) -> bool:
        """Whether the next `wait` returns without waiting."""
        return self._event.is_set()

    def set(self) -> None:
        """Wake the task that waits, or let its next `wait` return at once."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until it is set, and reset it. A cancelled wait does not reset it."""
        await self._event.wait()
        self._event = trio.Event()
