"""The name of a call's caller, for people."""

from __future__ import annotations

import pwd
from typing import Any

import trio
from jumpstarter_proto.rpc import ServerCall

__all__ = ["caller_host", "caller_name"]

_names: dict[int, str] = {}


async def caller_name(call: ServerCall[Any, Any]) -> str:
    """The user name of a local caller, or the address of a remote one."""
    if (uid := call.uid) is None:
        return f"a user at {caller_host(call) or 'the other end of a tunnel'}"
    if uid not in _names:
        _names[uid] = await trio.to_thread.run_sync(
            _name_of, uid
        )  # the name may be looked up on another host
    return _names[uid]


def caller_host(call: ServerCall[Any, Any]) -> str:
    """The caller's address without its port, which differs each time; empty for a tunnel."""
    return call.peer.rpartition(":")[0]


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
