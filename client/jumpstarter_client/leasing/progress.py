"""What a lease's conditions mean for who waits for it, in the order of wire.md 4.1. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from jumpstarter_proto.client.v1 import client_pb2

__all__ = ["Progress", "Stage", "progress_of"]


class Stage(enum.Enum):
    """How far a lease has come."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """A stage, and the sentence that goes with it."""

    stage: Stage
    message: str = ""
    exporter: str = ""
    """Bare name, when ready."""


def progress_of(lease: client_pb2.Lease) -> Progress:
    """What to do next."""
    name = lease.name.rpartition("/")[2]
    found = {one.type: one for one in lease.conditions}

    def said(kind: str, status: str) -> str | None:
        one = found.get(kind)
        return (one.message or one.reason) if one is not None and one.status == status else None

    if said("Ready", "True") is not None and lease.exporter:
        return Progress(Stage.READY, "", lease.exporter.rpartition("/")[2])
    if (message := said("Unsatisfiable", "True")) is not None:
        return Progress(Stage.FAILED, f"the lease cannot be satisfied: {message}")
    if (message := said("Invalid", "True")) is not None:
        return Progress(Stage.FAILED, f"the lease is invalid: {message}")
    if (message := said("Ready", "False")) is not None:
        return Progress(Stage.FAILED, f"lease {name} has ended: {message}; ask for a new one")
    if lease.HasField("effective_end_time"):
        return Progress(Stage.FAILED, f"lease {name} has already ended; ask for a new one")
    return Progress(Stage.WAITING, said("Pending", "True") or "waiting for the controller")
