"""A controller that tells what has changed, and one that has to be asked."""

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

__all__ = ["See", "is_watch_unsupported", "poll_lease", "watch_lab", "watch_lease"]

REOPEN_SECONDS = 60.0
"""A connection has one token; while one asks, that may end (`renewal.SOON` is more than this)."""
TICK_SECONDS = 1.0
ANSWER_SECONDS = 30.0
"""For the first of what is to be told, and for the rest of what has begun to be told."""
LOOKS_PER_SECOND = 20.0
BURST = 20
MAX_LEASE_BYTES = 1024 * 1024
"""Of one lease, and what else a controller tells of it."""

See = Callable[["pb.Lease", "str | None"], bool]
"""Gets a lease each time that it was looked at, and why it is as it is, for programs: empty where the lease says all,
None where the controller was not asked for that. Whether that is enough."""


def is_watch_unsupported(error: RpcError) -> bool:
    """Whether a watch was refused because there is none: by the controller, or by what is in front of it.

    A gateway that lets only calls through that it knows answers with 403, which may also mean that we are refused
    altogether; then what we ask is refused, too, and says why.
    """
    if error.code is StatusCode.PERMISSION_DENIED:
        return not reason_of(error)
    return error.code is StatusCode.UNIMPLEMENTED


async def watch_lease(
    controller: ControllerClient,
    name: str,
    see: See,
    *,
    knows: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Have `see` look at a lease, and again each time that it is another, until it has seen enough.

    The controller hears of us as the command that waits for it, or, if it `knows` that, has it. `tick` is called about
    once a second. It also returns when another connection is due.

    Raises:
        RpcError: if it `is_watch_unsupported`, and as each call.
    """
    from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest  # noqa: PLC0415 - not for who gets a board at once

    known = LabSnapshot(MAX_LEASE_BYTES)

    def look() -> bool:
        found = known.leases.get(name) or known.ended.get(name)
        return found is not None and see(found.lease, found.reason)

    async with controller.open() as calls:
        await _follow(calls, WatchRequest(lease=name, waits=True, knows=knows), known, look, tick)


async def watch_lab(
    controller: ControllerClient,
    request: WatchRequest,
    known: LabSnapshot,
    look: Callable[[], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Have `look` look at what is `known`, and again each time that it is another; from where it was known before on.

    It returns when another connection is due. Raises what `watch_lease` raises.
    """
    request.after = known.revision
    known.begin()

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
                elif known.take(news):
                    answer_by = math.inf
                    if look():
                        return
                    await trio.sleep(pace.next(trio.current_time()))
                else:  # the rest of it has to follow
                    answer_by = min(answer_by, trio.current_time() + ANSWER_SECONDS)
                if trio.current_time() > answer_by:
                    raise RpcError(
                        StatusCode.DEADLINE_EXCEEDED,
                        f"the controller did not say within {ANSWER_SECONDS:.0f} s how it is",
                    )
    except trio.EndOfChannel:  # it has nothing more to tell for now: who watches comes back
        raise RpcError(StatusCode.UNAVAILABLE, "the controller ended the watch") from None


class _Pace:
    """How fast news is looked at: some at once, and then so many a second, however fast a controller tells."""

    def __init__(self) -> None:
        self._next = -math.inf

    def next(self, now: float) -> float:
        """How long to wait before the next."""
        self._next = max(self._next, now - BURST / LOOKS_PER_SECOND) + 1 / LOOKS_PER_SECOND
        return max(0.0, self._next - now)


async def poll_lease(
    controller: ControllerClient, name: str, see: See, pace: Backoff, opened: Callable[[], None]
) -> None:
    """The same where the controller does not tell: ask now and then. It returns when another connection is due."""
    async with controller.open() as calls:
        opened()
        until = trio.current_time() + REOPEN_SECONDS
        while trio.current_time() < until:
            await trio.sleep(pace.next())
            if see(await calls.get_lease(name, waits=True), None):
                return
