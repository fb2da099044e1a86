"""What happens to a lab in a storm, and when: the same seed gives the same storm. No I/O."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

CALM_SECONDS = (1.0, 8.0)
"""Between two events: at least and at most."""
WEIGHTS = {
    # A command that is killed keeps others waiting for a minute, and a controller that starts again gives it another:
    # more of these, and there is little else to see.
    "kill a user": 2,
    "cut connections": 6,
    "stall connections": 2,
    "half-close connections": 3,
    "kill an exporter": 2,
    "kill the controller and its router": 1,
    "stop the controller": 1,
    "fill the controller's disk": 1,
    "set the controller's clock": 2,
    "intrude": 4,
}


@dataclass(frozen=True)
class Event:
    """`after` so many seconds of calm, `what` happens; `choice` in [0, 1) says to whom or how much."""

    after: float
    what: str
    choice: float


def forecast(seed: int) -> Iterator[Event]:
    """All events of a storm; it never ends by itself."""
    chance = random.Random(seed)
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        (what,) = chance.choices(names, weights)
        yield Event(chance.uniform(*CALM_SECONDS), what, chance.random())


def clock_offset(choice: float) -> int:
    """Seconds to add to the clock: an hour back, an hour ahead, or right again."""
    return (-3600, 0, 3600)[int(choice * 3)]
