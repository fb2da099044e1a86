"""Two clients and some boards at a lab that are nothing but grpcio's calls, and how a lease is asked for.

Boards have a label of their own for each test, so that one lab is enough for all.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2
from jumpstarter_proto.client.v1 import client_pb2 as pb

from tests.interop.lab import Lab
from tests.interop.raw import Board, Caller

HOUR = 3600.0
names = itertools.count()


@dataclass
class Desk:
    """Two clients at a lab, and boards by the label `kind`."""

    lab: Lab
    ann: Caller
    bob: Caller

    def board(self, kind: str, status: str = "AVAILABLE", **words: Any) -> Board:
        board = self.lab.board(f"{kind}-{next(names)}", kind=kind)
        return board.arrive(status, **words) if status else board

    def lease(self, kind: str = "", who: Caller | None = None, **words: Any) -> pb.Lease:
        answer: pb.Lease = (who or self.ann).client("CreateLease", ask(kind, **words))
        return answer

    def get(self, lease: pb.Lease, who: Caller | None = None) -> pb.Lease:
        answer: pb.Lease = (who or self.ann).client("GetLease", pb.GetLeaseRequest(name=lease.name))
        return answer

    def delete(self, lease: pb.Lease, who: Caller | None = None) -> None:
        (who or self.ann).client("DeleteLease", pb.DeleteLeaseRequest(name=lease.name))

    def update(self, lease: pb.Lease, who: Caller | None = None, **words: Any) -> pb.Lease:
        answer: pb.Lease = (who or self.ann).client("UpdateLease", change(lease, **words))
        return answer


def ask(
    kind: str = "", *, name: str = "", seconds: float | None = HOUR, **words: Any
) -> pb.CreateLeaseRequest:
    """A request for a board with that `kind`, or with whatever else the lease is to have."""
    lease = pb.Lease(**({"selector": f"kind={kind}"} if kind else {}) | words)
    if seconds is not None:
        lease.duration.CopyFrom(duration_pb2.Duration(seconds=int(seconds)))
    return pb.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)


def change(lease: pb.Lease, *, seconds: float | None = None, **words: Any) -> pb.UpdateLeaseRequest:
    changed = pb.Lease(name=lease.name, **words)
    if seconds is not None:
        changed.duration.CopyFrom(duration_pb2.Duration(seconds=int(seconds)))
    return pb.UpdateLeaseRequest(lease=changed, update_mask=field_mask_pb2.FieldMask(paths=["duration"]))


def at(seconds: float) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(time.time() + seconds))


def said(lease: pb.Lease) -> list[tuple[str, str, str]]:
    """A lease's conditions: type, status and reason, in their order."""
    return [(one.type, one.status, one.reason) for one in lease.conditions]


def bare(resource: str) -> str:
    return resource.rpartition("/")[2]
