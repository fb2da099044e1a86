"""How a call gets to the session that it is for, whichever service it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jumpstarter_proto.rpc import ServerCall

from jumpstarter_exporter.call_notes import Caller
from jumpstarter_exporter.people import person_of

if TYPE_CHECKING:
    from jumpstarter_exporter.session import Session

__all__ = ["LOOK", "Entrance", "Use", "caller_of", "entered"]


@dataclass(frozen=True)
class Use:
    """What a call does: nothing but look, if it names neither a device nor that it does something."""

    uuid: str = ""
    method: str = ""
    does: bool = False
    is_held: bool = False
    """It lasts as long as its user wants, whether anything is done or not."""
    ends: bool = False
    """It ends the session."""
    follows: bool = False
    """It tells what others do."""


LOOK = Use()


class Entrance(Protocol):
    """Where users come in."""

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """The session that this call is for, before anything is done. RpcError when there is none for it."""


@asynccontextmanager
async def entered(entrance: Entrance, call: ServerCall[Any, Any], use: Use) -> AsyncIterator[Session]:
    """What is done in the block ends with the session, if not before."""
    session = await entrance.enter(call, use)
    works = use.does and not use.is_held
    call.connection.working += works
    try:
        with session.call():
            yield session
    finally:
        call.connection.working -= works


async def caller_of(entrance: Entrance, session: Session, call: ServerCall[Any, Any]) -> Caller:
    """Who makes a call, as far as the journal wants to know: a lease's own socket is its hooks'."""
    if call.uid is None or not session.is_noted:
        return Caller()
    if entrance is session and session.lease is not None:
        return Caller(is_hook=True)
    return Caller(await person_of(call))
