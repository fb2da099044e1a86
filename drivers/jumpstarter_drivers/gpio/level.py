"""What is known about an input line, without I/O: its level, and how often it has changed."""

from __future__ import annotations

from typing import Literal

__all__ = ["Edge", "InputLevel"]

Edge = Literal["rising", "falling"]


class InputLevel:
    """The level of a line, as its changes report it.

    Changes are counted, so a pulse that is over before anybody looks is not missed. A report of the level that is known
    already means that two changes came so fast that one of them was lost.
    """

    def __init__(self, *, is_active: bool) -> None:
        self.is_active = is_active
        self._edges: dict[Edge, int] = {"rising": 0, "falling": 0}

    def change(self, *, is_active: bool) -> None:
        """Take over the level after a change."""
        if is_active == self.is_active:
            self._edges["falling" if is_active else "rising"] += 1
        self._edges["rising" if is_active else "falling"] += 1
        self.is_active = is_active

    def edges(self, edge: Edge) -> int:
        """How many changes in this direction there were."""
        return self._edges[edge]
