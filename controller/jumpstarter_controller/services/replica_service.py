"""ReplicaService: calls between the controllers of a lab, authenticated by their shared key (`replicas.peers`)."""

from __future__ import annotations

from jumpstarter_proto.lab.v1 import replicas_grpc
from jumpstarter_proto.lab.v1 import replicas_pb2 as pb
from jumpstarter_proto.rpc import RpcError, ServerCall
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Exporter, Key
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.dial_queues import DialQueues
from jumpstarter_controller.services.exporter_sessions import ExporterSessions
from jumpstarter_controller.services.rendezvous import router_connection

__all__ = ["ReplicaService"]

MAX_SECONDS = 5.0


class ReplicaService(replicas_grpc.ReplicaServiceServicer):
    """jumpstarter_sbc.lab.v1.ReplicaService."""

    def __init__(self, reconciler: Reconciler, listening: DialQueues, instances: ExporterSessions) -> None:
        self._reconciler = reconciler
        self._dial_queues = listening
        self._instances = instances

    async def FindListener(
        self,
        request: pb.FindListenerRequest,
        call: ServerCall[pb.FindListenerRequest, pb.FindListenerResponse],
    ) -> pb.FindListenerResponse:
        call.set_authenticated("controller")
        lease = Key(request.namespace, request.lease)
        await self._dial_queues.until(lease, max(0.0, min(request.seconds, MAX_SECONDS)))
        return pb.FindListenerResponse(listens=self._dial_queues.has(lease))

    async def HandOver(
        self, request: pb.HandOverRequest, call: ServerCall[pb.HandOverRequest, pb.HandOverResponse]
    ) -> pb.HandOverResponse:
        call.set_authenticated("controller")
        said = request.connection
        self._dial_queues.push(
            Key(request.namespace, request.lease),
            jumpstarter_pb2.ListenResponse(
                router_endpoint=said.router_endpoint, router_token=said.router_token
            ),
        )
        return pb.HandOverResponse()

    async def TakeListener(
        self,
        request: pb.TakeListenerRequest,
        call: ServerCall[pb.TakeListenerRequest, pb.TakeListenerResponse],
    ) -> pb.TakeListenerResponse:
        call.set_authenticated("controller")
        waiting = self._dial_queues.take(Key(request.namespace, request.lease), request.process)
        return pb.TakeListenerResponse(waiting=map(router_connection, waiting))

    async def AdmitProcess(
        self,
        request: pb.AdmitProcessRequest,
        call: ServerCall[pb.AdmitProcessRequest, pb.AdmitProcessResponse],
    ) -> pb.AdmitProcessResponse:
        call.set_authenticated("controller")
        key = Key(request.namespace, request.exporter)
        try:
            self._instances.admit_process(key, request.process, request.peer)
        except RpcError:
            self._reconciler.wake(Exporter, key)  # the one that is served is told
            raise
        return pb.AdmitProcessResponse()

    async def NoteWaiters(
        self, request: pb.NoteWaitersRequest, call: ServerCall[pb.NoteWaitersRequest, pb.NoteWaitersResponse]
    ) -> pb.NoteWaitersResponse:
        call.set_authenticated("controller")
        self._reconciler.heard_elsewhere(
            {Key(one.namespace, one.lease): one.knows for one in request.waiters}
        )
        return pb.NoteWaitersResponse()
