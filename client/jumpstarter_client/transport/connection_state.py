"""Where a channel stands that connects again by itself. No I/O.

It connects when somebody wants to call and not before, so that an idle client leaves its peers alone. A connection
that broke can be had again; one that is over cannot, and says why for ever.
"""

from __future__ import annotations

import enum

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import RpcError

__all__ = ["TABLE", "Event", "FinalError", "Line", "Stage"]


class FinalError(RpcError):
    """A status after which there is no use in dialling again, such as the lease's end."""

    @classmethod
    def of(cls, error: RpcError) -> FinalError:
        """The same status, meant so."""
        return cls(error.code, error.details, error.trailing_metadata)


class Stage(enum.Enum):
    """Where it stands."""

    APART = "apart"
    """Not connected: it was never wanted, it broke, or the last try failed."""
    DIALLING = "dialling"
    """One try is on its way; whoever wants to call waits for it."""
    CONNECTED = "connected"
    OVER = "over"


class Event(enum.Enum):
    """What happens to it."""

    WANTED = "wanted"
    """Somebody is about to call."""
    ANSWERED = "answered"
    FAILED = "failed"
    """The try ended without a connection; another may do better."""
    BROKE = "broke"
    ENDED = "ended"
    """There will be no connection any more."""


_S, _E = Stage, Event
TABLE: dict[tuple[Stage, Event], Stage] = {
    (_S.APART, _E.WANTED): _S.DIALLING,
    (_S.APART, _E.ENDED): _S.OVER,
    (_S.DIALLING, _E.WANTED): _S.DIALLING,
    (_S.DIALLING, _E.ANSWERED): _S.CONNECTED,
    (_S.DIALLING, _E.FAILED): _S.APART,
    (_S.DIALLING, _E.ENDED): _S.OVER,
    (_S.CONNECTED, _E.WANTED): _S.CONNECTED,
    (_S.CONNECTED, _E.BROKE): _S.APART,
    (_S.CONNECTED, _E.ENDED): _S.OVER,
    # News of a try or of a connection that come after the end change nothing.
    **{(_S.OVER, event): _S.OVER for event in _E},
}
"""Every way that there is. Anything else is a mistake of whoever sends it."""


class Line:
    """One channel's stage and the reason for it."""

    def __init__(self) -> None:
        self.stage = Stage.APART
        self.reason: RpcError | None = None
        """Why it is apart, or over; None while nothing has gone wrong."""
        self.connections = 0
        """How many there have been."""

    def want(self) -> bool:
        """Somebody is about to call. Whether the caller of this has to start a try, which is the only one then."""
        before = self.stage
        self._move(Event.WANTED)
        return before is Stage.APART

    def answered(self) -> None:
        """The try has a connection."""
        if self._move(Event.ANSWERED) is Stage.CONNECTED:
            self.connections += 1
            self.reason = None

    def failed(self, reason: RpcError) -> None:
        """The try has none; a `FinalError` reason ends the line."""
        self._part(Event.ENDED if isinstance(reason, FinalError) else Event.FAILED, reason)

    def broke(self, reason: RpcError) -> None:
        """The connection is gone."""
        self._part(Event.BROKE, reason)

    def end(self, reason: RpcError) -> None:
        """There will be no more."""
        self._part(Event.ENDED, reason)

    def _part(self, event: Event, reason: RpcError) -> None:
        if self.stage is not Stage.OVER:
            self._move(event)
            self.reason = reason

    def _move(self, event: Event) -> Stage:
        try:
            self.stage = TABLE[self.stage, event]
        except KeyError:
            raise JumpstarterUsageError(
                f"a line that is {self.stage.value} cannot be {event.value}"
            ) from None
        return self.stage
