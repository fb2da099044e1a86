"""The exporter's side of the controller's API. Failures are retried for as long as the process lives."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import trio
from jumpstarter_proto.call_metadata import INSTANCE, SEQUENCE
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.lab.v1 import exporter_pb2
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceStub
from jumpstarter_proto.lab.v1.exporter_grpc import ExporterServiceStub
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.remote import (
    ANSWERS,
    KEEPALIVE,
    Backoff,
    Identity,
    Trust,
    open_controller,
    open_router_stream,
    read_claims,
)
from jumpstarter_proto.rpc import Caller, LimitedLog, Metadata, Options, RpcError, StatusCode
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import (
    DriverInstanceReport,
    ListenRequest,
    ListenResponse,
    RegisterRequest,
    ReleaseLeaseRequest,
    ReportStatusRequest,
    StatusRequest,
    UnregisterRequest,
)

from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment, lease_assignment_of
from jumpstarter_exporter.registration.retry_policy import (
    RateLimit,
    RetryDelay,
    RetryPolicy,
    is_gone,
    is_rejection,
)
from jumpstarter_exporter.status import StatusReason

__all__ = ["ControllerConnection", "RegistrationCalls", "Renewal", "accept_all"]

CALL_SECONDS = 10.0
CALL_RETRY_SECONDS = 0.3, 10.0
"""The first and the longest pause between two attempts at Listen or ReleaseLease."""
WARN_SECONDS = 30 * 86400.0
"""The remaining validity of a token at which a warning is logged."""
RENEWAL_PAUSE_SECONDS = 5.0, 600.0
"""The first and the longest pause between two attempts to renew a token."""
RENEWAL_LOOK_SECONDS = 3600.0
RENEWAL_UNSUPPORTED_CODES = frozenset((StatusCode.UNIMPLEMENTED, StatusCode.FAILED_PRECONDITION))
STEADY_SECONDS = 5.0
"""A conversation that lasted this long has succeeded; its end counts as a first failure."""
ASSIGNMENT_RATE = (100, 5.0)
DIAL_RATE = (256, 10.0)
"""The burst and the rate per second at which messages of a controller are processed; this bounds its load on the
host."""
MAX_QUOTED_LENGTH = 1000
"""Characters of a log line that quotes the controller."""
LEASE_GONE_CODES = frozenset((StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION))
"""Status codes for a lease that the exporter no longer has: nothing is left to release."""

_log = logging.getLogger(__name__)


class RegistrationCalls:
    """The calls that an exporter makes on one connection."""

    def __init__(self, channel: Caller, sequence: itertools.count[int], quoted: LimitedLog) -> None:
        """`quoted` logs lines that quote the controller."""
        self._quoted = quoted
        self.stub = ControllerServiceStub(channel)
        self.lab = ExporterServiceStub(channel)
        """Only our controllers have it; others on_offer UNIMPLEMENTED."""
        self.enrolment = EnrolmentServiceStub(channel)
        """Only our controllers have it."""
        self._sequence = sequence

    async def register(self, labels: Mapping[str, str], reports: Sequence[DriverInstanceReport]) -> None:
        """Register with these devices."""
        request = RegisterRequest(labels=labels, reports=reports)
        await self.stub.Register(request, timeout=CALL_SECONDS, metadata=[(ANSWERS, "1")])

    async def report(
        self, status: ExporterStatus, message: str, reasons: Sequence[StatusReason] = ()
    ) -> None:
        """Report the status and why the board is not available. Other controllers get only the message."""
        if reasons and await self._report_reasons(status, message, reasons):
            return
        request = ReportStatusRequest(status=f"EXPORTER_STATUS_{status.name}", message=message)
        try:
            await self.stub.ReportStatus(request, timeout=CALL_SECONDS, metadata=self._sequence_metadata())
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:  # a controller before 0.8
                raise

    async def _report_reasons(
        self, status: ExporterStatus, message: str, reasons: Sequence[StatusReason]
    ) -> bool:
        """Report with reasons; False if the controller does not support that."""
        request = exporter_pb2.ReportStatusRequest(
            status=f"EXPORTER_STATUS_{status.name}", message=message, reasons=_reasons_on_wire(reasons)
        )
        try:
            await self.lab.ReportStatus(request, timeout=CALL_SECONDS, metadata=self._sequence_metadata())
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    def _sequence_metadata(self) -> Metadata:
        return [(SEQUENCE, str(next(self._sequence)))]

    async def accept(self, lease: str) -> None:
        """Accept an offered lease: it begins. Succeeds if the offer is no longer valid."""
        try:
            await self.lab.AcceptLease(exporter_pb2.AcceptLeaseRequest(lease=lease), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code not in LEASE_GONE_CODES:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))

    async def decline(self, lease: str, reasons: Sequence[StatusReason]) -> None:
        """Decline an offered lease: another exporter serves it, and this one is not available.

        The first of `reasons` is shown to people; at least one is needed. Report AVAILABLE when none is left. Succeeds
        if the offer is no longer valid.
        """
        request = exporter_pb2.DeclineLeaseRequest(lease=lease, reasons=_reasons_on_wire(reasons))
        try:
            await self.lab.DeclineLease(request, timeout=CALL_SECONDS, metadata=self._sequence_metadata())
        except RpcError as error:
            if error.code not in LEASE_GONE_CODES:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))

    async def unregister(self, reason: str) -> None:
        """Unregister the exporter."""
        await self.stub.Unregister(UnregisterRequest(reason=reason), timeout=CALL_SECONDS)

    async def release(self, lease: str) -> None:
        """Return a lease. Succeeds if the exporter no longer has it."""
        try:
            await self.stub.ReleaseLease(ReleaseLeaseRequest(name=lease), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code not in LEASE_GONE_CODES:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))


def _quote(text: str) -> str:
    """The text for a log line: printable and bounded."""
    return shown(text, MAX_QUOTED_LENGTH)


def _reasons_on_wire(reasons: Sequence[StatusReason]) -> list[exporter_pb2.Reason]:
    return [exporter_pb2.Reason(code=one.code, sentence=one.sentence) for one in reasons]


def accept_all(_: LeaseAssignment) -> Sequence[StatusReason]:
    """Accept every lease."""
    return ()


def ignore(_: LeaseAssignment | None) -> None:
    """Do nothing with a waiting lease."""


class Renewal(Protocol):
    """Renews tokens."""

    def seconds(self, identity: Identity) -> float | None:
        """Seconds until the token should be renewed, by this machine's clock; negative if overdue, None for never."""

    async def renew(
        self, calls: RegistrationCalls, identity: Identity, trust: Trust
    ) -> tuple[Identity, Trust]:
        """Get and store a new token.

        Raises RpcError if there is none now; with one of `RENEWAL_UNSUPPORTED_CODES` there never is one on this
        connection.
        """


class ControllerConnection:
    """Connections to one controller with one exporter's identity."""

    def __init__(
        self,
        endpoint: str,
        trust: Trust,
        identity: Identity,
        options: Options = KEEPALIVE,
        *,
        reread: Callable[[], Awaitable[tuple[Identity, Trust]]] | None = None,
        register: Callable[[], Awaitable[tuple[Identity, Trust]]] | None = None,
        renewal: Renewal | None = None,
    ) -> None:
        """`reread` reloads identity and trust after the controller rejected the token.

        `register` obtains an identity at the start and whenever the controller rejects the current one. `renewal`
        renews tokens before they expire.
        """
        self._renewal = renewal
        self.endpoint = endpoint
        self._reread = reread
        self._register = register
        self._is_registered = register is None
        self._trust = trust
        self._identity = identity
        self._options = options
        self._marks = [(INSTANCE, uuid.uuid4().hex)]
        self._sequence = itertools.count(1)
        self._retry_requested = trio.Event()
        self._renewed = Broadcast()
        """Notified when there is a new token: open streams start again with it."""
        self._declined = LimitedLog(_log, logging.INFO)
        self._quoted = LimitedLog(_log, logging.INFO)
        """For messages that a controller can cause any number of times and that quote it."""
        self._followed: RegistrationCalls | None = None
        """The calls of `follow`'s connection, as long as none has on_failure."""

    def retry_now(self) -> None:
        """Let `follow` retry once without a pause: something may have improved, such as the token."""
        self._retry_requested.set()

    def continue_sequence_of(self, before: ControllerConnection) -> None:
        """Continue the sequence of `before`, which ends. Call it before anything is sent."""
        self._marks, self._sequence = before._marks, before._sequence

    @asynccontextmanager
    async def reuse_or_open(self) -> AsyncIterator[RegistrationCalls]:
        """Calls on `follow`'s connection, or on a new one if there is none or if a call on it on_failure before.

        It saves a handshake, which takes longer than the call. Raises RpcError like `open`.
        """
        if (followed := self._followed) is None:
            async with self.open() as calls:
                yield calls
            return
        try:
            yield followed
        except JumpstarterError:
            if self._followed is followed:
                self._followed = None
            raise

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RegistrationCalls]:
        """Calls on a new connection. RpcError if the connection fails."""
        if not self._identity.token:
            raise RpcError(StatusCode.UNAVAILABLE, "the host has not registered the board yet; wait")
        async with open_controller(
            self.endpoint, self._trust, self._identity, metadata=self._marks, options=self._options
        ) as channel:
            yield RegistrationCalls(channel, self._sequence, self._quoted)

    async def follow(
        self,
        on_connect: Callable[[RegistrationCalls], Awaitable[None]],
        on_assignment: Callable[[LeaseAssignment | None], None],
        on_failure: Callable[[Exception], None] = lambda error: None,
        *,
        on_offer: Callable[[LeaseAssignment], Sequence[StatusReason]] = accept_all,
        on_waiting_lease: Callable[[LeaseAssignment | None], None] = ignore,
    ) -> None:
        """Register and watch assignments, again and again until cancelled.

        `on_connect` is awaited first on each connection. `on_assignment` gets the assigned lease, or None if there is
        none or if the controller no longer knows the exporter. `on_failure` gets each error that ended a connection.
        Our controllers offer a lease first: `on_offer` returns the reasons to decline it, or none to accept it, and
        `on_assignment` is called only for accepted leases. `on_waiting_lease` gets the first waiting lease that would
        fit the board, or None. With other controllers neither is called.
        """
        retry_policy = RetryPolicy() if self._register is None else RetryPolicy(cure="")
        rate_limit = RateLimit(*ASSIGNMENT_RATE)
        while True:
            is_new, since = not self._is_registered, trio.current_time()
            self._retry_requested = (
                trio.Event()
            )  # a `retry_now` during this attempt makes the next one start at once
            try:
                await self._ensure_identity()
                async with self.open() as calls:
                    await on_connect(calls)
                    _log.info("registered with %s", self.endpoint)
                    self._followed = calls

                    async def hear(calls: RegistrationCalls = calls) -> None:
                        while True:
                            began = trio.current_time()
                            try:
                                if not await self._watch_assignment(
                                    calls, on_assignment, rate_limit, on_offer, on_waiting_lease
                                ):
                                    await self._watch_status(calls, on_assignment, rate_limit)
                            finally:
                                if trio.current_time() - began >= STEADY_SECONDS:
                                    retry_policy.succeeded()
                            await _wait(retry_policy.ended(), self.endpoint, self._retry_requested)

                    await first_of(hear, partial(self._renew_token, calls))
                    continue  # with the new token
            except JumpstarterError as error:
                pause = retry_policy.failed(error)
                on_failure(error)
                if is_gone(error):
                    on_assignment(None)
                if is_rejection(error) and await self._reload_identity():
                    continue
                if is_rejection(error) and self._register is not None:
                    self._is_registered = False
                    if not is_new or trio.current_time() - since >= STEADY_SECONDS:
                        continue  # the host's own identity may still be valid
            # The conversation's outermost edge: a fault in it must not end a lease.
            except Exception as error:
                _log.exception("the conversation with the controller failed")
                on_failure(error)
                pause = retry_policy.failed(RpcError(StatusCode.INTERNAL, f"internal error: {error}"))
            finally:
                self._followed = None
            await _wait(pause, self.endpoint, self._retry_requested)

    async def _ensure_identity(self) -> None:
        if self._register is not None and not self._is_registered:
            self._identity, self._trust = await self._register()
            self._is_registered = True

    async def _reload_identity(self) -> bool:
        """Whether the configuration has a new token, for example after `jumpstarter-exporter enrol`."""
        if self._reread is None:
            return False
        try:
            identity, trust = await self._reread()
        except JumpstarterError as error:
            _log.info("the configuration cannot be reloaded: %s", error)
            return False
        if (identity, trust) == (self._identity, self._trust):
            return False
        _log.info("the configuration has a new token; trying it")
        self._identity, self._trust = identity, trust
        return True

    async def _renew_token(self, calls: RegistrationCalls) -> None:
        """Renew the token in time. Returns when there is a new one."""
        backoff = Backoff(*RENEWAL_PAUSE_SECONDS)
        if self._renewal is None and self._register is None:
            self._warn_before_expiry()
        while self._renewal is not None:
            if (seconds := self._renewal.seconds(self._identity)) is None:
                break
            if seconds > 0:  # in steps, as the wall clock may be changed
                await trio.sleep(min(seconds, RENEWAL_LOOK_SECONDS))
                continue
            try:
                self._identity, self._trust = await self._renewal.renew(calls, self._identity, self._trust)
            except JumpstarterError as error:
                if isinstance(error, RpcError) and error.code in RENEWAL_UNSUPPORTED_CODES:
                    self._warn_before_expiry()
                    break
                _log.info("the token could not be renewed yet: %s", error)
                await trio.sleep(backoff.next())
                continue
            if (self._renewal.seconds(self._identity) or 1.0) > 0:
                _log.info("the token was renewed")
                self._renewed.notify()
                return
            break  # it is due again by our clock: renew once per connection only
        await trio.sleep_forever()

    def _warn_before_expiry(self) -> None:
        """Warn before the token expires."""
        left = read_claims(self._identity.token).left
        if left is not None and left < WARN_SECONDS:
            _log.warning(
                "this exporter's token expires in %.0f h; make a code with `jumpstarter-controller admin pair "
                "exporter %s --renew`, and enrol again",
                left / 3600,
                self._identity.name,
            )

    async def _watch_assignment(
        self,
        calls: RegistrationCalls,
        on_assignment: Callable[[LeaseAssignment | None], None],
        rate_limit: RateLimit,
        on_offer: Callable[[LeaseAssignment], Sequence[StatusReason]],
        on_waiting_lease: Callable[[LeaseAssignment | None], None],
    ) -> bool:
        """Watch the assignments of one of our controllers until it ends the stream; False if it has no such method."""
        try:
            async with calls.lab.WatchAssignment(exporter_pb2.WatchAssignmentRequest()) as call:
                async for message in call:
                    end = message.end if message.HasField("end") else None
                    assignment = lease_assignment_of(message.lease, message.client, end)
                    on_waiting_lease(lease_assignment_of(message.waiting_lease, message.waiting_client))
                    if assignment is None or not message.offered:
                        on_assignment(assignment)
                    elif reasons := on_offer(assignment):
                        self._declined.write(
                            f"declined lease {assignment.lease} of {assignment.client}: {reasons[0].sentence}"
                        )
                        await calls.decline(assignment.lease, reasons)
                    else:
                        await calls.accept(assignment.lease)
                    await self._limit_rate(rate_limit)
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    async def _watch_status(
        self,
        calls: RegistrationCalls,
        on_assignment: Callable[[LeaseAssignment | None], None],
        rate_limit: RateLimit,
    ) -> None:
        async with calls.stub.Status(StatusRequest()) as call:
            async for message in call:
                on_assignment(
                    lease_assignment_of(message.lease_name, message.client_name) if message.leased else None
                )
                await self._limit_rate(rate_limit)

    async def _limit_rate(self, rate_limit: RateLimit) -> None:
        """Limit how fast messages of the controller are processed."""
        seconds, is_new = rate_limit.take(trio.current_time())
        if is_new:
            _log.warning(
                "%s: the controller sends more than %g messages per second; they are processed at that rate",
                self.endpoint,
                rate_limit.per_second,
            )
        await trio.sleep(seconds)

    async def listen(self, lease: str, arrived: Callable[[ListenResponse], None]) -> None:
        """Pass connections to a lease to `arrived`, until cancelled."""
        backoff = Backoff(*CALL_RETRY_SECONDS)
        rate_limit = RateLimit(*DIAL_RATE)
        while True:
            since, renewed = trio.current_time(), self._renewed.next

            async def hear() -> None:
                async with self.open() as calls, calls.stub.Listen(ListenRequest(lease_name=lease)) as call:
                    async for connection in call:
                        arrived(connection)
                        await self._limit_rate(rate_limit)

            try:
                await first_of(hear, renewed.wait)
                if renewed.is_set():
                    continue
            except JumpstarterError as error:
                self._quoted.write(_quote(f"Listen for lease {lease} failed: {error}"))
            except Exception:  # as above: Listen is called again
                _log.exception("Listen for lease %s failed", lease)
            if trio.current_time() - since >= STEADY_SECONDS:
                backoff.reset()
            await trio.sleep(backoff.next())

    @asynccontextmanager
    async def tunnel(self, connection: ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        """The byte stream to a client. RpcError if its router cannot be reached."""
        async with open_router_stream(
            connection.router_endpoint, self._trust, connection.router_token, options=self._options
        ) as stream:
            yield stream

    async def release(self, lease: str) -> None:
        """Return a lease; retries until that succeeds or the task is cancelled."""
        backoff = Backoff(*CALL_RETRY_SECONDS)
        while True:
            try:
                async with self.reuse_or_open() as calls:
                    await calls.release(lease)
                    return
            except JumpstarterError as error:
                self._quoted.write(f"{_quote(f'lease {lease} could not be released: {error}')}; trying again")
            except Exception:  # a fault of ours must not keep the lease, nor end the exporter
                _log.exception("lease %s could not be released; trying again", lease)
            await trio.sleep(backoff.next())


async def _wait(pause: RetryDelay, endpoint: str, retry_requested: trio.Event) -> None:
    sentence = _quote(pause.sentence)
    _log.log(pause.level, "%s: %s; trying again in %.1f s", endpoint, sentence, pause.seconds)
    with trio.move_on_after(pause.seconds):
        await retry_requested.wait()
