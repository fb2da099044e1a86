"""Callers whose record another controller has just made: it is waited for, and then their token is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio
import trio.testing
from jumpstarter_proto.remote import Identity, Kind, ReasonCode, reason_of
from jumpstarter_proto.rpc import Metadata, RpcError, ServerCall

from jumpstarter_controller.identity import Authenticator, Subject, TokenError, TokenIssuer
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.reconciler.test_reconciler_replicas import people, running
from jumpstarter_controller.services.auth import CallAuthenticator, CallerSession, subject_exists
from jumpstarter_controller.services.conftest import SIGNING
from jumpstarter_controller.store import MemoryStore

ANN = Subject(Kind.CLIENT, "lab", "ann", "1")
END = 2.0**40


class Cluster:
    """It signs tokens, and knows those that it has signed: all but the forged ones."""

    def claimed_subject(self, token: str) -> Subject | None:
        return Subject.parse(token.removeprefix("forged-"))

    async def verify(self, token: str) -> tuple[Subject, float]:
        if token.startswith("forged-"):
            raise TokenError("it is forged")
        return Subject.parse(token), END


@dataclass
class Said:
    """As much of a call as counts here."""

    metadata: Metadata
    peer: str = "ipv4:192.0.2.1:1"

    def header(self, name: str) -> str | None:
        return cast("str | None", dict(self.metadata).get(name))

    def set_authenticated(self, _: str) -> None:
        pass


def call(token: str) -> ServerCall[Any, Any]:
    return cast("ServerCall[Any, Any]", Said(Identity(Kind.CLIENT, "lab", "ann", token).metadata()))


def guard_of(reconciler: Reconciler) -> CallAuthenticator:
    async def exists(subject: Subject) -> bool:
        return await subject_exists(reconciler, subject)

    return CallAuthenticator(
        reconciler, Authenticator(TokenIssuer(SIGNING, "lab:1"), accounts=Cluster(), exists=exists)
    )


async def test_a_token_of_somebody_who_was_just_made_is_judged_as_all_others(
    mock_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    one, other = Reconciler(store, replica="one"), Reconciler(store, replica="other", leads=lambda: False)
    auth = guard_of(other)
    sessions: list[CallerSession[Any]] = []

    async def good() -> None:
        sessions.append(await auth.client_session(call(str(ANN))))

    async def forged() -> None:
        with pytest.raises(TokenError, match="it is forged"):
            await auth.client(call(f"forged-{ANN}"))

    async with running(one):
        await one.change(people)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as callers:
            callers.start_soon(good)
            callers.start_soon(forged)
            await trio.testing.wait_all_tasks_blocked()
            assert not sessions
            await nursery.start(other.run)
        nursery.cancel_scope.cancel()
    sessions[0].check()
    assert sessions[0].expires == END


async def test_nobody_is_asked_about_a_token_of_somebody_who_does_not_exist() -> None:
    reconciler = Reconciler(MemoryStore(), replica="one")
    auth = guard_of(reconciler)
    async with running(reconciler):
        for there, reason in ((False, ReasonCode.CALLER_GONE), (True, ReasonCode.CALLER_DENIED)):
            if there:
                await reconciler.change(people)
            with pytest.raises(RpcError) as caught:
                await auth.client(call("forged-" + str(Subject(Kind.CLIENT, "lab", "ann", "of-before"))))
            assert reason_of(caught.value) == reason.value
