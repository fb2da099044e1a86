"""Records requests about leases in the audit log: who made them, and which were rejected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import StatusCode, status_of

from jumpstarter_controller.lab import Client, Exporter
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler

__all__ = ["audited"]


@contextmanager
def audited(
    reconciler: Reconciler, caller: Client | Exporter, verb: str, lease: str = "", done: str = ""
) -> Iterator[None]:
    """Add an entry to the audit log: the rejection if the block raises, else the text `done`."""
    fields, then = about(caller, lease=lease), reconciler.clock()
    try:
        yield
    except JumpstarterError as error:
        if status_of(error)[0] is not StatusCode.UNAVAILABLE:
            reconciler.tell(f"was refused {verb}: {error}", fields)
        raise
    if done:
        reconciler.tell(done, fields, then)
