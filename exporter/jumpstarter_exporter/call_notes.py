"""What was done with a board's devices, for whoever keeps a journal: names and results, never arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio
from jumpstarter_proto.rpc import StatusCode, status_of

from jumpstarter_exporter.markers import Kind
from jumpstarter_exporter.node import Node

__all__ = ["CallNote", "Caller", "Moved", "noted", "noted_reset"]


@dataclass(frozen=True)
class Caller:
    """Who calls, if it is not the client of a lease."""

    user: str = ""
    """Of the host."""
    is_hook: bool = False


@dataclass(frozen=True)
class CallNote:
    """A call that was no mere look."""

    device: str
    method: str
    caller: Caller
    at: float
    """When it ended, or a stream began, by trio's clock."""
    status: str = ""
    """Of gRPC; empty where a stream begins."""
    seconds: float = 0.0
    received: int = 0
    sent: int = 0
    lease: str = ""
    session: str = ""


@dataclass
class Moved:
    """Bytes of a stream so far."""

    received: int = 0
    """From the user."""
    sent: int = 0
    user_left: bool = False
    """It broke off because its user left, which is how users end one."""


@contextmanager
def noted(note: Callable[[CallNote], None], caller: Caller, node: Node, name: str) -> Iterator[Moved]:
    """Note the call that is made in the block, at its end and a stream also at its begin; not if it only looks."""
    method = node.methods.get(name)
    if method is None or method.reads:
        yield Moved()
        return
    if method.kind is not Kind.CALL:
        note(CallNote(node.path, name, caller, trio.current_time()))
    with _noted(note, caller, node.path, name, leaves=method.kind is Kind.STREAM) as moved:
        yield moved


@contextmanager
def noted_reset(note: Callable[[CallNote], None], caller: Caller) -> Iterator[None]:
    """Note that all devices are reset in the block."""
    with _noted(note, caller, "", "reset"):
        yield


@contextmanager
def _noted(
    note: Callable[[CallNote], None], caller: Caller, device: str, name: str, *, leaves: bool = False
) -> Iterator[Moved]:
    """`leaves` says that a cancellation is how users end it."""
    began, moved = trio.current_time(), Moved()
    status = StatusCode.OK.name
    try:
        yield moved
    except Exception as error:
        status = status if moved.user_left else status_of(error)[0].name
        raise
    except BaseException:  # cancelled, mostly; whatever it is, the call has ended
        status = status if leaves else StatusCode.CANCELLED.name
        raise
    finally:
        now = trio.current_time()
        note(CallNote(device, name, caller, now, status, now - began, moved.received, moved.sent))
