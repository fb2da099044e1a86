"""AdminService: administration of clients, exporters, hosts and their tokens. Access to its socket gives all rights."""

from __future__ import annotations

import math

from jumpstarter_proto.lab.v1 import lab_grpc
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.audit import AuditEntry, AuditLog, AuditQuery
from jumpstarter_controller.lab import Client, Draft, Exporter, Host, Key, PairingCode, Policy
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import host_boards, objects
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.services.draining import (
    begin_drain,
    checked_reason,
    drain_state,
    drain_states,
    end_drain,
)
from jumpstarter_controller.services.messages import kind_of, timestamp
from jumpstarter_controller.services.policy_changes import (
    apply_policies,
    delete_policy,
    policy_message,
    policy_record,
)

__all__ = ["AdminService"]

CODE_SECONDS = (10.0, 86400.0)
"""The shortest and the longest validity of a pairing code."""
MAX_ENTRIES = 100_000
ENTRIES_PER_MESSAGE = 500
"""Audit entries in one message."""


class AdminService(lab_grpc.AdminServiceServicer):
    """jumpstarter_sbc.lab.v1.AdminService."""

    def __init__(self, reconciler: Reconciler, credentials: CredentialIssuer, journal: AuditLog) -> None:
        self._reconciler = reconciler
        self._audit_log = journal
        self._credentials = credentials

    async def Create(
        self, request: pb.CreateRequest, call: ServerCall[pb.CreateRequest, pb.Credential]
    ) -> pb.Credential:
        kind, key, labels = kind_of(request.kind), _key(request), dict(request.labels)
        objects.check_names(key, labels)
        record = await self._reconciler.change(
            lambda lab, now: objects.create(lab, now, kind, key, labels, username=request.username)
        )
        return await self._credentials.of(record)

    async def Rotate(
        self, request: pb.ObjectRequest, call: ServerCall[pb.ObjectRequest, pb.Credential]
    ) -> pb.Credential:
        kind, key = kind_of(request.kind), _key(request)
        record = await self._reconciler.change(
            lambda lab, _: objects.renew(lab, objects.existing(lab, kind, key))
        )
        return await self._credentials.of(record)

    async def Delete(
        self, request: pb.ObjectRequest, call: ServerCall[pb.ObjectRequest, pb.Object]
    ) -> pb.Object:
        kind, key = kind_of(request.kind), _key(request)
        return self._object(
            kind, await self._reconciler.change(lambda lab, _: objects.delete(lab, kind, key))
        )

    async def Pair(
        self, request: pb.PairRequest, call: ServerCall[pb.PairRequest, pb.PairingOffer]
    ) -> pb.PairingOffer:
        kind, key, labels = kind_of(request.kind), _key(request), dict(request.labels)
        objects.check_names(key, labels)
        if request.renew and (labels or request.may_label):
            raise RpcError(
                StatusCode.INVALID_ARGUMENT,
                "a new token changes no labels; leave --label or --renew out",
            )
        may_label = host_boards.check_grants(request.may_label)
        shortest, longest = CODE_SECONDS
        if not shortest <= request.seconds <= longest:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "a pairing code is good for 10 s to 24 h; try 10m")

        def apply(draft: Draft, now: float) -> tuple[str, PairingCode]:
            return objects.offer(
                draft,
                now,
                kind,
                key,
                labels,
                seconds=request.seconds,
                again=request.renew,
                may_label=may_label,
            )

        text, record = await self._reconciler.change(apply)
        addresses = self._credentials.addresses
        return pb.PairingOffer(
            kind=kind.value,
            namespace=key.namespace,
            name=key.name,
            code=text,
            expires=timestamp(record.expires),
            endpoint=addresses.endpoint,
            fingerprint=addresses.fingerprint,
        )

    async def SetEnabled(
        self, request: pb.SetEnabledRequest, call: ServerCall[pb.SetEnabledRequest, pb.Object]
    ) -> pb.Object:
        kind = kind_of(request.kind)

        if kind is Kind.HOST:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT,
                "a host cannot be disabled; disable its boards, or revoke its token",
            )

        def apply(draft: Draft, now: float) -> Client | Exporter | Host:
            record = replace(objects.existing(draft, kind, _key(request)), enabled=request.enabled)
            draft.put(record)
            return record

        return self._object(kind, await self._reconciler.change(apply))

    async def ChangeHost(
        self, request: pb.ChangeHostRequest, call: ServerCall[pb.ChangeHostRequest, pb.Object]
    ) -> pb.Object:
        key, labels = Key(request.namespace, request.name), dict(request.labels)
        objects.check_names(key, labels)
        may_label = host_boards.check_grants(request.may_label)

        def apply(draft: Draft, now: float) -> Host:
            host = objects.existing(draft, Kind.HOST, key)
            assert isinstance(host, Host)
            return host_boards.change_host(draft, host, labels, may_label)

        return self._object(Kind.HOST, await self._reconciler.change(apply))

    async def List(
        self, request: pb.ListRequest, call: ServerCall[pb.ListRequest, pb.ListResponse]
    ) -> pb.ListResponse:
        kind = kind_of(request.kind)
        found = [
            one
            for one in self._reconciler.committed.all(objects.TYPES[kind])
            if not request.namespace or one.namespace == request.namespace
        ]
        found.sort(key=lambda one: one.key)
        return pb.ListResponse(objects=[self._object(kind, one) for one in found])

    async def ApplyPolicies(
        self,
        request: pb.ApplyPoliciesRequest,
        call: ServerCall[pb.ApplyPoliciesRequest, pb.ApplyPoliciesResponse],
    ) -> pb.ApplyPoliciesResponse:
        policies = [policy_record(one) for one in request.policies]
        outcomes = await self._reconciler.change(lambda lab, now: apply_policies(lab, now, policies))
        return pb.ApplyPoliciesResponse(outcomes=outcomes)

    async def ListPolicies(
        self,
        request: pb.ListPoliciesRequest,
        call: ServerCall[pb.ListPoliciesRequest, pb.ListPoliciesResponse],
    ) -> pb.ListPoliciesResponse:
        found = [
            one
            for one in self._reconciler.committed.all(Policy)
            if not request.namespace or one.namespace == request.namespace
        ]
        found.sort(key=lambda one: one.key)
        return pb.ListPoliciesResponse(policies=map(policy_message, found))

    async def DeletePolicy(
        self,
        request: pb.DeletePolicyRequest,
        call: ServerCall[pb.DeletePolicyRequest, pb.DeletePolicyResponse],
    ) -> pb.DeletePolicyResponse:
        key = Key(request.namespace, request.name)
        left = await self._reconciler.change(lambda lab, _: delete_policy(lab, key))
        return pb.DeletePolicyResponse(left=left)

    async def DrainLab(
        self, request: pb.DrainLabRequest, call: ServerCall[pb.DrainLabRequest, pb.DrainState]
    ) -> pb.DrainState:
        reason = checked_reason(request.reason)
        await self._reconciler.change(lambda lab, now: begin_drain(lab, now, reason))
        return drain_state(self._reconciler)

    async def ResumeLab(
        self, request: pb.ResumeLabRequest, call: ServerCall[pb.ResumeLabRequest, pb.DrainState]
    ) -> pb.DrainState:
        await self._reconciler.change(lambda lab, _: end_drain(lab))
        return drain_state(self._reconciler)

    async def WatchDrain(
        self, request: pb.WatchDrainRequest, call: ServerCall[pb.WatchDrainRequest, pb.DrainState]
    ) -> None:
        async for state in drain_states(self._reconciler):
            await call.send(state)

    async def ReadJournal(
        self, request: pb.ReadJournalRequest, call: ServerCall[pb.ReadJournalRequest, pb.JournalPage]
    ) -> None:
        now = self._reconciler.clock()
        since, until = request.since_seconds, request.until_seconds
        if math.isnan(since) or math.isnan(until) or request.limit > MAX_ENTRIES:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT, f"ask for a time, and for at most {MAX_ENTRIES} entries"
            )
        query = AuditQuery(
            since=now - since if request.HasField("since_seconds") else 0.0,
            until=now - until if request.HasField("until_seconds") else math.inf,
            namespace=request.namespace,
            board=request.board,
            client=request.client,
            lease=request.lease,
            limit=request.limit or AuditQuery.limit,
        )
        entries, left = await self._audit_log.read(query)
        page = pb.JournalPage(left=left, trouble=self._audit_log.trouble)
        for start in range(0, len(entries), ENTRIES_PER_MESSAGE):
            page.entries.extend(map(_entry, entries[start : start + ENTRIES_PER_MESSAGE]))
            await call.send(page)
            page = pb.JournalPage()
        if not entries:
            await call.send(page)

    def _object(self, kind: Kind, record: Client | Exporter | Host) -> pb.Object:
        found = pb.Object(
            kind=kind.value,
            namespace=record.namespace,
            name=record.name,
            labels=record.labels,
            enabled=record.enabled,
        )
        if isinstance(record, Exporter):
            found.status, found.host = record.status.name, record.host
            if record.gone_since is not None:
                found.gone_since.CopyFrom(timestamp(record.gone_since))
        if isinstance(record, Host):
            found.may_label.extend(record.may_label)
            found.boards.extend(
                one.name for one in host_boards.boards_of(self._reconciler.committed, record.key)
            )
        return found


def _entry(one: AuditEntry) -> pb.JournalEntry:
    return pb.JournalEntry(
        time=timestamp(one.time),
        namespace=one.namespace,
        board=one.board,
        client=one.client,
        lease=one.lease,
        what=one.what,
        more=one.more,
        is_call=one.is_call,
        user=one.user,
        session=one.session,
        device=one.device,
        method=one.method,
        status=one.status,
        seconds=one.seconds,
        received_bytes=one.received,
        sent_bytes=one.sent,
    )


def _key(request: pb.CreateRequest | pb.ObjectRequest | pb.PairRequest | pb.SetEnabledRequest) -> Key:
    return Key(request.namespace, request.name)
