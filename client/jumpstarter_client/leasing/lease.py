"""A lease while a block lasts, and connections to the board that it is for."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import CONNECT_SECONDS, Backoff, ReasonCode, means, open_router_stream
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lasting import FinalError
from jumpstarter_client.leasing.acquire import (
    RefusedError,
    Tell,
    acknowledge,
    create,
    new_name,
    release,
    until_ready,
)
from jumpstarter_client.leasing.carrier import carrying
from jumpstarter_client.leasing.configs import ClientConfig
from jumpstarter_client.leasing.controller import Calls, Controller, bare
from jumpstarter_client.leasing.wanted import Wanted

__all__ = ["Lease", "leased"]

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
