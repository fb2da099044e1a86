"""That a record is not there proves nothing: it may be on its way. Who decides upon it has it looked for. No I/O."""

from __future__ import annotations

from jumpstarter_controller.lab import Lab
from jumpstarter_controller.lab.tables import Place

__all__ = ["Absences"]


class Absences:
    """Which records are known not to be there, and which have to be looked for before that is known."""

    def __init__(self, *, asks: bool = False) -> None:
        """Unless it `asks`, what is not in a lab is nowhere."""
        self._asks = asks
        self._proven: set[Place] = set()
        self.asked: set[Place] = set()
        """Whoever has a store looks there, and says `prove` of what it does not have."""

    def is_gone(self, lab: Lab, place: Place) -> bool:
        """Whether that record, which the lab does not have, is nowhere; if that is not known, it is asked for."""
        if not self._asks or place in self._proven or place in lab.before():
            return True
        self.asked.add(place)
        return False

    def prove(self, place: Place) -> None:
        """The store does not have it."""
        self.asked.discard(place)
        self._proven.add(place)

    def forget(self, place: Place) -> None:
        """It is there."""
        self.asked.discard(place)
        self._proven.discard(place)

    def settle(self) -> None:
        """All has been decided that rests on what is known: later it may be otherwise."""
        self._proven.clear()
        self.asked.clear()
