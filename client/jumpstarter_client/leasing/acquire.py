"""From a wish to a lease that is ready, and back: nobody's board stays leased by who is gone."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.identifiers import uuid7
from jumpstarter_proto.remote import Backoff, ReasonCode
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.leasing.controller import Controller, bare, is_missing
from jumpstarter_client.leasing.progress import Progress, Stage, progress_of
from jumpstarter_client.leasing.times import spell
from jumpstarter_client.leasing.watch import ask_for_lease, has_to_be_asked, watch_lease

__all__ = [
    "AWAY",
    "NotInTimeError",
    "RefusedError",
    "Tell",
    "acknowledge",
    "create",
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
