"""EnrolmentService: exchanges pairing codes for tokens, and renews tokens before they expire."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import trio
from jumpstarter_proto.lab.v1 import enrolment_grpc, lab_pb2
from jumpstarter_proto.lab.v1 import enrolment_pb2 as pb
from jumpstarter_proto.rpc import Attempts, RpcError, ServerCall, StatusCode, network_of

from jumpstarter_controller.identity.oidc import IssuerSettings
from jumpstarter_controller.lab import PairingCode
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import objects
from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.services.messages import kind_of

__all__ = ["EnrolmentService"]

MAX_RENEWALS_PER_MINUTE = 30
"""Renewals per minute of one client, exporter or host."""
_log = logging.getLogger(__name__)


class EnrolmentService(enrolment_grpc.EnrolmentServiceServicer):
    """jumpstarter_sbc.lab.v1.EnrolmentService.

    A code can be used once. If the reply was lost, a caller that sent a nonce can repeat the call with it; others need
    another code: `admin pair --renew`.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        auth: CallAuthenticator,
        credentials: CredentialIssuer,
        attempts: Attempts | None = None,
        issuers: Sequence[IssuerSettings] = (),
    ) -> None:
        self._auth = auth
        self._reconciler = reconciler
        self._issuers = issuers
        self._credentials = credentials
        self._attempts = attempts or Attempts()
        self._renewals = Attempts(per_peer=MAX_RENEWALS_PER_MINUTE, overall=100 * MAX_RENEWALS_PER_MINUTE)

    async def Enrol(
        self, request: pb.EnrolRequest, call: ServerCall[pb.EnrolRequest, lab_pb2.Credential]
    ) -> lab_pb2.Credential:
        kind = kind_of(request.kind)
        peer, taken = network_of(call.peer), trio.current_time()
        if wait := self._attempts.take(peer, taken):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"too many wrong pairing codes; try again in {math.ceil(wait)} s",
            )
        rests_on = (PairingCode, objects.TYPES[kind])  # strangers call this, and it must not cost much
        try:
            record = await self._reconciler.change(
                lambda lab, now: objects.enrol(lab, now, kind, request.code, request.nonce),
                rests_on=rests_on,
            )
            if request.nonce:
                record = await self._reconciler.change(
                    lambda lab, now: objects.confirm(lab, now, kind, request.code, request.nonce),
                    rests_on=rests_on,
                )
        except RpcError as error:
            if error.code is not StatusCode.PERMISSION_DENIED:
                self._attempts.give_back(peer, taken)
            _log.warning("pairing code refused: %s", error.code.name, extra=about(peer=call.peer))
            raise
        self._attempts.give_back(peer, taken)
        _log.info("enrolled", extra=about(record, peer=call.peer))
        return await self._credentials.of(record)

    async def RenewToken(
        self, request: pb.RenewTokenRequest, call: ServerCall[pb.RenewTokenRequest, lab_pb2.Credential]
    ) -> lab_pb2.Credential:
        session = await self._auth.any_session(call)
        if session.external:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                "this token is another issuer's, which alone can make a new one; log in again",
            )
        whose = session.record
        if wait := self._renewals.take(f"{whose.KIND} {whose.key}", trio.current_time()):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{whose.KIND} {whose.name} asks for too many tokens; try again in {math.ceil(wait)} s",
            )
        session.check()
        return await self._credentials.of(self._reconciler.committed.get(type(whose), whose.key) or whose)

    async def ListIssuers(
        self,
        request: pb.ListIssuersRequest,
        call: ServerCall[pb.ListIssuersRequest, pb.ListIssuersResponse],
    ) -> pb.ListIssuersResponse:
        return pb.ListIssuersResponse(
            issuers=[pb.Issuer(url=one.url, audiences=one.audiences, ca=one.ca) for one in self._issuers]
        )

    async def WhoAmI(
        self, request: pb.WhoAmIRequest, call: ServerCall[pb.WhoAmIRequest, pb.WhoAmIResponse]
    ) -> pb.WhoAmIResponse:
        client = await self._auth.client(call)
        return pb.WhoAmIResponse(namespace=client.namespace, name=client.name)
