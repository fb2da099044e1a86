"""What an exporter asks of its controller. Whatever fails is tried again as long as the process lives."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import exporter_pb2
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceStub
from jumpstarter_proto.lab.v1.exporter_grpc import ExporterServiceStub
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

from jumpstarter_exporter.registration.patience import Pace, Patience, Pause, is_gone, is_refusal
from jumpstarter_exporter.registration.tenant import Tenant, tenant_of
from jumpstarter_exporter.status import Reason, Status

__all__ = ["Calls", "Controller", "Renewal", "accept_all"]

CALL_SECONDS = 10.0
WARN_SECONDS = 30 * 86400.0
"""Before a token's end it is said aloud."""
RENEWAL_PAUSES = 5.0, 600.0
"""Between two tries to get a new token, the first and the longest."""
RENEWAL_LOOK_SECONDS = 3600.0
MAKES_NO_TOKENS = frozenset((StatusCode.UNIMPLEMENTED, StatusCode.FAILED_PRECONDITION))
STEADY_SECONDS = 5.0
"""What lasted so long has worked, and its end is the first failure again."""
ASSIGNMENTS = (100, 5.0)
DIALS = (256, 10.0)
"""At once, and a second: a controller that says more is heard as slowly, and has no more of this host than that."""
MAX_QUOTED_LENGTH = 1000
"""Characters of a line that has a controller's words."""
INSTANCE = "jumpstarter-exporter-instance"
SEQUENCE = "jumpstarter-status-sequence"
"""Ours: tell two processes of one exporter apart, and an old status from a new one. Other controllers ignore them."""
GONE_FOR_GOOD = frozenset((StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION))
"""Of a lease that is not ours any more: there is nothing left to release."""

_log = logging.getLogger(__name__)


class Calls:
    """What is asked over one connection."""

    def __init__(self, channel: Caller, sequence: itertools.count[int], quoted: LimitedLog) -> None:
        """`quoted` is for lines with the controller's words."""
        self._quoted = quoted
        self.stub = ControllerServiceStub(channel)
        self.lab = ExporterServiceStub(channel)
        """Of controllers of ours; others answer UNIMPLEMENTED."""
        self.enrolment = EnrolmentServiceStub(channel)
        """Likewise."""
        self._sequence = sequence

    async def register(self, labels: Mapping[str, str], reports: Sequence[DriverInstanceReport]) -> None:
        """Say which devices there are."""
        request = RegisterRequest(labels=labels, reports=reports)
        await self.stub.Register(request, timeout=CALL_SECONDS, metadata=[(ANSWERS, "1")])

    async def report(self, status: Status, message: str, reasons: Sequence[Reason] = ()) -> None:
        """Say how we are, and why we are not available. Controllers that are not ours hear the message only."""
        if reasons and await self._report_reasons(status, message, reasons):
            return
        request = ReportStatusRequest(status=f"EXPORTER_STATUS_{status.name}", message=message)
        try:
            await self.stub.ReportStatus(request, timeout=CALL_SECONDS, metadata=self._numbered())
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:  # a controller before 0.8
                raise

    async def _report_reasons(self, status: Status, message: str, reasons: Sequence[Reason]) -> bool:
        """Whether the controller takes reasons."""
        request = exporter_pb2.ReportStatusRequest(
            status=f"EXPORTER_STATUS_{status.name}", message=message, reasons=_sent(reasons)
        )
        try:
            await self.lab.ReportStatus(request, timeout=CALL_SECONDS, metadata=self._numbered())
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    def _numbered(self) -> Metadata:
        return [(SEQUENCE, str(next(self._sequence)))]

    async def accept(self, lease: str) -> None:
        """Take a lease that was offered: it begins. One that is not offered any more needs no answer."""
        try:
            await self.lab.AcceptLease(exporter_pb2.AcceptLeaseRequest(lease=lease), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code not in GONE_FOR_GOOD:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))

    async def decline(self, lease: str, reasons: Sequence[Reason]) -> None:
        """Do not take a lease that was offered: somebody else serves it, and we are not available.

        There is at least one reason, and the first is what people read. `report` AVAILABLE when there is none any more.
        A lease that is not offered any more needs no answer.
        """
        request = exporter_pb2.DeclineLeaseRequest(lease=lease, reasons=_sent(reasons))
        try:
            await self.lab.DeclineLease(request, timeout=CALL_SECONDS, metadata=self._numbered())
        except RpcError as error:
            if error.code not in GONE_FOR_GOOD:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))

    async def unregister(self, reason: str) -> None:
        """Say goodbye."""
        await self.stub.Unregister(UnregisterRequest(reason=reason), timeout=CALL_SECONDS)

    async def release(self, lease: str) -> None:
        """Give a lease back; one that is not ours any more is as good."""
        try:
            await self.stub.ReleaseLease(ReleaseLeaseRequest(name=lease), timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code not in GONE_FOR_GOOD:
                raise
            self._quoted.write(_quote(f"lease {lease}: {error}"))


def _quote(text: str) -> str:
    """So much of it as tells what is wrong."""
    return shown(text, MAX_QUOTED_LENGTH)


def _sent(reasons: Sequence[Reason]) -> list[exporter_pb2.Reason]:
    return [exporter_pb2.Reason(code=one.code, sentence=one.sentence) for one in reasons]


def accept_all(_: Tenant) -> Sequence[Reason]:
    """Take every lease."""
    return ()


def ignore(_: Tenant | None) -> None:
    """Whoever waits, waits."""


class Renewal(Protocol):
    """Has new tokens made."""

    def seconds(self, identity: Identity) -> float | None:
        """Until one should be made, by this machine's clock; it may be due since long. None: never."""

    async def renew(self, calls: Calls, identity: Identity, trust: Trust) -> tuple[Identity, Trust]:
        """Have one made, and keep it. RpcError: there is none now, or (`MAKES_NO_TOKENS`) never on this connection."""


class Controller:
    """Connections to one controller as one exporter."""

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
        """`reread` says who we are by now, when the controller does not take us for who we were.

        `register` makes us somebody, first of all and whenever the controller does not take us any more. `renewal` has
        new tokens made before ours end.
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
        self._hurried = trio.Event()
        self._renewed = trio.Event()
        """Set when there is a new token: what stays open begins anew with it."""
        self._declined = LimitedLog(_log, logging.INFO)
        self._quoted = LimitedLog(_log, logging.INFO)
        """What the controller causes as often as it likes, with its own words."""
        self._followed: Calls | None = None
        """On the connection of `follow`, while that is thought to be good."""

    def hurry(self) -> None:
        """Something may be better now, as a new token: `follow` tries again without a pause, once."""
        self._hurried.set()

    def go_on_for(self, before: Controller) -> None:
        """Be the same process of the same exporter as `before`, which says nothing more; before anything is said."""
        self._marks, self._sequence = before._marks, before._sequence

    @asynccontextmanager
    async def at_hand(self) -> AsyncIterator[Calls]:
        """The connection of `follow`, or one for this alone where there is none; so is the next after one that failed.

        A handshake takes longer than what is told on it. RpcError as with `open`.
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
    async def open(self) -> AsyncIterator[Calls]:
        """A connection. RpcError if it cannot be had."""
        if not self._identity.token:
            raise RpcError(StatusCode.UNAVAILABLE, "its host has not registered the board yet; wait")
        async with open_controller(
            self.endpoint, self._trust, self._identity, metadata=self._marks, options=self._options
        ) as channel:
            yield Calls(channel, self._sequence, self._quoted)

    async def follow(
        self,
        introduce: Callable[[Calls], Awaitable[None]],
        told: Callable[[Tenant | None], None],
        failed: Callable[[Exception], None] = lambda error: None,
        *,
        answer: Callable[[Tenant], Sequence[Reason]] = accept_all,
        waits: Callable[[Tenant | None], None] = ignore,
    ) -> None:
        """Introduce ourselves and hear whose we are; again and again, until cancelled.

        Nobody's, too, once the controller knows us no more. `failed` hears of each time that it did not go on.

        Controllers of ours ask first: `answer` returns the reasons for which a lease is declined, none to take it, and
        `told` hears of those that were taken only. `waits` hears of one that waits and would fit our board, whether we
        were asked or not, and of None when there is none. With other controllers neither is called.
        """
        patience = Patience() if self._register is None else Patience(cure="")
        pace = Pace(*ASSIGNMENTS)
        while True:
            is_new, since = not self._is_registered, trio.current_time()
            self._hurried = trio.Event()  # who hurries while this fails has the next try at once
            try:
                await self._become_somebody()
                async with self.open() as calls:
                    await introduce(calls)
                    _log.info("registered with %s", self.endpoint)
                    self._followed = calls

                    async def hear(calls: Calls = calls) -> None:
                        while True:
                            began = trio.current_time()
                            try:
                                if not await self._hear_ours(calls, told, pace, answer, waits):
                                    await self._hear(calls, told, pace)
                            finally:
                                if trio.current_time() - began >= STEADY_SECONDS:
                                    patience.worked()
                            await _wait(patience.ended(), self.endpoint, self._hurried)

                    await first_of(hear, partial(self._until_renewed, calls))
                    continue  # with the new token
            except JumpstarterError as error:
                pause = patience.failed(error)
                failed(error)
                if is_gone(error):
                    told(None)
                if is_refusal(error) and await self._is_somebody_new():
                    continue
                if is_refusal(error) and self._register is not None:
                    self._is_registered = False
                    if not is_new or trio.current_time() - since >= STEADY_SECONDS:
                        continue  # our host may still be somebody
            # The conversation's outermost edge: a fault in it must not end a lease.
            except Exception as error:
                _log.exception("the conversation with the controller failed")
                failed(error)
                pause = patience.failed(RpcError(StatusCode.INTERNAL, f"it failed here: {error}"))
            finally:
                self._followed = None
            await _wait(pause, self.endpoint, self._hurried)

    async def _become_somebody(self) -> None:
        if self._register is not None and not self._is_registered:
            self._identity, self._trust = await self._register()
            self._is_registered = True

    async def _is_somebody_new(self) -> bool:
        """Whether we have been given a new token meanwhile, as `jumpstarter-exporter enrol` does."""
        if self._reread is None:
            return False
        try:
            identity, trust = await self._reread()
        except JumpstarterError as error:
            _log.info("the configuration cannot be read again: %s", error)
            return False
        if (identity, trust) == (self._identity, self._trust):
            return False
        _log.info("there is a new token in the configuration; trying that")
        self._identity, self._trust = identity, trust
        return True

    async def _until_renewed(self, calls: Calls) -> None:
        """Returns when there is a new token, as the one that we have was about to end."""
        backoff = Backoff(*RENEWAL_PAUSES)
        if self._renewal is None and self._register is None:
            self._mind_the_end()
        while self._renewal is not None:
            if (seconds := self._renewal.seconds(self._identity)) is None:
                break
            if seconds > 0:  # in steps, as the wall clock may be set
                await trio.sleep(min(seconds, RENEWAL_LOOK_SECONDS))
                continue
            try:
                self._identity, self._trust = await self._renewal.renew(calls, self._identity, self._trust)
            except JumpstarterError as error:
                if isinstance(error, RpcError) and error.code in MAKES_NO_TOKENS:
                    self._mind_the_end()
                    break
                _log.info("the token is not renewed yet: %s", error)
                await trio.sleep(backoff.next())
                continue
            if (self._renewal.seconds(self._identity) or 1.0) > 0:
                _log.info("there is a new token, as the one before was about to end")
                self._renewed.set()
                self._renewed = trio.Event()
                return
            break  # by our clock it is due again: once for each connection is enough
        await trio.sleep_forever()

    def _mind_the_end(self) -> None:
        """A token is good for so long that its end comes as a surprise."""
        left = read_claims(self._identity.token).left
        if left is not None and left < WARN_SECONDS:
            _log.warning(
                "this exporter's token is good for %.0f h more; make a code with `jumpstarter-controller admin pair "
                "exporter %s --renew`, and enrol again",
                left / 3600,
                self._identity.name,
            )

    async def _hear_ours(
        self,
        calls: Calls,
        told: Callable[[Tenant | None], None],
        pace: Pace,
        answer: Callable[[Tenant], Sequence[Reason]],
        waits: Callable[[Tenant | None], None],
    ) -> bool:
        """The same of a controller of ours, until it ends it; False, and nothing was heard, if it is none."""
        try:
            async with calls.lab.WatchAssignment(exporter_pb2.WatchAssignmentRequest()) as call:
                async for message in call:
                    end = message.end if message.HasField("end") else None
                    tenant = tenant_of(message.lease, message.client, end)
                    waits(tenant_of(message.waiting_lease, message.waiting_client))
                    if tenant is None or not message.offered:
                        told(tenant)
                    elif reasons := answer(tenant):
                        self._declined.write(
                            f"lease {tenant.lease} of {tenant.client} is declined: {reasons[0].sentence}"
                        )
                        await calls.decline(tenant.lease, reasons)
                    else:
                        await calls.accept(tenant.lease)
                    await self._keep(pace)
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    async def _hear(self, calls: Calls, told: Callable[[Tenant | None], None], pace: Pace) -> None:
        async with calls.stub.Status(StatusRequest()) as call:
            async for message in call:
                told(tenant_of(message.lease_name, message.client_name) if message.leased else None)
                await self._keep(pace)

    async def _keep(self, pace: Pace) -> None:
        """Take no more than it says."""
        seconds, is_new = pace.take(trio.current_time())
        if is_new:
            _log.warning(
                "%s: the controller says more than %g things a second; they are taken as slowly",
                self.endpoint,
                pace.per_second,
            )
        await trio.sleep(seconds)

    async def listen(self, lease: str, arrived: Callable[[ListenResponse], None]) -> None:
        """Hear of connections to a lease, until cancelled."""
        backoff = Backoff(0.3, 10.0)
        pace = Pace(*DIALS)
        while True:
            since, renewed = trio.current_time(), self._renewed

            async def hear() -> None:
                async with self.open() as calls, calls.stub.Listen(ListenRequest(lease_name=lease)) as call:
                    async for connection in call:
                        arrived(connection)
                        await self._keep(pace)

            try:
                await first_of(hear, renewed.wait)
                if renewed.is_set():
                    continue
            except JumpstarterError as error:
                self._quoted.write(_quote(f"not listening for lease {lease}: {error}"))
            except Exception:  # the same: it is begun again
                _log.exception("listening for lease %s failed", lease)
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
        """Give a lease back, until it has been taken or we are cancelled."""
        backoff = Backoff(0.3, 10.0)
        while True:
            try:
                async with self.at_hand() as calls:
                    await calls.release(lease)
                    return
            except JumpstarterError as error:
                self._quoted.write(f"{_quote(f'lease {lease} could not be released: {error}')}; trying again")
            except Exception:  # a fault of ours: the lease must not stay for it, nor the exporter end
                _log.exception("lease %s could not be released; trying again", lease)
            await trio.sleep(backoff.next())


async def _wait(pause: Pause, endpoint: str, hurried: trio.Event) -> None:
    sentence = _quote(pause.sentence)
    _log.log(pause.level, "%s: %s; trying again in %.1f s", endpoint, sentence, pause.seconds)
    with trio.move_on_after(pause.seconds):
        await hurried.wait()
