"""LabService: devices of exporters, and watches of exporters and leases, for our clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from jumpstarter_proto.lab.v1 import exporters_grpc
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_controller.lab import Client, Exporter, ExporterDevices, Key
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.health_reports import HealthReports
from jumpstarter_controller.services.lab_watch import watch_lab, watch_lease
from jumpstarter_controller.services.messages import timestamp

__all__ = ["LabService"]

MAX_WATCHES = 64
"""The limit of one client's watches of exporters and leases."""
PAGE_SIZE = 1024 * 1024
"""Bytes after which a page gets no further exporter. One exporter has at most as many; the message limit is 4 MiB."""


class LabService(exporters_grpc.LabServiceServicer):
    """jumpstarter_sbc.lab.v1.LabService."""

    def __init__(self, reconciler: Reconciler, auth: CallAuthenticator, health: HealthReports) -> None:
        self._reconciler = reconciler
        self._auth = auth
        self._health = health
        self._watches: Counter[Key] = Counter()
        """Open watches of each client, without watches of a single lease."""

    async def GetExporterDetails(
        self,
        request: pb.GetExporterDetailsRequest,
        call: ServerCall[pb.GetExporterDetailsRequest, pb.ExporterDetails],
    ) -> pb.ExporterDetails:
        client = await self._auth.client(call)
        exporter = self._reconciler.committed.get(Exporter, Key(client.namespace, request.name))
        if exporter is None:
            raise RpcError(
                StatusCode.NOT_FOUND,
                f"exporter {shown(request.name)} not found; see which there are: jumpstarter exporters",
            )
        return self._details(exporter)

    async def ListExporterDetails(
        self,
        request: pb.ListExporterDetailsRequest,
        call: ServerCall[pb.ListExporterDetailsRequest, pb.ListExporterDetailsResponse],
    ) -> pb.ListExporterDetailsResponse:
        client = await self._auth.client(call)
        found = [
            one
            for one in self._reconciler.committed.all(Exporter)
            if one.namespace == client.namespace and one.name > request.page_token
        ]
        page = pb.ListExporterDetailsResponse()
        size = 0
        for exporter in sorted(found, key=lambda one: one.name):
            if size > PAGE_SIZE:
                page.next_page_token = page.exporters[-1].name
                break
            details = self._details(exporter)
            size += details.ByteSize()
            page.exporters.append(details)
        return page

    async def Watch(self, request: pb.WatchRequest, call: ServerCall[pb.WatchRequest, pb.LabNews]) -> None:
        session = await self._auth.client_session(call)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.watch)
            with self._counted(session.record, request):
                watch = watch_lease if request.lease else watch_lab
                await watch(self._reconciler, session.record, request, call)

    @contextmanager
    def _counted(self, client: Client, request: pb.WatchRequest) -> Iterator[None]:
        """Count a watch during the block. Watches of the whole lab are limited: each change costs time for each."""
        if not request.lease:
            if self._watches[client.key] >= MAX_WATCHES:
                raise RpcError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"client {client.name} watches {MAX_WATCHES} times already, and may no more; end some",
                )
            self._watches[client.key] += 1
        self._reconciler.counters.watches += 1
        try:
            yield
        finally:
            self._reconciler.counters.watches -= 1
            if not request.lease:
                self._watches[client.key] -= 1
                self._watches += Counter()  # without those that are none

    def _details(self, exporter: Exporter) -> pb.ExporterDetails:
        known = self._reconciler.committed.get(ExporterDevices, exporter.key)
        details = pb.ExporterDetails(name=exporter.name, host=exporter.host)
        if exporter.gone_since is not None:
            details.gone_since.CopyFrom(timestamp(exporter.gone_since))
        for reason in exporter.reasons:
            details.reasons.add(code=reason.code, sentence=reason.sentence)
        self._add_health(exporter, details)
        if known is not None:
            details.omitted_devices = known.omitted
            for hook in known.hooks:
                details.hooks.add(
                    name=hook.name, timeout_seconds=hook.timeout_seconds, on_failure=hook.on_failure
                )
            for one in known.devices:
                details.devices.add(
                    path=one.path,
                    interface=one.interface,
                    client=one.client,
                    state=one.state,
                    reason=one.reason,
                    description=one.description,
                )
        return details

    def _add_health(self, exporter: Exporter, details: pb.ExporterDetails) -> None:
        if (report := self._health.of(exporter)) is None:
            return
        health = details.health
        health.omitted_findings = report.omitted
        health.measures.update(report.measures)
        health.reported.CopyFrom(timestamp(report.reported))
        for one in report.findings:
            health.findings.add(
                key=one.key,
                severity=one.severity,
                subject=one.subject,
                sentence=one.sentence,
                cure=one.cure,
            )
