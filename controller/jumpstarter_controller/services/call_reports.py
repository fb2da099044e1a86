"""Adds the driver calls that exporters report to the audit log. Reports are untrusted; invalid ones raise no error."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import suppress

import trio
from jumpstarter_proto.lab.v1 import exporter_pb2 as pb
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_controller.audit import AuditEntry, AuditError, AuditLog, CallReport
from jumpstarter_controller.lab import Exporter, ExporterDevices, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler

__all__ = ["MAX_CALLS", "CallReports", "call_entry"]

MAX_CALLS = 512
"""The number of calls in a report that are stored. Further calls are only counted."""
MAX_AGE = 86400.0
"""The largest age of a call, in seconds. A larger one is reduced to it."""
MAX_SECONDS = 366 * 86400.0
MAX_BYTES = 2**53
MAX_NAME_LENGTH = 255
MAX_METHOD_LENGTH = 64
MAX_USER_LENGTH = 64
MAX_OMITTED = 10**9


def call_entry(
    call: pb.DeviceCall,
    exporter: Key,
    now: float,
    lease_of: Callable[[str], Lease | None],
    devices: Collection[str] | None,
    *,
    owner_at: Callable[[Lease, float], str],
) -> AuditEntry:
    """The audit entry of a call. `owner_at` is the client who had a lease at a time.

    `devices` are the exporter's devices; None: not all of them are known.
    """
    notes = []
    name = shown(call.lease, MAX_NAME_LENGTH)
    lease = lease_of(call.lease) if call.lease else None
    if lease is not None and (lease.namespace, lease.exporter) != exporter:
        lease = None
    if lease is None and name:
        notes.append(f"said to be of lease {name}, which is not this exporter's")
    device = shown(call.device, MAX_NAME_LENGTH)
    if device and devices is not None and call.device not in devices:
        notes.append("no device that it has registered")
    user = shown(call.user, MAX_USER_LENGTH)
    if call.by_hook:
        notes.append("by a hook")
    elif not name and not user:
        notes.append("by a user who is unknown on its host")
    time = now - _within(call.age_seconds, MAX_AGE)
    return AuditEntry(
        time=time,
        namespace=exporter.namespace,
        board=exporter.name,
        client="" if lease is None else owner_at(lease, time),
        lease="" if lease is None else lease.name,
        what="; ".join(notes),
        is_call=True,
        user=user,
        session=shown(call.session, MAX_USER_LENGTH),
        device=device,
        method=shown(call.method, MAX_METHOD_LENGTH),
        status=call.status if not call.status or call.status in StatusCode.__members__ else "UNKNOWN",
        seconds=_within(call.seconds, MAX_SECONDS),
        received=min(call.received_bytes, MAX_BYTES),
        sent=min(call.sent_bytes, MAX_BYTES),
    )


def _within(value: float, most: float) -> float:
    return min(max(value, 0.0), most) if math.isfinite(value) else 0.0


class CallReports:
    """Takes the reports of all exporters. Each call is stored once, even if it is reported again."""

    def __init__(self, reconciler: Reconciler, journal: AuditLog) -> None:
        self._reconciler = reconciler
        self._audit_log = journal
        self._taken: dict[Key, CallReport] = {}
        """The last report of each exporter."""
        self._remembering = trio.Lock()
        self._has_remembered = False

    async def take(self, exporter: Exporter, request: pb.ReportCallsRequest) -> None:
        """Have the journal keep it."""
        if not self._has_remembered:
            await self._remember()
        omitted = min(request.omitted, MAX_OMITTED)
        again = self._again(exporter, request, len(request.calls) + omitted)
        calls = request.calls[again : again + MAX_CALLS]
        left = len(request.calls) + omitted - again - len(calls)
        view, now, key = self._reconciler.committed, self._reconciler.clock(), exporter.key
        known = view.get(ExporterDevices, key)
        devices = None
        if known is not None and not known.omitted:
            devices = {device.path for device in known.devices}

        def lease_of(name: str) -> Lease | None:
            return view.get(Lease, Key(key.namespace, name))

        source = ("calls", key.namespace, key.name)
        for call in calls:
            entry = call_entry(call, key, now, lease_of, devices, owner_at=self._reconciler.owners.at)
            self._audit_log.write(entry, source)
        if left > 0:
            rest = AuditEntry(now, key.namespace, key.name, is_call=True)
            self._audit_log.count(rest, source, left)
        if (report := self._taken.get(key)) is not None:
            self._audit_log.note_report(key, report)

    async def _remember(self) -> None:
        """Load which reports an earlier run of the controller has stored, if the audit log can be read."""
        async with self._remembering:
            if self._has_remembered:
                return
            found = {}
            with suppress(AuditError):  # who writes it says why
                found = await self._audit_log.reports()
            for (namespace, name), report in found.items():
                self._taken.setdefault(Key(namespace, name), report)
            self._has_remembered = True

    def _again(self, exporter: Exporter, request: pb.ReportCallsRequest, count: int) -> int:
        """How many of these calls were already stored, because the reply to an earlier report was lost."""
        before = self._taken.get(exporter.key)
        reporter = request.reporter[:MAX_USER_LENGTH]
        known = 0
        if before is not None and (before.uid, before.reporter) == (exporter.uid, reporter):
            known = before.next
        following = max(known, request.first + count)
        self._taken[exporter.key] = CallReport(exporter.uid, reporter, following, self._reconciler.clock())
        if len(self._taken) > self._reconciler.committed.count(Exporter):
            for key in [one for one in self._taken if self._reconciler.committed.get(Exporter, one) is None]:
                del self._taken[key]
        return min(count, max(0, known - request.first))
