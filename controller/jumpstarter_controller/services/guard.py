"""Who calls: from a call's metadata to the record of a client or an exporter."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.engine import Engine
from jumpstarter_controller.identity import Authenticator, Caller, authorise
from jumpstarter_controller.lab import Client, Exporter, Key
from jumpstarter_controller.logs import Refusals

__all__ = ["Guard"]

_log = logging.getLogger(__name__)

R = TypeVar("R", Client, Exporter)


class Guard:
    """Lets in who has a valid token of an object that exists and is enabled."""

    def __init__(self, engine: Engine, authenticator: Authenticator) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self.refusals = Refusals(_log)

    async def client(self, call: ServerCall[Any, Any]) -> Client:
        """The calling client. RpcError says why it is none."""
        return await self._record(call, Kind.CLIENT, Client)

    async def exporter(self, call: ServerCall[Any, Any]) -> Exporter:
        """The calling exporter. RpcError says why it is none."""
        return await self._record(call, Kind.EXPORTER, Exporter)

    async def either(self, call: ServerCall[Any, Any]) -> Client | Exporter:
        """By the call's own word for what it is."""
        if call.header("jumpstarter-kind") == Kind.EXPORTER:
            return await self.exporter(call)
        return await self.client(call)

    async def _record(self, call: ServerCall[Any, Any], kind: Kind, of: type[R]) -> R:
        try:
            return await self._known(call, kind, of)
        except JumpstarterError as error:
            said = {key: call.header(f"jumpstarter-{key}") or "" for key in ("namespace", "name")}
            fields = {"namespace": said["namespace"], kind.lower(): said["name"], "peer": call.peer}
            self.refusals.note(error, **fields)
            raise

    async def _known(self, call: ServerCall[Any, Any], kind: Kind, of: type[R]) -> R:
        caller: Caller = await self._authenticator.caller(call.metadata, kind)
        record = self._engine.view.get(of, Key(caller.namespace, caller.name))
        authorise(caller, None if record is None else (record.uid, record.username))
        if record is None:  # authorise has refused it
            raise RpcError(StatusCode.UNKNOWN, f"{kind} {caller.namespace}/{caller.name} not found")
        if of is Client and not record.enabled:
            raise RpcError(
                StatusCode.PERMISSION_DENIED,
                f"client {record.name} is disabled; ask who runs the lab to enable it",
            )
        return record
