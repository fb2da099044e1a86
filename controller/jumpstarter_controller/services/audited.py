"""What clients and exporters wish of a lease, as the journal has it: who it was, and what was refused to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import StatusCode, status_of

from jumpstarter_controller.lab import Client, Exporter
from jumpstarter_controller.process.logs import about
from jumpstarter_controller.reconciler.reconciler import Reconciler

__all__ = ["audited"]


@contextmanager
def audited(
    reconciler: Reconciler, caller: Client | Exporter, verb: str, lease: str = "", done: str = ""
) -> Iterator[None]:
    """The journal has it when the block refuses that to the caller, else what is `done`, before its effects."""
    fields, then = about(caller, lease=lease), reconciler.clock()
    try:
        yield
    except JumpstarterError as error:
        if status_of(error)[0] is not StatusCode.UNAVAILABLE:
            reconciler.tell(f"was refused {verb}: {error}", fields)
        raise
    if done:
        reconciler.tell(done, fields, then)
