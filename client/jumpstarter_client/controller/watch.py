"""Watches a lease or a lab, and polls controllers that do not support Watch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.remote import reason_of
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.controller.lab_snapshot import LabSnapshot

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb
    from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest
    from jumpstarter_proto.remote import Backoff

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = ["LeaseHandler", "is_watch_unsupported", "poll_lease", "watch_lab", "watch_lease"]

REOPEN_SECONDS = 60.0
"""A connection keeps its token, so it is replaced before the token expires (`RENEW_BEFORE_SECONDS` is longer)."""
TICK_SECONDS = 1.0
ANSWER_SECONDS = 30.0
"""The time limit for the first state, and for the rest of a state that has started to arrive."""
UPDATES_PER_SECOND = 20.0
BURST_UPDATES = 20
MAX_LEASE_BYTES = 1024 * 1024
"""The size limit of one lease with its details."""

LeaseHandler = Callable[["pb.Lease", "str | None"], bool]
"""Called with each state of a lease and its reason code: empty if there is none, None if the controller was not asked.
Returns whether to stop."""


def is_watch_unsupported(error: RpcError) -> bool:
    """Whether an error means that the controller, or a gateway in front of it, has no Watch.

    A gateway that allows only known calls answers 403. If 403 means that this client is rejected, the poll that follows
    is rejected as well, with the reason.
    """
    if error.code is StatusCode.PERMISSION_DENIED:
        return not reason_of(error)
    return error.code is StatusCode.UNIMPLEMENTED


async def watch_lease(
    controller: ControllerClient,
    name: str,
    handle: LeaseHandler,
    *,
    knows: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Call `handle` with each state of a lease until it returns true, or until the connection is due for replacement.

    The watch tells the controller that this command waits for the lease, or, with `knows`, has received it. `tick` is
    called about once per second.

    Raises:
        RpcError: the watch failed; see `is_watch_unsupported`.
    """
    from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest  # noqa: PLC0415 - not for boards that are ready at once

    known = LabSnapshot(MAX_LEASE_BYTES)

    def look() -> bool:
        found = known.leases.get(name) or known.ended.get(name)
        return found is not None and handle(found.lease, found.reason)

    async with controller.open() as calls:
        await _follow(calls, WatchRequest(lease=name, waits=True, knows=knows), known, look, tick)


async def watch_lab(
    controller: ControllerClient,
    request: WatchRequest,
    known: LabSnapshot,
    look: Callable[[], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Update `known` and call `look` after each new state, starting after the revision of `known`.

    Returns when the connection is due for replacement. Raises what `watch_lease` raises.
    """
    request.after = known.revision
    known.start_call()

    def go_on() -> bool:
        look()
        return False

    async with controller.open() as calls:
        await _follow(calls, request, known, go_on, tick)


async def _follow(
    calls: ControllerCalls,
    request: WatchRequest,
    known: LabSnapshot,
    look: Callable[[], bool],
    tick: Callable[[], None],
) -> None:
    answer_by = trio.current_time() + ANSWER_SECONDS
    pace = _Pace()
    try:
        async with calls.watch(request) as call:
            while trio.current_time() < calls.until:
                with trio.move_on_after(TICK_SECONDS) as waiting:
                    news = await call.receive()
                if waiting.cancelled_caught:
                    tick()
                elif known.apply(news):
                    answer_by = math.inf
                    if look():
                        return
                    await trio.sleep(pace.next(trio.current_time()))
                else:  # the rest of the state has to follow
                    answer_by = min(answer_by, trio.current_time() + ANSWER_SECONDS)
                if trio.current_time() > answer_by:
                    raise RpcError(
                        StatusCode.DEADLINE_EXCEEDED,
                        f"the controller sent no state within {ANSWER_SECONDS:.0f} s",
                    )
    except trio.EndOfChannel:  # the caller watches again
        raise RpcError(StatusCode.UNAVAILABLE, "the controller ended the watch") from None


class _Pace:
    """Limits the rate of updates: a burst at first, then a number per second."""

    def __init__(self) -> None:
        self._next = -math.inf

    def next(self, now: float) -> float:
        """Return the seconds to wait before the next update."""
        self._next = max(self._next, now - BURST_UPDATES / UPDATES_PER_SECOND) + 1 / UPDATES_PER_SECOND
        return max(0.0, self._next - now)


async def poll_lease(
    controller: ControllerClient, name: str, handle: LeaseHandler, pace: Backoff, opened: Callable[[], None]
) -> None:
    """Poll a lease on a controller without Watch, like `watch_lease` otherwise. `opened` is called when connected."""
    async with controller.open() as calls:
        opened()
        until = trio.current_time() + REOPEN_SECONDS
        while trio.current_time() < until:
            await trio.sleep(pace.next())
            if handle(await calls.get_lease(name, waits=True), None):
                return
