"""Typed stubs and servicers of jumpstarter_proto/lab/v1/replicas.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import replicas_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


REPLICA_SERVICE_FIND_LISTENER = Method(
    "/jumpstarter_sbc.lab.v1.ReplicaService/FindListener",
    Cardinality.UNARY_UNARY,
    replicas_pb2.FindListenerRequest,
    replicas_pb2.FindListenerResponse,
)
REPLICA_SERVICE_HAND_OVER = Method(
    "/jumpstarter_sbc.lab.v1.ReplicaService/HandOver",
    Cardinality.UNARY_UNARY,
    replicas_pb2.HandOverRequest,
    replicas_pb2.HandOverResponse,
)
REPLICA_SERVICE_TAKE_LISTENER = Method(
    "/jumpstarter_sbc.lab.v1.ReplicaService/TakeListener",
    Cardinality.UNARY_UNARY,
    replicas_pb2.TakeListenerRequest,
    replicas_pb2.TakeListenerResponse,
)
REPLICA_SERVICE_ADMIT_PROCESS = Method(
    "/jumpstarter_sbc.lab.v1.ReplicaService/AdmitProcess",
    Cardinality.UNARY_UNARY,
    replicas_pb2.AdmitProcessRequest,
    replicas_pb2.AdmitProcessResponse,
)
REPLICA_SERVICE_NOTE_WAITERS = Method(
    "/jumpstarter_sbc.lab.v1.ReplicaService/NoteWaiters",
    Cardinality.UNARY_UNARY,
    replicas_pb2.NoteWaitersRequest,
    replicas_pb2.NoteWaitersResponse,
)


class ReplicaServiceStub:
    """Calls jumpstarter_sbc.lab.v1.ReplicaService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def FindListener(
        self, request: replicas_pb2.FindListenerRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> replicas_pb2.FindListenerResponse:
        return await self._channel.unary(REPLICA_SERVICE_FIND_LISTENER, request, timeout=timeout, metadata=metadata)

    async def HandOver(
        self, request: replicas_pb2.HandOverRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> replicas_pb2.HandOverResponse:
        return await self._channel.unary(REPLICA_SERVICE_HAND_OVER, request, timeout=timeout, metadata=metadata)

    async def TakeListener(
        self, request: replicas_pb2.TakeListenerRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> replicas_pb2.TakeListenerResponse:
        return await self._channel.unary(REPLICA_SERVICE_TAKE_LISTENER, request, timeout=timeout, metadata=metadata)

    async def AdmitProcess(
        self, request: replicas_pb2.AdmitProcessRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> replicas_pb2.AdmitProcessResponse:
        return await self._channel.unary(REPLICA_SERVICE_ADMIT_PROCESS, request, timeout=timeout, metadata=metadata)

    async def NoteWaiters(
        self, request: replicas_pb2.NoteWaitersRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> replicas_pb2.NoteWaitersResponse:
        return await self._channel.unary(REPLICA_SERVICE_NOTE_WAITERS, request, timeout=timeout, metadata=metadata)


class ReplicaServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.ReplicaService; override what you serve."""

    async def FindListener(self, request: replicas_pb2.FindListenerRequest, call: ServerCall[replicas_pb2.FindListenerRequest, replicas_pb2.FindListenerResponse]) -> replicas_pb2.FindListenerResponse:
        raise self.unimplemented("FindListener")

    async def HandOver(self, request: replicas_pb2.HandOverRequest, call: ServerCall[replicas_pb2.HandOverRequest, replicas_pb2.HandOverResponse]) -> replicas_pb2.HandOverResponse:
        raise self.unimplemented("HandOver")

    async def TakeListener(self, request: replicas_pb2.TakeListenerRequest, call: ServerCall[replicas_pb2.TakeListenerRequest, replicas_pb2.TakeListenerResponse]) -> replicas_pb2.TakeListenerResponse:
        raise self.unimplemented("TakeListener")

    async def AdmitProcess(self, request: replicas_pb2.AdmitProcessRequest, call: ServerCall[replicas_pb2.AdmitProcessRequest, replicas_pb2.AdmitProcessResponse]) -> replicas_pb2.AdmitProcessResponse:
        raise self.unimplemented("AdmitProcess")

    async def NoteWaiters(self, request: replicas_pb2.NoteWaitersRequest, call: ServerCall[replicas_pb2.NoteWaitersRequest, replicas_pb2.NoteWaitersResponse]) -> replicas_pb2.NoteWaitersResponse:
        raise self.unimplemented("NoteWaiters")

    METHODS = (REPLICA_SERVICE_FIND_LISTENER, REPLICA_SERVICE_HAND_OVER, REPLICA_SERVICE_TAKE_LISTENER, REPLICA_SERVICE_ADMIT_PROCESS, REPLICA_SERVICE_NOTE_WAITERS)
