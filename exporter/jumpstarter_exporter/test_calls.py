"""Drivers' plain methods in worker threads: how many at a time, and how they end when their caller is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest
import trio
import trio.testing

from jumpstarter_exporter import calls


async def test_one_plain_call_too_many_waits_for_another_to_end() -> None:
    limit = int(calls.driver_calls.total_tokens)
    assert limit == 64
    begun, begins = trio.open_memory_channel[int](limit + 1)
    go_on = [threading.Event() for _ in range(limit + 1)]

    def method(number: int) -> None:
        trio.from_thread.run_sync(begun.send_nowait, number)
        go_on[number].wait()

    async with trio.open_nursery() as nursery:
        try:
            for number in range(limit + 1):
                nursery.start_soon(calls.in_thread, method, number)
            first = {await begins.receive() for _ in range(limit)}
            await trio.testing.wait_all_tasks_blocked()
            assert calls.driver_calls.statistics().tasks_waiting == 1
            go_on[first.pop()].set()
            assert await begins.receive() not in first
        finally:
            for event in go_on:
                event.set()


async def test_a_generator_is_closed_though_its_caller_was_cancelled() -> None:
    closed = threading.Event()

    def values() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.set()

    with trio.CancelScope() as scope:
        async with aclosing(calls._in_threads(values())) as items:  # type: ignore[arg-type]
            assert await anext(items) == 1
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert closed.is_set()


async def test_a_generator_that_does_not_close_is_left_after_its_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "GRACE", 0.05)
    go_on = threading.Event()

    def values() -> Iterator[int]:
        try:
            yield 1
        finally:
            go_on.wait()

    try:
        with trio.fail_after(20):
            async with aclosing(calls._in_threads(values())) as items:  # type: ignore[arg-type]
                assert await anext(items) == 1
    finally:
        go_on.set()
