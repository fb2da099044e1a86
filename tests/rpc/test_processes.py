"""Faults that only another process can have: killed in the middle, or asked to hold a gibibyte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import Channel, ClientCall, RpcError, StatusCode, connect_unix, open_channel

from tests.rpc.serve import CHUNK, ECHO, GIBIBYTE, IGNORE, SEND, SENT, Bytes, Number
from tests.support.peers import ROOT

MEBIBYTE = 1 << 20
Process = subprocess.Popen[bytes]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.rpc.serve", str(tmp_path / "socket")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running
        running.kill()


@pytest.fixture
async def channel(process: Process, tmp_path: Path) -> AsyncIterator[Channel]:
    async with open_channel(await connect_unix(tmp_path / "socket")) as opened:
        yield opened


def peak_memory(pid: int) -> int:
    """The most that a process has held, in bytes."""
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def forget_peak_memory(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def settled(channel: Channel) -> int:
    """How much the peer has sent, once that does not change any more."""
    before, now = -1, 0
    while before != now:
        before, now = now, (await channel.unary(SENT, Number())).value
    return now


async def send_for_ever(call: ClientCall[Bytes, Bytes]) -> None:
    while True:
        await call.send(Bytes(value=CHUNK))


async def test_killed_peer_fails_every_kind_of_call_at_once(channel: Channel, process: Process) -> None:
    failures = []

    async def converse(task_status: trio.TaskStatus[None]) -> None:
        async with channel.stream(ECHO) as call:
            await call.send(Bytes(value=b"x"))
            await call.receive()
            task_status.started()
            with pytest.raises(RpcError) as caught:
                await call.receive()
            failures.append(caught.value.code)

    async def overwhelm(task_status: trio.TaskStatus[None]) -> None:
        async with channel.stream(IGNORE) as call:
            await call.initial_metadata()
            task_status.started()
            with pytest.raises(RpcError) as caught:
                await send_for_ever(call)
            failures.append(caught.value.code)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                await nursery.start(converse)
                await nursery.start(overwhelm)
            process.kill()
        assert await channel.wait_closed()
    assert failures == [StatusCode.UNAVAILABLE] * 6
    with pytest.raises(RpcError) as caught:
        await channel.unary(SENT, Number())
    assert caught.value.code is StatusCode.UNAVAILABLE


async def test_reader_that_stops_bounds_the_senders_memory(channel: Channel, process: Process) -> None:
    """The peer wants to send us 1 GiB; then everything arrives after all."""
    await channel.unary(SENT, Number())
    before = peak_memory(process.pid)
    async with channel.server_stream(SEND, Number(value=GIBIBYTE)) as call:
        received = len((await call.receive()).value)
        assert await settled(channel) < 8 * MEBIBYTE
        assert peak_memory(process.pid) < before + 16 * MEBIBYTE
        async for message in call:
            received += len(message.value)
    assert received == GIBIBYTE
    assert peak_memory(process.pid) < before + 24 * MEBIBYTE


async def test_peer_that_does_not_read_bounds_our_memory(channel: Channel, process: Process) -> None:
    await channel.unary(SENT, Number())
    theirs = peak_memory(process.pid)
    own = os.getpid()
    forget_peak_memory(own)
    ours = peak_memory(own)
    sent = 0

    async def send(call: ClientCall[Bytes, Bytes]) -> None:
        nonlocal sent
        while sent < GIBIBYTE:
            await call.send(Bytes(value=CHUNK))
            sent += len(CHUNK)

    async with channel.stream(IGNORE) as call, trio.open_nursery() as nursery:
        nursery.start_soon(send, call)
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.cancel_scope.cancel()
    assert 0 < sent < 8 * MEBIBYTE
    assert peak_memory(own) < ours + 16 * MEBIBYTE
    assert peak_memory(process.pid) < theirs + 16 * MEBIBYTE
