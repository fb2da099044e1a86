"""Drivers are guests: whatever one raises, returns or never ends, only its own device is harmed."""

from __future__ import annotations

import datetime
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter import isolation
from jumpstarter_exporter.composite import Unavailable
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.device_state import Lifecycle, State
from jumpstarter_exporter.devices import opening
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing, Driver, export, export_stream
from jumpstarter_exporter.session.report import REASON, STATE
from jumpstarter_exporter.threads import MAX_DEVICE_THREADS, DeviceThreads


class Odd(BaseException):
    pass


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(9)


class ChangingError(Exception):
    """Readable once."""

    times = 0

    def __str__(self) -> str:
        self.times += 1
        if self.times > 1:
            raise Odd
        return "once"


class IncompleteError(Exception):
    """Its text and its comparison need what nobody has set."""

    part: int

    def __str__(self) -> str:
        return f"part {self.part}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return self.part == 5

    def __hash__(self) -> int:
        return self.part


class HostileArgument:
    def __str__(self) -> str:
        raise Odd

    __repr__ = __str__


def hostile_argument() -> BaseException:
    return ValueError(HostileArgument())


def without_code() -> BaseException:
    return RpcError("no code", 5)  # type: ignore[arg-type]


def stray_cancellation() -> BaseException:
    return trio.Cancelled._create(source="unknown")


RAISED: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    lambda: Odd("odd"),
    stray_cancellation,
    StopIteration,
    StopAsyncIteration,
    UnreadableError,
    ChangingError,
    IncompleteError,
    lambda: ExceptionGroup("group", [IncompleteError(), ValueError("x")]),
    hostile_argument,
    lambda: ValueError("x" * 5_000_000),
    lambda: ValueError("\udc80"),
    lambda: RpcError(StatusCode.OK, "all is well"),
    without_code,
    lambda: RpcError(StatusCode.ABORTED, "x", [("grpc-status", "0")]),
    lambda: BaseExceptionGroup("group", [SystemExit(3), ValueError("x")]),
    lambda: ExceptionGroup("group", [ValueError("x"), ValueError("y")]),
    MemoryError,
    RecursionError,
]


PLACES = [
    "open",
    "background",
    "close",
    "reset",
    "extra_labels",
    "opens_at_start",
    "plain",
    "asynchronous",
    "nursery's task",
    "nursery's body",
    "nursery's end",
    "generator",
    "async_generator",
    "stream",
    "stream's end",
]


@dataclass(kw_only=True, eq=False)
class Raising(Driver):
    """Raises in one place."""

    client: ClassVar[str] = "example.Client"

    where: str
    error: Callable[[], BaseException]

    def here(self, where: str) -> None:
        if where == self.where:
            raise self.error()

    async def open(self) -> None:
        self.here("open")
        if self.where == "background":
            self.nursery.start_soon(self.background)

    async def background(self) -> None:
        await trio.lowlevel.checkpoint()
        self.here("background")

    async def close(self) -> None:
        self.here("close")

    async def reset(self) -> None:
        self.here("reset")

    def extra_labels(self) -> dict[str, str]:
        self.here("extra_labels")
        return {"extra": "label"}

    @property
    def opens_at_start(self) -> bool:
        self.here("opens_at_start")
        return False

    @export
    def plain(self) -> str:
        self.here("plain")
        return "plain"

    @export
    async def asynchronous(self) -> str:
        self.here("asynchronous")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.task, "nursery's task")
            if self.where == "nursery's end":
                nursery.start_soon(self.late_task)
                await trio.testing.wait_all_tasks_blocked()
                raise ValueError("x")
            self.here("nursery's body")
        return "asynchronous"

    async def task(self, where: str) -> None:
        self.here(where)

    async def late_task(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.here("nursery's end")

    @export
    def generator(self) -> Iterator[int]:
        yield 1
        self.here("generator")

    @export
    async def async_generator(self) -> AsyncIterator[int]:
        yield 1
        self.here("async_generator")

    @export_stream
    @asynccontextmanager
    async def stream(self) -> AsyncIterator[trio.abc.Stream]:
        self.here("stream")
        one, two = trio.testing.memory_stream_pair()
        await two.send_eof()
        yield one
        self.here("stream's end")


@dataclass(kw_only=True, eq=False)
class Good(Driver):
    client: ClassVar[str] = "example.Client"

    @export
    def plain(self) -> str:
        return "well"


@contextmanager
def refused_or_not() -> Iterator[None]:
    """A call ends, in any way but one: the connection goes on."""
    try:
        yield
    except (RpcError, trio.BrokenResourceError) as error:
        if isinstance(error, RpcError) and error.code in (StatusCode.OK, StatusCode.UNAVAILABLE):
            raise AssertionError(error.details) from error


async def use_everything(user: User, path: str) -> None:
    for method in ("plain", "asynchronous"):
        with refused_or_not():
            await user.call(path, method)
    for method in ("generator", "async_generator"):
        with refused_or_not():
            async with user.results(path, method) as results:
                async for _ in results:
                    pass
    with refused_or_not():
        async with user.stream(path, "stream") as stream:
            await stream.send_eof()
            await stream.receive_some()
    with refused_or_not():
        await user.exporter.Reset(jumpstarter_pb2.ResetRequest())


@pytest.mark.parametrize("where", PLACES)
async def test_whatever_a_driver_raises_wherever_its_neighbour_answers(serve: Serve, where: str) -> None:
    with trio.fail_after(60):
        for error in RAISED:
            bad, good = Raising(where=where, error=error), Good()
            root = Good(children={"bad": bad, "good": good})
            async with serve(root) as user, trio.open_nursery() as nursery:
                nursery.start_soon(user.session.tree.keep_open)
                await use_everything(user, "bad")
                assert await user.call("good", "plain") == "well"
                assert len((await user.report()).reports) == 3
                nursery.cancel_scope.cancel()


async def test_what_is_raised_is_told_with_its_class_and_text(serve: Serve) -> None:
    async with serve(Raising(where="plain", error=lambda: SystemExit("enough"))) as user:
        with pytest.raises(RpcError, match=r"plain\(\) raised SystemExit \(enough\)") as caught:
            await user.call("", "plain")
        assert caught.value.code is StatusCode.INTERNAL


def test_a_tamed_exception_keeps_its_status() -> None:
    class Unplugged(DeviceMissing):
        def __str__(self) -> str:
            return "unplugged"

    error = isolation.make_harmless(Unplugged(), "open()")
    assert type(error) is DeviceMissing
    assert str(error) == "unplugged"
    plain = OSError(5, "no such port")
    assert isolation.make_harmless(plain, "open()") is plain


async def test_a_drivers_nursery_ends_with_what_its_task_raised() -> None:
    error = ValueError("x")

    async def fail(error: BaseException) -> None:
        raise error

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail, ExceptionGroup("", [IncompleteError(), error]))
            nursery.start_soon(fail, error)

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert caught.group_contains(ValueError, match="^x$")
    assert caught.group_contains(
        DeviceFailed, match="raised IncompleteError, with a message that cannot be read"
    )


class UnreadableText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise Odd


def nested_group() -> BaseException:
    error: Exception = ValueError("x")
    for _ in range(3000):
        error = ExceptionGroup("", [error, ValueError("y")])
    return error


@pytest.mark.parametrize(
    "error",
    [lambda: ExceptionGroup(UnreadableText("x"), [ValueError("x")]), nested_group],
    ids=["whose message has no text", "nested too deeply"],
)
async def test_a_group_whose_text_cannot_be_had_ends_a_drivers_own_nursery_only(
    error: Callable[[], BaseException],
) -> None:
    async def fail() -> None:
        raise error()

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
    assert repr(caught.value)


async def test_a_device_that_could_not_be_made_says_why_and_its_children_work(serve: Serve) -> None:
    bad = Unavailable(reason="x.yaml:3: unknown type 'x'; install it", children={"child": Good()})
    async with serve(Good(children={"bad": bad, "good": Good()})) as user:
        for use in (user.call("bad", "on"), use_stream(user), use_results(user)):
            with pytest.raises(RpcError, match="unknown type 'x'; install it"):
                await use
        assert await user.call("good", "plain") == "well"
        assert await user.call("bad.child", "plain") == "well"
        report = next(report for report in (await user.report()).reports if report.uuid == str(bad.uuid))
        assert report.labels[STATE] == "failed"
        assert report.labels[REASON] == bad.reason


async def use_stream(user: User) -> None:
    async with user.stream("bad", "connect"):
        pass


async def use_results(user: User) -> None:
    async with user.results("bad", "read") as results:
        async for _ in results:
            pass


def endless() -> Iterator[int]:
    while True:
        yield 1


def nested() -> object:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


def cycle() -> object:
    value: list[object] = []
    value.append(value)
    return value


class HostileObject:
    """None of its methods does what it should."""

    def _refuse(self, *_: object) -> object:
        raise Odd

    __str__ = __repr__ = __eq__ = __iter__ = __len__ = __getattr__ = __hash__ = __bool__ = _refuse  # type: ignore[assignment]


class HostileDict(dict[str, object]):
    def items(self) -> object:  # type: ignore[override]
        raise SystemExit


class HostileText(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise Odd


RETURNED: list[Callable[[], object]] = [
    endless,
    nested,
    cycle,
    HostileObject,
    lambda: HostileDict(a=1),
    lambda: HostileText("x"),
    lambda: "x" * 20_000_000,
    lambda: b"x" * 20_000_000,
    lambda: "\udc80",
    lambda: [0] * 600_000,
    lambda: {HostileArgument(): 1},
    lambda: 10**5000,
    object,
    lambda: Good,
]


@dataclass(kw_only=True, eq=False)
class Returning(Driver):
    client: ClassVar[str] = "example.Client"

    result: Callable[[], object]

    @export
    def plain(self) -> object:
        return self.result()

    @export
    async def asynchronous(self) -> object:
        return self.result()

    @export
    def generator(self) -> object:
        yield self.result()

    @export
    async def async_generator(self) -> AsyncIterator[object]:
        yield self.result()

    @export_stream
    @asynccontextmanager
    async def stream(self) -> AsyncIterator[object]:
        yield self.result()


@pytest.mark.parametrize("number", range(len(RETURNED)))
async def test_a_result_that_cannot_be_sent_is_an_error_of_its_call(serve: Serve, number: int) -> None:
    bad, good = Returning(result=RETURNED[number]), Good()
    with trio.fail_after(60):
        async with serve(Good(children={"bad": bad, "good": good})) as user:
            for method in ("plain", "asynchronous"):
                with pytest.raises(RpcError) as caught:
                    await user.call("bad", method)
                assert caught.value.code in (StatusCode.INVALID_ARGUMENT, StatusCode.INTERNAL)
            await use_everything(user, "bad")
            assert await user.call("good", "plain") == "well"


async def test_the_loop_goes_on_while_a_large_result_is_encoded(serve: Serve) -> None:
    async with serve(Returning(result=lambda: [0] * 2_000_000)) as user:
        longest = 0.0

        async def tick() -> None:
            nonlocal longest
            while True:
                before = trio.current_time()
                await trio.sleep(0.001)
                longest = max(longest, trio.current_time() - before)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            for method in ("plain", "asynchronous"):
                with pytest.raises(RpcError, match="larger than 4 MiB"):
                    await user.call("", method)
            nursery.cancel_scope.cancel()
        assert longest < 0.5


@dataclass(kw_only=True, eq=False)
class Blocking(Driver):
    """Blocks for as long as the test wants."""

    client: ClassVar[str] = "example.Client"

    go_on: threading.Event = field(default_factory=threading.Event)
    go_on_async: trio.Event = field(default_factory=trio.Event)
    blocks_in: frozenset[str] = frozenset()
    events: list[str] = field(default_factory=list)
    has_begun: bool = False

    async def _block(self, where: str) -> None:
        if where in self.blocks_in:
            with trio.CancelScope(shield=True):
                await self.go_on_async.wait()
        self.events.append(where)

    async def open(self) -> None:
        await self._block("open")
        self.nursery.start_soon(self._block, "background")

    async def close(self) -> None:
        await self._block("close")

    @export
    def plain(self) -> None:
        self.has_begun = True
        self.go_on.wait()

    @export
    def generator(self) -> Iterator[int]:
        try:
            yield 1
        finally:
            self.go_on.wait()

    @export
    async def asynchronous(self) -> None:
        self.has_begun = True
        with trio.CancelScope(shield=True):
            await self.go_on_async.wait()

    @export_stream
    @asynccontextmanager
    async def stream(self) -> AsyncIterator[trio.abc.Stream]:
        with trio.CancelScope(shield=True):
            await self.go_on_async.wait()
        yield trio.testing.memory_stream_pair()[0]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.02)
    monkeypatch.setattr(isolation, "CLEAN_UP_SECONDS", 0.02)
    monkeypatch.setattr(opening, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(opening, "CLOSE_SECONDS", 0.05)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await trio.sleep(0.01)


async def call_in_vain(user: User, driver: Blocking, path: str, method: str) -> None:
    """A call whose time ends in the driver; on a busy machine it may end before that, and is made again."""
    while not driver.has_begun:
        with pytest.raises(RpcError):
            await user.call(path, method, timeout=0.1)


async def test_a_coroutine_has_more_time_to_put_its_device_in_order_than_a_thread_to_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.02)
    orderly, stuck = Blocking(), Blocking()
    with trio.fail_after(60):
        async with serve(Good(children={"orderly": orderly, "stuck": stuck})) as user:
            try:
                await call_in_vain(user, orderly, "orderly", "asynchronous")
                await call_in_vain(user, stuck, "stuck", "plain")
                await until(lambda: stuck.lifecycle.is_stuck)
                assert not orderly.lifecycle.is_stuck, "who left first still has time"
            finally:
                stuck.go_on.set()
                orderly.go_on_async.set()
            await until(lambda: not stuck.lifecycle.is_stuck)


@pytest.mark.usefixtures("impatient")
async def test_calls_that_block_for_ever_stop_no_other_device(serve: Serve) -> None:
    bad, good = Blocking(), Good()
    with trio.fail_after(60):
        async with serve(Good(children={"bad": bad, "good": good})) as user:
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(64):
                        nursery.start_soon(user.call, "bad", "plain")
                    await until(lambda: bad.threads.count == MAX_DEVICE_THREADS)
                    await trio.testing.wait_all_tasks_blocked(0.05)  # whoever would be let in as well
                    nursery.cancel_scope.cancel()
                assert bad.threads.count <= MAX_DEVICE_THREADS
                for _ in range(3):
                    assert await user.call("good", "plain") == "well"
                await until(lambda: bad.lifecycle.is_stuck)
                assert bad.lifecycle.state is State.FAILED
                # Named: which method, and since when; and no thread more is spent on it.
                assert f"plain() has not returned since {datetime.date.today()}" in bad.lifecycle.reason  # noqa: DTZ011
                with pytest.raises(RpcError, match=r"plain\(\) has not returned since") as caught:
                    await user.call("bad", "asynchronous")
                assert caught.value.code is StatusCode.INTERNAL
            finally:
                bad.go_on.set()
            await until(lambda: not bad.lifecycle.is_stuck)
            await user.call("bad", "plain")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", ["plain", "asynchronous"])
async def test_a_session_ends_though_a_call_never_does(serve: Serve, method: str) -> None:
    bad = Blocking()
    try:
        with trio.fail_after(20):
            async with serve(bad) as user:
                await call_in_vain(user, bad, "", method)
        assert bad.lifecycle.state is State.FAILED
    finally:
        bad.go_on.set()
        bad.go_on_async.set()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["open", "close", "background"])
async def test_a_session_ends_though_its_driver_never_does(serve: Serve, where: str) -> None:
    bad, good = Blocking(blocks_in=frozenset({where})), Good()
    bad.go_on.set()
    with trio.fail_after(20):
        async with serve(Good(children={"bad": bad, "good": good})) as user:
            with refused_or_not():
                await user.call("bad", "plain")
            assert await user.call("good", "plain") == "well"
        assert bad.lifecycle.is_stuck
        assert "has not returned since" in bad.lifecycle.reason
        bad.go_on_async.set()
        await until(lambda: not bad.lifecycle.is_stuck)
    # What opened at last is closed again.
    assert bad.events.count("open") == bad.events.count("close") == 1


async def test_a_plain_method_whose_caller_left_is_waited_for() -> None:
    started, go_on, left = threading.Event(), threading.Event(), trio.Event()
    threads = DeviceThreads()

    def method() -> None:
        started.set()
        go_on.wait()

    async def call(scope: trio.CancelScope) -> None:
        with scope:
            await isolation.run(Lifecycle(), "plain()", lambda: isolation.in_thread(threads, method))
        left.set()

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(call, scope)
        await trio.to_thread.run_sync(started.wait)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not left.is_set()
        go_on.set()
        await left.wait()
    assert threads.count == 0


async def test_a_generator_is_closed_though_its_caller_was_cancelled(serve: Serve) -> None:
    bad = Blocking()
    async with serve(bad) as user:
        async with user.results("", "generator") as results:
            assert await anext(results) == 1
        bad.go_on.set()
        await until(lambda: not (bad.threads.count or user.session.tree.root.in_flight))
        assert not bad.lifecycle.is_stuck


BLOCKS = len(RAISED)


@dataclass(kw_only=True, eq=False)
class Misbehaving(Raising):
    """Raises in several places, and blocks in others for ever: all that cancel and wait for it do so in vain."""

    where: str = ""
    error: Callable[[], BaseException] = KeyboardInterrupt
    faults: dict[str, int]
    go_on: threading.Event = field(default_factory=threading.Event)
    go_on_async: trio.Event = field(default_factory=trio.Event)

    def here(self, where: str) -> None:
        fault = self.faults.get(where)
        if fault == BLOCKS and where in ("plain", "generator"):
            self.go_on.wait()
        elif fault is not None and fault != BLOCKS:
            error = RAISED[fault]
            raise error()

    async def block(self, where: str) -> None:
        if self.faults.get(where) == BLOCKS:
            with trio.CancelScope(shield=True):
                await self.go_on_async.wait()

    async def open(self) -> None:
        await self.block("open")
        await super().open()
        self.nursery.start_soon(self.background)

    async def background(self) -> None:
        await self.block("background")
        await super().background()

    async def close(self) -> None:
        await self.block("close")
        await super().close()

    @export
    async def asynchronous(self) -> str:
        await self.block("asynchronous")
        return await super().asynchronous()


async def use(user: User, path: str, what: str) -> None:
    with refused_or_not():
        match what:
            case "reset":
                with trio.move_on_after(0.1):
                    await user.exporter.Reset(jumpstarter_pb2.ResetRequest())
            case "report":
                await user.report()
            case "stream":
                with trio.move_on_after(0.1):
                    async with user.stream(path, "stream") as stream:
                        await stream.send_eof()
                        await stream.receive_some()
            case "generator" | "async_generator":
                with trio.move_on_after(0.1):
                    async with user.results(path, what) as results:
                        async for _ in results:
                            pass
            case _:
                await user.call(path, what, timeout=0.1)


def is_for_trio(place: str, fault: int) -> bool:
    """Whether trio's own nursery gets it, which takes the `repr` of what ends it."""
    return place == "background" and fault < BLOCKS and RAISED[fault] in (hostile_argument, without_code)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(PLACES), st.integers(0, BLOCKS), min_size=1, max_size=4).filter(
        lambda faults: not any(is_for_trio(*fault) for fault in faults.items())
    ),
    st.lists(
        st.sampled_from(
            ["plain", "asynchronous", "generator", "async_generator", "stream", "reset", "report"]
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_driver_that_misbehaves_anywhere_in_any_order_leaves_its_neighbour_alone(
    serve: Serve, faults: dict[str, int], uses: list[str]
) -> None:
    async def scenario() -> None:
        bad, good = Misbehaving(faults=faults), Good()
        try:
            async with (
                serve(Good(children={"bad": bad, "good": good})) as user,
                trio.open_nursery() as watching,
            ):
                # It opens in its own time; then nobody waits long for the other one.
                assert await user.call("good", "plain") == "well"
                be_impatient(monkeypatch)
                watching.start_soon(user.session.tree.keep_open)
                async with trio.open_nursery() as nursery:
                    for what in uses:
                        nursery.start_soon(use, user, "bad", what)
                    assert await user.call("good", "plain") == "well"
                for what in uses:
                    await use(user, "bad", what)
                    assert await user.call("good", "plain") == "well"
                assert len((await user.report()).reports) == 3
                watching.cancel_scope.cancel()
        finally:
            bad.go_on.set()
            bad.go_on_async.set()

    async def limited() -> None:
        with trio.fail_after(30):
            await scenario()

    with pytest.MonkeyPatch.context() as monkeypatch:
        trio.run(limited)
