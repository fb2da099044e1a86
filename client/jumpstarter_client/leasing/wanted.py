"""Which board a user wants of a controller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jumpstarter_client.errors import ConnectError

__all__ = ["DURATION", "Wanted", "seconds"]

DURATION = 30 * 60.0
"""Seconds, if nothing else is said."""


@dataclass(frozen=True)
class Wanted:
    """At least one of the first three is set. `lease` is one that exists, and is left alone at the end."""

    selector: str = ""
    exporter: str = ""
    lease: str = ""
    duration: float = DURATION
    client: str | None = None
    """Alias or file of the client configuration; None: the environment's, or the current one."""

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        *,
        selector: str | None = None,
        exporter: str | None = None,
        lease: str | None = None,
        duration: str | None = None,
        client: str | None = None,
    ) -> Wanted | None:
        """What was asked for, with JMP_LEASE where nothing was; None: no leased board.

        Raises:
            ConnectError: the duration is none.
        """
        if not selector and not exporter and not lease:
            lease = environment.get("JMP_LEASE")
        if not selector and not exporter and not lease:
            return None
        return cls(
            selector or "",
            exporter or "",
            lease or "",
            DURATION if duration is None else seconds(duration),
            client,
        )


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> float:
    """`90`, `30m`, `1h30m`, `1d` or `01:30:00` in seconds. ConnectError if it is none of them."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
        found = float(text)
    elif re.fullmatch(r"([0-9]+[dhms])+", text):
        found = float(
            sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text))
        )
    elif match := re.fullmatch(r"([0-9]+):([0-5][0-9]):([0-5][0-9])", text):
        hours, minutes, rest = map(int, match.groups())
        found = float(hours * 3600 + minutes * 60 + rest)
    else:
        found = 0.0
    if not found:
        raise ConnectError(f"{text!r} is no duration; write for example 30m, 1h30m, 90 (seconds) or 01:30:00")
    return found
