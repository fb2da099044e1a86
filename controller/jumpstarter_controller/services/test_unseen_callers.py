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
from jumpstarter_controller.reconciler.reconciler import Engine
from jumpstarter_controller.services.conftest import SIGNING
from jumpstarter_controller.services.guard import Guard, Session, subject_exists
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.test_engine_replicas import people, running

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

    def trust(self, _: str) -> None:
        pass


def call(token: str) -> ServerCall[Any, Any]:
    return cast("ServerCall[Any, Any]", Said(Identity(Kind.CLIENT, "lab", "ann", token).metadata()))


def guard_of(engine: Engine) -> Guard:
    async def exists(subject: Subject) -> bool:
        return await subject_exists(engine, subject)

    return Guard(engine, Authenticator(TokenIssuer(SIGNING, "lab:1"), accounts=Cluster(), exists=exists))


async def test_a_token_of_somebody_who_was_just_made_is_judged_as_all_others(
    mock_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    one, other = Engine(store, replica="one"), Engine(store, replica="other", leads=lambda: False)
    guard = guard_of(other)
    sessions: list[Session[Any]] = []

    async def good() -> None:
        sessions.append(await guard.client_session(call(str(ANN))))

    async def forged() -> None:
        with pytest.raises(TokenError, match="it is forged"):
            await guard.client(call(f"forged-{ANN}"))

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
    engine = Engine(MemoryStore(), replica="one")
    guard = guard_of(engine)
    async with running(engine):
        for there, reason in ((False, ReasonCode.CALLER_GONE), (True, ReasonCode.CALLER_DENIED)):
            if there:
                await engine.change(people)
            with pytest.raises(RpcError) as caught:
                await guard.client(call("forged-" + str(Subject(Kind.CLIENT, "lab", "ann", "of-before"))))
            assert reason_of(caught.value) == reason.value
