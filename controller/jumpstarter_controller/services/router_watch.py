"""Monitors the routers by an open connection to each, so that no client is sent to a dead one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.health.v1.health_grpc import HealthStub
from jumpstarter_proto.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from jumpstarter_proto.remote import Backoff, Trust, open_router
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode

from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.services.routers import Router, Routers

__all__ = ["watch_routers"]

SERVING = HealthCheckResponse.ServingStatus.SERVING
FIRST_SECONDS = 0.5
MAX_SECONDS = 10.0
"""The first and the longest pause between two attempts to reach a router."""

_log = logging.getLogger(__name__)


async def watch_routers(
    routers: Routers,
    watched: Sequence[Router],
    trust: Trust,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell `routers` of each of the `watched` whether it answers, until cancelled."""
    async with trio.open_nursery() as nursery:
        for router in watched:
            nursery.start_soon(_watch, routers, router.endpoint, trust)
        task_status.started()


async def _watch(routers: Routers, endpoint: str, trust: Trust) -> None:
    backoff = Backoff(FIRST_SECONDS, MAX_SECONDS)
    while True:
        try:
            async with open_router(endpoint, trust) as channel:
                reason = await _follow(routers, endpoint, channel, backoff)
        except JumpstarterError as error:
            reason = str(error)
        if routers.lost(endpoint):
            _log.warning(
                "router %s is away, streams go through others: %s",
                endpoint,
                reason,
                extra=about(router=endpoint),
            )
        await trio.sleep(backoff.next())


async def _follow(routers: Routers, endpoint: str, channel: Channel, backoff: Backoff) -> str:
    """Wait until the connection ends or the router stops serving. Returns the reason."""

    def found() -> None:
        backoff.reset()
        if routers.found(endpoint):
            _log.info("router %s answers", endpoint, extra=about(router=endpoint))

    try:
        async with HealthStub(channel).Watch(HealthCheckRequest()) as call:
            async for response in call:
                if response.status != SERVING:
                    return "it is shutting down"
                found()
    except RpcError as error:
        if error.code is not StatusCode.UNIMPLEMENTED:
            raise
        found()  # Jumpstarter's own routers have no health checks; that the connection stays has to do
        return str(await channel.wait_closed())
    return "it ended the health check"
