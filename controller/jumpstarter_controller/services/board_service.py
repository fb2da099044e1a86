"""BoardService: hosts register an exporter for each of their boards, and get its token without a person involved."""

from __future__ import annotations

import logging
import math

import trio
from jumpstarter_proto.lab.v1 import boards_grpc, lab_pb2
from jumpstarter_proto.lab.v1 import boards_pb2 as pb
from jumpstarter_proto.rpc import Attempts, RpcError, ServerCall, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_controller.lab import Draft, Exporter, Host
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import host_boards
from jumpstarter_controller.services.auth import CallAuthenticator, CallerSession
from jumpstarter_controller.services.credentials import CredentialIssuer

__all__ = ["BoardService"]

MAX_CALLS_PER_MINUTE = 300
"""Calls per minute of one host: all of its boards can restart twice."""
_log = logging.getLogger(__name__)


class BoardService(boards_grpc.BoardServiceServicer):
    """jumpstarter_sbc.lab.v1.BoardService."""

    def __init__(
        self,
        reconciler: Reconciler,
        auth: CallAuthenticator,
        credentials: CredentialIssuer,
        calls: Attempts | None = None,
    ) -> None:
        self._reconciler = reconciler
        self._auth = auth
        self._credentials = credentials
        self._calls = calls or Attempts(per_peer=MAX_CALLS_PER_MINUTE, overall=100 * MAX_CALLS_PER_MINUTE)

    async def RegisterBoard(
        self, request: pb.RegisterBoardRequest, call: ServerCall[pb.RegisterBoardRequest, lab_pb2.Credential]
    ) -> lab_pb2.Credential:
        session = await self._auth.host_session(call)
        self._check_rate(session)

        def apply(draft: Draft, now: float) -> Exporter:
            return host_boards.register_board(
                draft, now, self._current(draft, session), request.name, request.labels
            )

        try:
            record = await self._reconciler.change(apply)
        except RpcError as error:
            _log.warning(
                "board %s refused: %s",
                shown(request.name, 80),
                error,
                extra=about(session.record, peer=call.peer),
            )
            raise
        return await self._credentials.of(record)

    async def RetireBoard(
        self, request: pb.RetireBoardRequest, call: ServerCall[pb.RetireBoardRequest, pb.RetireBoardResponse]
    ) -> pb.RetireBoardResponse:
        session = await self._auth.host_session(call)
        self._check_rate(session)
        await self._reconciler.change(
            lambda lab, now: host_boards.retire_board(lab, now, self._current(lab, session), request.name)
        )
        return pb.RetireBoardResponse()

    @staticmethod
    def _current(draft: Draft, session: CallerSession[Host]) -> Host:
        """The current record of the host. RpcError: it was deleted or its token was rotated during the call."""
        session.check(draft)
        return draft.get(Host, session.record.key) or session.record

    def _check_rate(self, session: CallerSession[Host]) -> None:
        host = session.record
        if wait := self._calls.take(str(host.key), trio.current_time()):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"host {host.name} asks more than {MAX_CALLS_PER_MINUTE} times a minute; "
                f"try again in {math.ceil(wait)} s",
            )
