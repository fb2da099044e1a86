"""Which calls are noted, and what of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.value import JSON

from jumpstarter_exporter import Driver, export, export_stream
from jumpstarter_exporter.callers import _name_of
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.session.call_notes import CallNote
from jumpstarter_exporter.session.session import Session


@dataclass(kw_only=True, eq=False)
class Lamp(Driver):
    """Does what it can be asked for."""

    @export
    def on(self, level: str = "") -> str:
        return level

    @export
    def fail(self) -> None:
        raise ValueError("too hot")

    @export
    async def wait(self) -> None:
        await trio.sleep_forever()

    @export(reads=True)
    def look(self) -> str:
        return "fine"

    @export
    def blink(self) -> Iterator[int]:
        yield from (1, 2)

    @export(reads=True)
    def watch(self) -> Iterator[int]:
        yield from (1, 2)

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.Stream]:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                async for data in far:
                    await far.send_all(data + data)
                await far.send_eof()

            nursery.start_soon(answer)
            yield near
            nursery.cancel_scope.cancel()

    @export_stream
    @asynccontextmanager
    async def unplugged(self) -> AsyncIterator[trio.abc.Stream]:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:

            async def pull() -> None:
                await far.receive_some(1)
                far.send_stream.close()
                near.receive_stream.close()

            nursery.start_soon(pull)
            yield near
            nursery.cancel_scope.cancel()


def told(notes: list[CallNote]) -> list[tuple[str, str]]:
    return [(note.method, note.status) for note in notes]


async def test_what_only_looks_is_not_noted_and_no_argument_is(serve: Serve) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append, lease="l1") as user:
        await user.call("", "look")
        assert await results(user, "watch") == [1, 2]
        assert notes == []
        await user.call("", "on", "secret")
    (note,) = notes
    assert (note.device, note.method, note.status, note.lease) == ("", "on", "OK", "l1")
    assert "secret" not in repr(note)
    assert note.seconds >= 0
    assert note.session


async def results(user: User, method: str) -> list[JSON]:
    async with user.results("", method) as values:
        return [value async for value in values]


async def test_a_failed_call_is_noted_with_its_status_and_one_that_does_not_exist_is_not(
    serve: Serve,
) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append) as user:
        with pytest.raises(RpcError):
            await user.call("", "fail")
        with pytest.raises(RpcError):
            await user.call("", "\x1b[2J")
    assert told(notes) == [("fail", "INVALID_ARGUMENT")]


async def test_a_stream_is_noted_at_its_begin_and_at_its_end_with_its_bytes(serve: Serve) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append) as user:
        async with user.stream("") as stream:
            await stream.send_all(b"abc")
            received = b""
            while len(received) < 6:
                received += await stream.receive_some()
            assert told(notes) == [("connect", "")]
        while len(notes) < 2:
            await trio.testing.wait_all_tasks_blocked()
        assert await results(user, "blink") == [1, 2]
        while len(notes) < 4:
            await trio.testing.wait_all_tasks_blocked()
    assert told(notes) == [("connect", ""), ("connect", "OK"), ("blink", ""), ("blink", "OK")]
    assert (notes[1].received, notes[1].sent) == (3, 6)


@pytest.mark.parametrize("leaves", ["by cancelling the stream", "with its connection"])
async def test_a_stream_that_its_user_leaves_has_ended_well(
    serve: Serve, user: Callable[[Session], AbstractAsyncContextManager[User]], leaves: str
) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append) as near:
        if leaves == "with its connection":
            async with user(near.session) as far, far.stream("") as stream:
                await stream.send_all(b"abc")
                while not notes:
                    await trio.testing.wait_all_tasks_blocked()
        else:
            async with near.stream("") as stream:
                await stream.send_all(b"abc")
                await stream.receive_some()
        while len(notes) < 2:
            await trio.testing.wait_all_tasks_blocked()
    assert told(notes) == [("connect", ""), ("connect", "OK")]


async def test_a_stream_that_the_device_breaks_off_and_a_call_that_nobody_waits_for_have_not(
    serve: Serve,
) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append) as user:
        async with user.stream("", "unplugged") as stream:
            await stream.send_all(b"a")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        while len(notes) < 2:
            await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(user.call, "", "wait")
            while not user.session.tree.root.in_flight:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        while len(notes) < 3:
            await trio.testing.wait_all_tasks_blocked()
    assert told(notes) == [("unplugged", ""), ("unplugged", "ABORTED"), ("wait", "CANCELLED")]


async def test_a_reset_is_noted(serve: Serve) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append) as user:
        await user.exporter.Reset(jumpstarter_pb2.ResetRequest())
    assert told(notes) == [("reset", "OK")]


async def test_what_comes_in_by_a_leases_own_socket_is_its_hooks_and_else_a_user_of_the_host(
    serve: Serve,
) -> None:
    notes: list[CallNote] = []
    async with serve(Lamp(), on_call=notes.append, lease="l1") as user:
        await user.call("", "on")
    async with serve(Lamp(), on_call=notes.append) as user:
        await user.call("", "on")
    assert [(note.caller.is_hook, note.caller.user) for note in notes] == [
        (True, ""),
        (False, _name_of(os.getuid())),
    ]
