"""Notes of the calls on a board's devices for the audit log: names and results, never arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import trio
from jumpstarter_proto.rpc import StatusCode, status_of

from jumpstarter_exporter.decorators import ExportKind
from jumpstarter_exporter.session.node import SessionNode

__all__ = ["CallNote", "CallOrigin", "TransferCount", "noted", "noted_reset"]


class CallOrigin(msgspec.Struct, frozen=True):
    """The caller, if it is not the client of a lease."""

    user: str = ""
    """The name of a local user."""
    is_hook: bool = False


class CallNote(msgspec.Struct, frozen=True):
    """A call that may have changed something."""

    device: str
    method: str
    caller: CallOrigin
    at: float
    """When it ended, or a stream began, by trio's clock."""
    status: str = ""
    """The gRPC status; empty when a stream begins."""
    seconds: float = 0.0
    received: int = 0
    sent: int = 0
    lease: str = ""
    session: str = ""


@dataclass
class TransferCount:
    """Bytes of a stream so far."""

    received: int = 0
    """From the user."""
    sent: int = 0
    user_left: bool = False
    """The stream was cut because its user left, which is how users end a stream."""


@contextmanager
def noted(
    note: Callable[[CallNote], None], caller: CallOrigin, node: SessionNode, name: str
) -> Iterator[TransferCount]:
    """Note the call in the block at its end, and a stream also at its start; calls that only read are not noted."""
    method = node.methods.get(name)
    if method is None or method.reads:
        yield TransferCount()
        return
    if method.kind is not ExportKind.CALL:
        note(CallNote(node.path, name, caller, trio.current_time()))
    yield from _noted(note, caller, node.path, name, leaves=method.kind is ExportKind.STREAM)


@contextmanager
def noted_reset(note: Callable[[CallNote], None], caller: CallOrigin) -> Iterator[TransferCount]:
    """Note that the block resets all devices."""
    yield from _noted(note, caller, "", "reset")


def _noted(
    note: Callable[[CallNote], None], caller: CallOrigin, device: str, name: str, *, leaves: bool = False
) -> Iterator[TransferCount]:
    """Note what happens during its only `yield`. `leaves`: users end it by cancelling the call."""
    began, moved = trio.current_time(), TransferCount()
    status = StatusCode.OK.name
    try:
        yield moved
    except Exception as error:
        status = status if moved.user_left else status_of(error)[0].name
        raise
    except BaseException:  # usually a cancellation; the call has ended in any case
        status = status if leaves else StatusCode.CANCELLED.name
        raise
    finally:
        now = trio.current_time()
        note(CallNote(device, name, caller, now, status, now - began, moved.received, moved.sent))
