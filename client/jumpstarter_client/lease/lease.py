"""From a wish to a lease that is ready, and back: nobody's board stays leased by who is gone."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.identifiers import uuid7
from jumpstarter_proto.remote import CONNECT_SECONDS, Backoff, ReasonCode, means, open_router_stream
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.controller.controller_client import Calls, Controller, bare, is_missing
from jumpstarter_client.controller.lease_view import Progress, Stage, progress_of
from jumpstarter_client.controller.watch import ask_for_lease, has_to_be_asked, watch_lease
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.local_proxy import carrying
from jumpstarter_client.lease.request import Wanted
from jumpstarter_client.times import spell
from jumpstarter_client.transport import FinalError

__all__ = [
    "AWAY",
    "Lease",
    "NotInTimeError",
    "RefusedError",
    "Tell",
    "acknowledge",
    "create",
    "leased",
    "new_name",
    "release",
    "until_ready",
]

RELEASE_SECONDS = 30.0
POLL_SECONDS = 2.0
AWAY = frozenset((StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED))
"""What a call ends with when the controller, or the way to it, is not there for the moment."""

_SAY_LATER = AWAY | {StatusCode.RESOURCE_EXHAUSTED, StatusCode.INTERNAL}
"""What a controller whose disk is full, or that has too much to do, says of what it may take yet."""

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Gets the sentence about the wait each time that it was looked at, whether it is a new one or not."""


class RefusedError(ConnectError):
    """The controller has decided: there will be no board by this lease."""


class NotInTimeError(ConnectError):
    """There was no board within the time that its user would wait."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


def new_name() -> str:
    """For a lease; ours, so that we can give it back even if we never hear that it was made."""
    return uuid7(time.time())


async def create(
    controller: Controller, name: str, lease: pb.Lease, *, waits: bool = False, for_board: bool = False
) -> pb.Lease:
    """Ask for a lease of that name; once, whatever happens to the connection.

    With `waits` it has to be waited for by `until_ready`, and then to be acknowledged or dialled: a controller of ours
    gives its board to others otherwise.
    `for_board`: it waits for a board to appear, if there is none yet.

    Raises:
        RpcError: the controller refuses, or cannot be reached.
    """
    backoff = Backoff(0.2, POLL_SECONDS)
    asked = False
    deadline = trio.current_time() + RELEASE_SECONDS
    while True:
        try:
            async with controller.open() as calls:
                if asked:  # and perhaps it was heard
                    try:
                        return await calls.get_lease(name)
                    except RpcError as error:
                        if not is_missing(error):
                            raise
                asked = True
                return await calls.create_lease(name, lease, waits=waits, for_board=for_board)
        except RpcError as error:
            if error.code not in AWAY or not asked or trio.current_time() > deadline:
                raise
            _log.info("the controller went away while it was asked for a lease: %s", error)
        await trio.sleep(backoff.next())


async def until_ready(
    controller: Controller, lease: pb.Lease, tell: Tell, *, timeout: float
) -> tuple[pb.Lease, Progress]:
    """Wait for a board. A controller that goes away is waited for, too.

    Raises:
        RefusedError: it will not be had.
        NotInTimeError: not within `timeout` seconds.
        RpcError: the controller refuses to say.
    """
    name = bare(lease.name)
    wait = _Wait(lease, tell)
    with trio.move_on_after(timeout):
        while wait.goes_on:
            try:
                if controller.tells:
                    await watch_lease(controller, name, wait.see, tick=wait.say)
                else:
                    await ask_for_lease(controller, name, wait.see, wait.pace, wait.is_reached)
                continue
            except RpcError as error:
                if controller.tells and has_to_be_asked(error):
                    controller.tells = False
                    continue
                if error.code not in AWAY:
                    raise
                wait.controller_is_away(error)
            await trio.sleep(wait.pace.next())
        if wait.progress.stage is Stage.FAILED:
            raise RefusedError(wait.progress.message + await _cure(controller, name, wait.reason))
        return wait.lease, wait.progress
    raise NotInTimeError(
        f"there was no board within {spell(timeout)} ({wait.said or 'the controller did not answer'}); "
        "wait longer with --acquisition-timeout, or look who has them: jumpstarter exporters"
    )


class _Wait:
    """A lease that is waited for, as it was seen last."""

    def __init__(self, lease: pb.Lease, tell: Tell) -> None:
        self.said = ""
        self.pace = Backoff(0.1, POLL_SECONDS)
        self._tell = tell
        self._look(lease, None)

    @property
    def goes_on(self) -> bool:
        return self.progress.stage is Stage.WAITING

    def see(self, lease: pb.Lease, reason: str | None) -> bool:
        """Whether there is nothing to wait for any more."""
        self._look(lease, reason)
        if not self.goes_on:
            return True
        self.is_reached()
        return False

    def is_reached(self) -> None:
        """The controller is there; it may have said something new."""
        if self.progress.message != self.said:
            self.said = self.progress.message
            self.pace.reset()
        self.say()

    def _look(self, lease: pb.Lease, reason: str | None) -> None:
        self.lease, self.progress, self.reason = lease, progress_of(lease), reason

    def controller_is_away(self, error: RpcError) -> None:
        self.said = "the controller is away; the wait goes on when it is back"
        _log.info("%s: %s", self.said, error)
        self.say()

    def say(self) -> None:
        self._tell(self.said)


async def acknowledge(controller: Controller, name: str, *, timeout: float = math.inf) -> None:
    """Let the controller hear that we know of our board, as who was killed while they waited never would.

    A controller that goes away is waited for, for `timeout` seconds.

    Raises:
        RpcError: it could not hear us in that time, or refuses.
        LoginError: as `Controller.open`.
    """
    backoff = Backoff(0.3, POLL_SECONDS)
    deadline = trio.current_time() + timeout
    while True:
        try:
            async with controller.open() as calls:
                await calls.get_lease(name, waits=True)
                return
        except RpcError as error:
            if error.code not in _SAY_LATER or trio.current_time() > deadline:
                raise
            _log.info("the controller has not heard yet that lease %s is taken: %s", name, error)
        await trio.sleep(backoff.next())


async def _cure(controller: Controller, name: str, reason: str | None) -> str:
    """What its user may do about a lease that was refused. The `reason` is None where the controller was not asked."""
    try:
        if reason is None:
            async with controller.open() as calls:
                reason = await calls.end_reason(name)
    except RpcError as error:  # the controller has said already that there will be no board
        _log.info("why lease %s has ended is not known: %s", name, error)
        return ""
    return "; or wait until there is one: --wait-for-board" if reason == ReasonCode.NO_BOARD else ""


async def release(controller: Controller, name: str) -> None:
    """Give a lease back, also when cancelled: a board that nobody uses must not stay leased.

    It raises nothing: why the lease is not needed any more is what its user has to hear.
    """
    backoff = Backoff(0.3, 5.0)
    reason = "the controller does not answer"
    with trio.move_on_after(RELEASE_SECONDS, shield=True):
        while True:
            try:
                async with controller.open() as calls:
                    await calls.delete_lease(name)
                    return
            except RpcError as error:
                if error.code not in _SAY_LATER:
                    _log.info("lease %s: %s", name, error)  # it has ended by itself, or never was
                    return
                reason = error.details
            except JumpstarterError as error:  # as whom are we to ask?
                reason = str(error)
                break
            await trio.sleep(backoff.next())
    _log.warning("lease %s could not be released (%s); it ends by itself when its time is over", name, reason)


CARRIED_SECONDS = 20.0
"""Less than clients wait for their first answer, so that they hear the reason."""
NOTICE_SECONDS = 3.0
"""A user is told when a tunnel takes longer."""
ACKNOWLEDGE_SECONDS = 3.0
"""Nearly all have dialled, watch their lease or have ended by then, which says as much; a controller waits half a
minute for it."""

_log = logging.getLogger(__name__)


class Lease:
    """A lease that is ready."""

    def __init__(self, controller: Controller, record: pb.Lease, *, ours: bool) -> None:
        self.controller = controller
        self.record = record
        """As it was when it was ready."""
        self.name = bare(record.name)
        self.exporter = bare(record.exporter)
        self.ours = ours
        """It was made for this block, and ends with it."""
        self.is_known = False
        """The controller has heard that we know of our board, as who was killed while they waited never would."""

    def heard_of(self) -> None:
        """It has."""
        self.is_known = True

    @property
    def config(self) -> ClientConfig:
        """Who has it, and how patient they are."""
        return self.controller.config

    @asynccontextmanager
    async def dial(self, timeout: float | None = None) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A byte stream to the exporter's session, through the controller's router.

        Tries again for `timeout` seconds (the configuration's `dial_timeout`) when that can help: the controller,
        the router or the exporter may be restarting.

        Raises:
            FinalError: there is no use in dialling again: the lease is over, or somebody else's.
            RpcError: UNAVAILABLE, it could not be had in time; says what was in the way.
        """
        timeout = self.config.dial_timeout if timeout is None else timeout
        backoff = Backoff(0.3, 2.0)
        deadline = trio.current_time() + timeout
        notice = trio.current_time() + NOTICE_SECONDS
        async with AsyncExitStack() as stack:
            while True:
                try:
                    answer = await self._ask(deadline)
                    stream = await stack.enter_async_context(
                        open_router_stream(
                            answer.router_endpoint,
                            self.config.trust,
                            answer.router_token,
                            timeout=min(CONNECT_SECONDS, _left(deadline)),
                            options=self.config.options,
                        )
                    )
                    break
                except RpcError as error:
                    if not _may_pass(error):
                        raise FinalError.of(error) from None
                    delay = backoff.next()
                    if trio.current_time() + delay >= deadline:
                        raise RpcError(
                            StatusCode.UNAVAILABLE,
                            f"the board of lease {self.name} could not be reached for {timeout:.0f} s: "
                            f"{error.details}",
                        ) from None
                    said = trio.current_time() < notice
                    _log.log(
                        logging.INFO if said else logging.WARNING,
                        "the board cannot be reached (%s); trying again",
                        error.details,
                    )
                    notice = notice if said else deadline
                await trio.sleep(delay)
            yield stream

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Channel]:
        """`dial`, and a channel over it."""
        async with self.dial() as stream, open_channel(stream) as channel:
            yield channel

    async def _ask(self, deadline: float) -> jumpstarter_pb2.DialResponse:
        """The controller's answer to one Dial."""
        async with self.controller.open(timeout=min(CONNECT_SECONDS, _left(deadline))) as calls:
            answer = await calls.dial(self.name, _left(deadline))
            self.heard_of()
            return answer

    def listen(self) -> AbstractAsyncContextManager[str]:
        """A unix socket of which each connection is one to the exporter; its path, while the block lasts."""
        return carrying(lambda: self.dial(min(CARRIED_SECONDS, self.config.dial_timeout)))


_PASSES = frozenset((StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED))


def _left(deadline: float) -> float:
    """The seconds until then, but enough for a try in any case."""
    return max(1.0, round(deadline - trio.current_time(), 1))


def _may_pass(error: RpcError) -> bool:
    """Whether dialling again can help (wire.md 4.2, and what a router and a busy exporter say)."""
    return error.code in _PASSES or means(error, ReasonCode.NOT_READY)


class NotYoursError(ConnectError):
    """The lease is somebody else's."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


class NoLeaseError(JumpstarterError):
    """It is not clear which lease is meant."""

    exit_code = ExitCode.USAGE


@asynccontextmanager
async def leased(
    config: ClientConfig, wanted: Wanted, *, tell: Tell = lambda _: None
) -> AsyncIterator[Lease]:
    """A lease for the block: released at its end, however it ends, unless it existed before.

    `tell` gets a sentence each time that it looked whether it is ready.

    Raises:
        ConnectError: it cannot be had; says why.
        RpcError: the controller refuses.
    """
    controller = Controller(config)
    ours = wanted.is_new
    name = new_name() if ours else wanted.lease
    async with controller.kept_open():
        try:
            if ours:
                lease = await create(
                    controller, name, wanted.request(), waits=True, for_board=wanted.wait_for_board
                )
            else:
                async with controller.open() as calls:
                    lease = await (calls.get_lease(name) if name else _only(calls, controller))
                name = bare(lease.name)
            if lease.client and lease.client != controller.own_name:
                raise NotYoursError(f"lease {name} is {bare(lease.client)}'s; ask them to transfer it")
            try:
                ready, _ = await until_ready(controller, lease, tell, timeout=config.acquisition_timeout)
            except RefusedError as error:
                if wanted.otherwise:
                    raise RefusedError(f"{error}; {wanted.otherwise}") from None
                raise
            with collapsed():
                async with trio.open_nursery() as nursery:
                    held = Lease(controller, ready, ours=ours)
                    nursery.start_soon(_acknowledge, held)
                    yield held
                    nursery.cancel_scope.cancel()
        finally:
            if trio.current_effective_deadline() == -math.inf:
                controller.let_go()  # cancelled, as we are
            if ours:
                await release(controller, name)


async def _acknowledge(lease: Lease) -> None:
    """Let the controller hear of a lease that is held; what is in the way of that is no matter of its user's."""
    await trio.sleep(ACKNOWLEDGE_SECONDS)
    if lease.is_known:
        return
    try:
        await acknowledge(lease.controller, lease.name)
    except (RpcError, JumpstarterError) as error:
        _log.info("the controller could not be told that lease %s is taken: %s", lease.name, error)


async def _only(calls: Calls, controller: Controller) -> pb.Lease:
    """The client's lease, if it is clear which."""
    found = [one async for one in calls.leases() if one.client == controller.own_name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoLeaseError(
            f"which board? {controller.config.identity.name} has no lease; say it with -l SELECTOR "
            "or --exporter-name NAME, or see what there is: jumpstarter exporters"
        )
    names = ", ".join(f"{shown(bare(one.name))} ({shown(bare(one.exporter)) or 'waiting'})" for one in found)
    raise NoLeaseError(f"which board? Name one of your leases with --lease: {names}")
