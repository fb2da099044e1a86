"""Plain threads and the trio loop that works for them."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.blocking import BlockingPortal, PortalThread
from jumpstarter_client.errors import ConnectError


class Journal:
    """Async things that write down what happens to them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.started = threading.Event()

    async def wait_for_ever(self) -> None:
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.lines.append("cancelled")

    async def count(self, stop: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(stop):
                self.lines.append(f"made {number}")
                yield number
        finally:
            self.lines.append("closed")

    @asynccontextmanager
    async def room(self) -> AsyncIterator[str]:
        """With a nursery of its own, as a connection has."""
        self.lines.append("in")
        task = trio.lowlevel.current_task()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                yield "room"
                nursery.cancel_scope.cancel()
        finally:
            assert trio.lowlevel.current_task() is task
            self.lines.append("out")


@pytest.fixture
def journal() -> Journal:
    return Journal()


async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def fail(message: str) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError(message)


def test_call_returns_what_the_coroutine_returns() -> None:
    with PortalThread() as portal:
        assert portal.call(double, 21) == 42


def test_call_raises_what_the_coroutine_raises_and_the_loop_goes_on() -> None:
    with PortalThread() as portal:
        with pytest.raises(ValueError, match="no volts"):
            portal.call(fail, "no volts")
        assert portal.call(double, 1) == 2


def test_calls_from_many_threads_run_at_a_time() -> None:
    async def meet(barrier: list[trio.Event]) -> None:
        barrier.append(trio.Event())
        if len(barrier) == 3:
            for event in barrier:
                event.set()
        await barrier[-1].wait() if len(barrier) == 3 else await barrier[0].wait()

    barrier: list[trio.Event] = []
    with PortalThread() as portal:
        threads = [threading.Thread(target=portal.call, args=(meet, barrier)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


async def test_blocking_inside_a_trio_task_is_refused_and_names_the_way_out() -> None:
    async with BlockingPortal.open() as portal:
        with pytest.raises(JumpstarterUsageError, match=r"\.aio"):
            portal.call(double, 1)


async def test_a_worker_thread_of_trio_may_block() -> None:
    async with BlockingPortal.open() as portal:
        assert await trio.to_thread.run_sync(portal.call, double, 4) == 8


def test_ctrl_c_while_waiting_cancels_the_work_first(journal: Journal) -> None:
    def press_ctrl_c() -> None:
        journal.started.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with PortalThread() as portal:
        threading.Thread(target=press_ctrl_c).start()
        with pytest.raises(KeyboardInterrupt):
            portal.call(journal.wait_for_ever)
        assert journal.lines == ["cancelled"]
        assert portal.call(double, 3) == 6


class Interrupted:
    """A loop's token whose caller is interrupted before or just after its first function was handed over."""

    def __init__(self, token: trio.lowlevel.TrioToken, *, late: bool) -> None:
        self._token = token
        self._late = late
        self._is_first = True

    def run_sync_soon(self, *call: Any) -> None:
        is_first, self._is_first = self._is_first, False
        if self._late or not is_first:
            self._token.run_sync_soon(*call)
        if is_first:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("late", "lines"), [(True, ["cancelled"]), (False, [])])
def test_ctrl_c_before_the_wait_cancels_what_was_handed_over(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, late: bool, lines: list[str]
) -> None:
    monkeypatch.setattr("jumpstarter_client.blocking.UNWIND_SECONDS", 60.0)  # and it does not take that long
    with PortalThread() as portal:
        token = portal.portal._token
        monkeypatch.setattr(portal.portal, "_token", Interrupted(token, late=late))
        with pytest.raises(KeyboardInterrupt):
            portal.call(journal.wait_for_ever)
        monkeypatch.setattr(portal.portal, "_token", token)
        assert journal.lines == lines
        assert portal.call(double, 3) == 6


def test_ctrl_c_does_not_wait_for_work_that_does_not_unwind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_client.blocking.UNWIND_SECONDS", 0.01)
    started, user_is_back, had_to_help = threading.Event(), threading.Event(), threading.Event()

    async def stay() -> None:
        with trio.CancelScope(shield=True):
            started.set()
            await trio.to_thread.run_sync(user_is_back.wait)

    def press_ctrl_c() -> None:
        started.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not user_is_back.wait(10):
            had_to_help.set()
            user_is_back.set()

    with PortalThread() as portal:
        finger = threading.Thread(target=press_ctrl_c)
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            portal.call(stay)
        user_is_back.set()
        finger.join()
    assert not had_to_help.is_set()


def test_ctrl_c_just_after_the_work_is_done_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock

    class Interrupted:
        """A lock whose `acquire` succeeds, and is interrupted then."""

        def __init__(self) -> None:
            self.lock = lock()
            self.acquired = 0
            self.release = self.lock.release

        def acquire(self, timeout: float = -1) -> bool:
            self.acquired += 1
            assert self.acquired < 3, "waited again for what has come already"
            self.lock.acquire(timeout=timeout)
            if self.acquired == 2:
                raise KeyboardInterrupt
            return True

    with PortalThread() as thread:
        portal = thread.portal
        monkeypatch.setattr("jumpstarter_client.blocking.threading.Lock", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            portal.call(double, 1)
        monkeypatch.undo()


def test_ctrl_c_wins_over_what_breaks_on_the_way_out() -> None:
    @asynccontextmanager
    async def fragile() -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise OSError("the connection is gone as well")

    with PortalThread() as portal, pytest.raises(KeyboardInterrupt), portal.context(fragile()):
        raise KeyboardInterrupt


def test_closing_fails_who_still_waits(journal: Journal) -> None:
    portal = PortalThread()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            portal.call(journal.wait_for_ever)
        except ConnectError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert journal.started.wait(10)
    portal.close()
    thread.join(10)
    assert len(errors) == 1
    assert journal.lines == ["cancelled"]


def test_a_closed_portal_says_so() -> None:
    thread = PortalThread()
    assert thread.call(double, 1) == 2
    portal = thread.portal
    thread.close()
    thread.close()
    with pytest.raises(ConnectError, match="connect again"):
        thread.call(double, 1)
    with pytest.raises(ConnectError, match="connect again"):
        portal.call(double, 1)


def test_no_thread_before_the_first_use_and_none_after_the_end() -> None:
    before = threading.active_count()
    with PortalThread() as portal:
        assert threading.active_count() == before
        portal.call(double, 1)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_context_is_left_with_its_block(journal: Journal) -> None:
    with PortalThread() as portal:
        with portal.context(journal.room()) as value:
            assert value == "room"
            assert journal.lines == ["in"]
        assert journal.lines == ["in", "out"]


def test_an_exception_leaves_a_context_as_itself_and_not_in_a_group(journal: Journal) -> None:
    with PortalThread() as portal, pytest.raises(ValueError, match="mine"), portal.context(journal.room()):
        raise ValueError("mine")
    assert journal.lines == ["in", "out"]


def test_a_context_may_swallow_an_exception() -> None:
    @asynccontextmanager
    async def forgiving() -> AsyncIterator[None]:
        try:
            yield
        except KeyError:
            return

    with PortalThread() as portal, portal.context(forgiving()):
        raise KeyError("forgiven")


def test_a_context_that_cannot_be_entered_raises_its_own_error() -> None:
    async def refuse() -> None:
        raise PermissionError("not you")

    @asynccontextmanager
    async def closed() -> AsyncIterator[None]:
        async with trio.open_nursery():
            await refuse()
        yield

    with PortalThread() as portal, pytest.raises(PermissionError, match="not you"), portal.context(closed()):
        pass


def test_items_are_made_when_they_are_asked_for(journal: Journal) -> None:
    with PortalThread() as portal:
        items = portal.iterate(journal.count(3))
        assert next(items) == 0
        assert journal.lines == ["made 0"]
        assert list(items) == [1, 2]
        assert journal.lines == ["made 0", "made 1", "made 2", "closed"]


def test_leaving_an_iteration_closes_its_generator(journal: Journal) -> None:
    with PortalThread() as portal:
        items = portal.iterate(journal.count(3))
        next(items)
        items.close()
        assert journal.lines == ["made 0", "closed"]


def test_an_iterator_that_outlives_its_loop_goes_without_a_word(journal: Journal) -> None:
    with PortalThread() as portal:
        items = portal.iterate(journal.count(3))
        next(items)
    assert journal.lines == ["made 0", "closed"]
    items.close()


def test_an_error_ends_an_iteration_behind_its_last_item() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more")

    with PortalThread() as portal:
        items = portal.iterate(broken())
        assert next(items) == 1
        with pytest.raises(ValueError, match="no more"):
            next(items)
