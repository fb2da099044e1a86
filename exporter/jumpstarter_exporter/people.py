"""Who makes a call, for people."""

from __future__ import annotations

import pwd
from typing import Any

import trio
from jumpstarter_proto.rpc import ServerCall

__all__ = ["host_of", "person_of"]

_names: dict[int, str] = {}


async def person_of(call: ServerCall[Any, Any]) -> str:
    """A user of this host by name, somebody else by where they are."""
    if (uid := call.uid) is None:
        return f"somebody at {host_of(call) or 'the other end of a tunnel'}"
    if uid not in _names:
        _names[uid] = await trio.to_thread.run_sync(_name_of, uid)  # it may be asked from another host
    return _names[uid]


def host_of(call: ServerCall[Any, Any]) -> str:
    """The caller's address without the port, which is another one each time; empty for a tunnel."""
    return call.peer.rpartition(":")[0]


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
