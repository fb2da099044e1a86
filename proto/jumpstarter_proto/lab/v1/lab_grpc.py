"""Typed stubs and servicers of jumpstarter_proto/lab/v1/lab.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


ADMIN_SERVICE_CREATE = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/Create",
    Cardinality.UNARY_UNARY,
    lab_pb2.CreateRequest,
    lab_pb2.Credential,
)
ADMIN_SERVICE_DELETE = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/Delete",
    Cardinality.UNARY_UNARY,
    lab_pb2.ObjectRequest,
    lab_pb2.Object,
)
ADMIN_SERVICE_LIST = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/List",
    Cardinality.UNARY_UNARY,
    lab_pb2.ListRequest,
    lab_pb2.ListResponse,
)
ADMIN_SERVICE_ROTATE = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/Rotate",
    Cardinality.UNARY_UNARY,
    lab_pb2.ObjectRequest,
    lab_pb2.Credential,
)
ADMIN_SERVICE_SET_ENABLED = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/SetEnabled",
    Cardinality.UNARY_UNARY,
    lab_pb2.SetEnabledRequest,
    lab_pb2.Object,
)
ADMIN_SERVICE_PAIR = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/Pair",
    Cardinality.UNARY_UNARY,
    lab_pb2.PairRequest,
    lab_pb2.PairingOffer,
)
ADMIN_SERVICE_APPLY_POLICIES = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/ApplyPolicies",
    Cardinality.UNARY_UNARY,
    lab_pb2.ApplyPoliciesRequest,
    lab_pb2.ApplyPoliciesResponse,
)
ADMIN_SERVICE_LIST_POLICIES = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/ListPolicies",
    Cardinality.UNARY_UNARY,
    lab_pb2.ListPoliciesRequest,
    lab_pb2.ListPoliciesResponse,
)
ADMIN_SERVICE_DELETE_POLICY = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/DeletePolicy",
    Cardinality.UNARY_UNARY,
    lab_pb2.DeletePolicyRequest,
    lab_pb2.DeletePolicyResponse,
)
ADMIN_SERVICE_CHANGE_HOST = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/ChangeHost",
    Cardinality.UNARY_UNARY,
    lab_pb2.ChangeHostRequest,
    lab_pb2.Object,
)
ADMIN_SERVICE_DRAIN_LAB = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/DrainLab",
    Cardinality.UNARY_UNARY,
    lab_pb2.DrainLabRequest,
    lab_pb2.DrainState,
)
ADMIN_SERVICE_RESUME_LAB = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/ResumeLab",
    Cardinality.UNARY_UNARY,
    lab_pb2.ResumeLabRequest,
    lab_pb2.DrainState,
)
ADMIN_SERVICE_WATCH_DRAIN = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/WatchDrain",
    Cardinality.UNARY_STREAM,
    lab_pb2.WatchDrainRequest,
    lab_pb2.DrainState,
)
ADMIN_SERVICE_READ_JOURNAL = Method(
    "/jumpstarter_sbc.lab.v1.AdminService/ReadJournal",
    Cardinality.UNARY_STREAM,
    lab_pb2.ReadJournalRequest,
    lab_pb2.JournalPage,
)


class AdminServiceStub:
    """Calls jumpstarter_sbc.lab.v1.AdminService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def Create(
        self, request: lab_pb2.CreateRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Credential:
        return await self._channel.unary(ADMIN_SERVICE_CREATE, request, timeout=timeout, metadata=metadata)

    async def Delete(
        self, request: lab_pb2.ObjectRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Object:
        return await self._channel.unary(ADMIN_SERVICE_DELETE, request, timeout=timeout, metadata=metadata)

    async def List(
        self, request: lab_pb2.ListRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.ListResponse:
        return await self._channel.unary(ADMIN_SERVICE_LIST, request, timeout=timeout, metadata=metadata)

    async def Rotate(
        self, request: lab_pb2.ObjectRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Credential:
        return await self._channel.unary(ADMIN_SERVICE_ROTATE, request, timeout=timeout, metadata=metadata)

    async def SetEnabled(
        self, request: lab_pb2.SetEnabledRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Object:
        return await self._channel.unary(ADMIN_SERVICE_SET_ENABLED, request, timeout=timeout, metadata=metadata)

    async def Pair(
        self, request: lab_pb2.PairRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.PairingOffer:
        return await self._channel.unary(ADMIN_SERVICE_PAIR, request, timeout=timeout, metadata=metadata)

    async def ApplyPolicies(
        self, request: lab_pb2.ApplyPoliciesRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.ApplyPoliciesResponse:
        return await self._channel.unary(ADMIN_SERVICE_APPLY_POLICIES, request, timeout=timeout, metadata=metadata)

    async def ListPolicies(
        self, request: lab_pb2.ListPoliciesRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.ListPoliciesResponse:
        return await self._channel.unary(ADMIN_SERVICE_LIST_POLICIES, request, timeout=timeout, metadata=metadata)

    async def DeletePolicy(
        self, request: lab_pb2.DeletePolicyRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.DeletePolicyResponse:
        return await self._channel.unary(ADMIN_SERVICE_DELETE_POLICY, request, timeout=timeout, metadata=metadata)

    async def ChangeHost(
        self, request: lab_pb2.ChangeHostRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Object:
        return await self._channel.unary(ADMIN_SERVICE_CHANGE_HOST, request, timeout=timeout, metadata=metadata)

    async def DrainLab(
        self, request: lab_pb2.DrainLabRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.DrainState:
        return await self._channel.unary(ADMIN_SERVICE_DRAIN_LAB, request, timeout=timeout, metadata=metadata)

    async def ResumeLab(
        self, request: lab_pb2.ResumeLabRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.DrainState:
        return await self._channel.unary(ADMIN_SERVICE_RESUME_LAB, request, timeout=timeout, metadata=metadata)

    def WatchDrain(
        self, request: lab_pb2.WatchDrainRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[lab_pb2.WatchDrainRequest, lab_pb2.DrainState]]:
        return self._channel.server_stream(ADMIN_SERVICE_WATCH_DRAIN, request, timeout=timeout, metadata=metadata)

    def ReadJournal(
        self, request: lab_pb2.ReadJournalRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[lab_pb2.ReadJournalRequest, lab_pb2.JournalPage]]:
        return self._channel.server_stream(ADMIN_SERVICE_READ_JOURNAL, request, timeout=timeout, metadata=metadata)


class AdminServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.AdminService; override what you serve."""

    async def Create(self, request: lab_pb2.CreateRequest, call: ServerCall[lab_pb2.CreateRequest, lab_pb2.Credential]) -> lab_pb2.Credential:
        raise self.unimplemented("Create")

    async def Delete(self, request: lab_pb2.ObjectRequest, call: ServerCall[lab_pb2.ObjectRequest, lab_pb2.Object]) -> lab_pb2.Object:
        raise self.unimplemented("Delete")

    async def List(self, request: lab_pb2.ListRequest, call: ServerCall[lab_pb2.ListRequest, lab_pb2.ListResponse]) -> lab_pb2.ListResponse:
        raise self.unimplemented("List")

    async def Rotate(self, request: lab_pb2.ObjectRequest, call: ServerCall[lab_pb2.ObjectRequest, lab_pb2.Credential]) -> lab_pb2.Credential:
        raise self.unimplemented("Rotate")

    async def SetEnabled(self, request: lab_pb2.SetEnabledRequest, call: ServerCall[lab_pb2.SetEnabledRequest, lab_pb2.Object]) -> lab_pb2.Object:
        raise self.unimplemented("SetEnabled")

    async def Pair(self, request: lab_pb2.PairRequest, call: ServerCall[lab_pb2.PairRequest, lab_pb2.PairingOffer]) -> lab_pb2.PairingOffer:
        raise self.unimplemented("Pair")

    async def ApplyPolicies(self, request: lab_pb2.ApplyPoliciesRequest, call: ServerCall[lab_pb2.ApplyPoliciesRequest, lab_pb2.ApplyPoliciesResponse]) -> lab_pb2.ApplyPoliciesResponse:
        raise self.unimplemented("ApplyPolicies")

    async def ListPolicies(self, request: lab_pb2.ListPoliciesRequest, call: ServerCall[lab_pb2.ListPoliciesRequest, lab_pb2.ListPoliciesResponse]) -> lab_pb2.ListPoliciesResponse:
        raise self.unimplemented("ListPolicies")

    async def DeletePolicy(self, request: lab_pb2.DeletePolicyRequest, call: ServerCall[lab_pb2.DeletePolicyRequest, lab_pb2.DeletePolicyResponse]) -> lab_pb2.DeletePolicyResponse:
        raise self.unimplemented("DeletePolicy")

    async def ChangeHost(self, request: lab_pb2.ChangeHostRequest, call: ServerCall[lab_pb2.ChangeHostRequest, lab_pb2.Object]) -> lab_pb2.Object:
        raise self.unimplemented("ChangeHost")

    async def DrainLab(self, request: lab_pb2.DrainLabRequest, call: ServerCall[lab_pb2.DrainLabRequest, lab_pb2.DrainState]) -> lab_pb2.DrainState:
        raise self.unimplemented("DrainLab")

    async def ResumeLab(self, request: lab_pb2.ResumeLabRequest, call: ServerCall[lab_pb2.ResumeLabRequest, lab_pb2.DrainState]) -> lab_pb2.DrainState:
        raise self.unimplemented("ResumeLab")

    async def WatchDrain(self, request: lab_pb2.WatchDrainRequest, call: ServerCall[lab_pb2.WatchDrainRequest, lab_pb2.DrainState]) -> None:
        raise self.unimplemented("WatchDrain")

    async def ReadJournal(self, request: lab_pb2.ReadJournalRequest, call: ServerCall[lab_pb2.ReadJournalRequest, lab_pb2.JournalPage]) -> None:
        raise self.unimplemented("ReadJournal")

    METHODS = (ADMIN_SERVICE_CREATE, ADMIN_SERVICE_DELETE, ADMIN_SERVICE_LIST, ADMIN_SERVICE_ROTATE, ADMIN_SERVICE_SET_ENABLED, ADMIN_SERVICE_PAIR, ADMIN_SERVICE_APPLY_POLICIES, ADMIN_SERVICE_LIST_POLICIES, ADMIN_SERVICE_DELETE_POLICY, ADMIN_SERVICE_CHANGE_HOST, ADMIN_SERVICE_DRAIN_LAB, ADMIN_SERVICE_RESUME_LAB, ADMIN_SERVICE_WATCH_DRAIN, ADMIN_SERVICE_READ_JOURNAL)
