"""An exporter's open status stream: it is online while the stream is open, and hears of each change."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

import trio
from google.protobuf.message import Message
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import replicas_pb2 as pb
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import NOT_ANSWERING, Draft, Exporter, ExporterStatus, Key
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.replicas.peers import Peers
from jumpstarter_controller.scheduling import OFFLINE_SECONDS
from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.exporter_sessions import INSTANCE, ExporterSessions
from jumpstarter_controller.store import StoreError

__all__ = ["ExporterStreams"]

TICK_SECONDS = 30.0
"""An open status stream looks again so often, if nothing wakes it; each costs a lab of many exporters something."""

RETURN_SECONDS = 3.0
"""An exporter usually reconnects within this time, so its record need not be written."""
RETRY_SECONDS = 1.0
MAX_AT_ONCE = 64
ADMIT_SECONDS = 2.0

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)


class ExporterStreams:
    """Serves the status streams of all exporters, for one process of each exporter at a time."""

    def __init__(self, reconciler: Reconciler, auth: CallAuthenticator, peers: Peers | None = None) -> None:
        """`peers` are the other controllers of the lab; None: this is the only one."""
        self._reconciler = reconciler
        self._auth = auth
        self._peers = peers
        self.instances = ExporterSessions()
        self._unsure: dict[Key, float] = {}
        """Exporters whose record may name the wrong controller, and when to check it."""
        self._news = AutoResetEvent()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Keep the `replica` field of exporter records up to date, until cancelled."""
        reconciler = self._reconciler
        since = trio.current_time() + OFFLINE_SECONDS
        self._unsure = {
            one.key: since
            for one in reconciler.committed.all(Exporter)
            if reconciler.replica and one.replica == reconciler.replica
        }
        task_status.started()
        while True:
            now = trio.current_time()
            due = [key for key, when in self._unsure.items() if when <= now][:MAX_AT_ONCE]
            if due:
                # Deleted first: an exporter that reconnects during the write is checked once more.
                for key in due:
                    del self._unsure[key]
                try:
                    await reconciler.change(partial(self._say, due))
                except JumpstarterError as error:
                    _log.debug("the controller that exporters are connected to cannot be written: %s", error)
                    self._unsure |= dict.fromkeys(due, trio.current_time() + RETRY_SECONDS)
                continue
            with trio.move_on_at(min(self._unsure.values(), default=math.inf)):
                await self._news.wait()

    def _say(self, keys: Sequence[Key], draft: Draft, _: float) -> None:
        for key in keys:
            record = draft.get(Exporter, key)
            if record is None:
                continue
            if self._reconciler.presence.is_here(key):
                draft.put(replace(record, replica=self._reconciler.replica))
            elif record.replica == self._reconciler.replica:
                draft.put(replace(record, replica=""))

    def _look_at(self, key: Key, seconds: float) -> None:
        if self._reconciler.replica:
            self._unsure[key] = trio.current_time() + seconds
            self._news.set()

    async def caller(self, call: ServerCall[Any, Any]) -> Exporter:
        """The calling exporter. RpcError: it is not authenticated, or another process of it is served."""
        exporter = await self._auth.exporter(call)
        await self.admit(exporter.key, call)
        return exporter

    async def admit(self, exporter: Key, call: ServerCall[Any, Any]) -> None:
        """Check that no other process of the exporter is served, here or at another controller.

        Raises:
            RpcError: ALREADY_EXISTS, another process is served.
        """
        try:
            self.instances.admit(exporter, call)
        except RpcError:
            self._reconciler.wake(Exporter, exporter)  # notify the process that is served
            raise
        process = call.header(INSTANCE)
        record = self._reconciler.committed.get(Exporter, exporter)
        if (
            self._peers is None
            or not process
            or record is None
            or self._reconciler.presence.is_here(exporter)
        ):
            return
        if record.replica in self._peers.names() and self._peers.answers(record.replica):
            await self._admit_there(record, process, call.peer)

    async def _admit_there(self, exporter: Exporter, process: str, peer: str) -> None:
        assert self._peers is not None
        request = pb.AdmitProcessRequest(
            namespace=exporter.namespace, exporter=exporter.name, process=process, peer=peer
        )
        try:
            async with self._peers.reach(exporter.replica) as other:
                await other.AdmitProcess(request, timeout=ADMIT_SECONDS)
        except RpcError as error:
            if error.code is StatusCode.ALREADY_EXISTS:
                raise
            _log.debug("controller %s did not answer which process it serves: %s", exporter.replica, error)

    async def report(
        self,
        call: ServerCall[Any, Any],
        number: int,
        apply: Callable[[Draft, Key, ExporterStatus], None],
    ) -> None:
        """Store the status that the calling exporter reports, unless it has reported a newer one.

        Raises:
            RpcError: INVALID_ARGUMENT, `number` is not a status.
        """
        exporter = await self.caller(call)
        try:
            status = ExporterStatus(number)
        except ValueError:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{number} is not an exporter status") from None
        if not self.instances.is_news(exporter.key, call):
            return
        self._reconciler.presence.saw(exporter.key, self._reconciler.clock())
        await self._reconciler.change(lambda lab, _: apply(lab, exporter.key, status))

    async def serve(
        self, call: ServerCall[Any, M], current: Callable[[Key], M], between: Callable[[M, M], M | None]
    ) -> None:
        """Send the `current` message and each new version of it, until cancelled or rejected.

        `between` returns a message to send between two versions, if one is needed.
        """
        session = await self._auth.exporter_session(call)
        exporter = session.record
        key, reconciler = exporter.key, self._reconciler
        await self.admit(key, call)
        disputed = self.instances.opened(key, call)
        reconciler.presence.connected(key, reconciler.clock())
        _log.info("exporter connected", extra=about(exporter, peer=call.peer))
        try:
            try:
                await reconciler.change(_back_online(key, reconciler.replica))
            except StoreError as error:
                if not reconciler.replica:
                    raise
                _log.debug("the exporter's connection is written later: %s", error)
                self._look_at(key, RETRY_SECONDS)
            sent: M | None = None
            is_known = False
            while True:
                session.check()
                self._check_answers(key)
                is_known = self._check_known(key, is_known=is_known)
                now = current(key)
                if sent is not None and (first := between(sent, now)) is not None:
                    await call.send(first)
                if sent != now:
                    await call.send(now)
                    sent = now
                elif disputed.is_set():
                    raise self.instances.dispute(key)
                else:
                    await reconciler.wait(Exporter, key, session.pause(TICK_SECONDS))
        finally:
            self.instances.closed(key, call)
            _log.info("exporter's connection has ended", extra=about(exporter, peer=call.peer))
            reconciler.presence.disconnected(key, reconciler.clock())
            self._look_at(key, RETURN_SECONDS)

    def _check_known(self, key: Key, *, is_known: bool) -> bool:
        """Whether its record names this controller, or did so before (`is_known`).

        Raises:
            RpcError: ABORTED, another controller has marked the exporter offline since.
        """
        record = self._reconciler.committed.get(Exporter, key)
        if record is None or not self._reconciler.replica or record.replica == self._reconciler.replica:
            return True
        if is_known and not record.replica:
            if record.status is ExporterStatus.OFFLINE:
                raise RpcError(
                    StatusCode.ABORTED,
                    f"{record.status_message or 'the exporter was marked offline'}; connect again",
                )
            self._look_at(key, 0.0)
        return is_known

    def _check_answers(self, key: Key) -> None:
        """An exporter that did not answer an offer has to register again."""
        record = self._reconciler.committed.get(Exporter, key)
        for reason in record.reasons if record is not None else ():
            if reason.code == NOT_ANSWERING:
                raise RpcError(StatusCode.ABORTED, f"{reason.sentence}; connect again")


def _back_online(key: Key, replica: str) -> Callable[[Draft, float], None]:
    """Set the exporter's controller, and clear OFFLINE: exporters before 0.8 report no status."""

    def apply(draft: Draft, _: float) -> None:
        record = draft.get(Exporter, key)
        if record is None:
            return
        if record.status is ExporterStatus.OFFLINE:
            record = replace(record, status=ExporterStatus.UNSPECIFIED, status_message="", reasons=())
        if (after := replace(record, replica=replica)) != draft.get(Exporter, key):
            draft.put(after)

    return apply
