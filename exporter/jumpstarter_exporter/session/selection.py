"""Selects the session for a call, for all services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jumpstarter_proto.rpc import ServerCall

from jumpstarter_exporter.callers import caller_name
from jumpstarter_exporter.session.call_notes import CallOrigin

if TYPE_CHECKING:
    from jumpstarter_exporter.session.session import Session

__all__ = ["READ_ONLY_USE", "CallUse", "SessionSelector", "call_origin", "selected_session"]


@dataclass(frozen=True)
class CallUse:
    """What a call does; by default it only reads."""

    uuid: str = ""
    method: str = ""
    does: bool = False
    is_held: bool = False
    """It lasts as long as its user wants, with or without activity."""
    ends: bool = False
    """It ends the session."""
    follows: bool = False
    """It shows what others do."""


READ_ONLY_USE = CallUse()


class SessionSelector(Protocol):
    """Selects the session of a call."""

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """The session for this call, before anything is done. RpcError if there is none."""


@asynccontextmanager
async def selected_session(
    selector: SessionSelector, call: ServerCall[Any, Any], use: CallUse
) -> AsyncIterator[Session]:
    """The call's session. The block ends with the session, if not before."""
    session = await selector.enter(call, use)
    works = use.does and not use.is_held
    call.connection.working += works
    try:
        with session.call():
            yield session
    finally:
        call.connection.working -= works


async def call_origin(selector: SessionSelector, session: Session, call: ServerCall[Any, Any]) -> CallOrigin:
    """The caller for the audit log; calls on a lease's own socket come from its hooks."""
    if call.uid is None or not session.is_noted:
        return CallOrigin()
    if selector is session and session.lease is not None:
        return CallOrigin(is_hook=True)
    return CallOrigin(await caller_name(call))
