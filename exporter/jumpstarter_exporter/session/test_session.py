"""Calls, reports, status and logs, as a client sees them over gRPC."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.remote import ReasonCode, reason_of
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

from jumpstarter_exporter.composite import Composite, Proxy
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing, Driver, export
from jumpstarter_exporter.session.session import Session

ERRORS: dict[str, Exception] = {
    "NotImplementedError": NotImplementedError("no such mode"),
    "ValueError": ValueError("volts are positive"),
    "UnicodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
    "TimeoutError": TimeoutError("the board is slow"),
    "TooSlowError": trio.TooSlowError("too slow"),
    "ConnectionError": ConnectionRefusedError("nobody there"),
    "OSError": OSError("input/output error"),
    "KeyError": KeyError("x"),
    "Exception": Exception("anything"),
    "DeviceMissing": DeviceMissing("unplugged; plug it in"),
    "DeviceBusy": DeviceBusy("it is being flashed; wait"),
    "DeviceFailed": DeviceFailed("burnt; replace it"),
    "group": ExceptionGroup("tasks", [ValueError("volts are positive")]),
}


@dataclass(kw_only=True, eq=False)
class Device(Driver):
    client: ClassVar[str] = "example.client.ExampleClient"
    interface: ClassVar[str] = "example"

    missing_at_open: bool = False
    events: list[str] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    async def open(self) -> None:
        if self.missing_at_open:
            raise DeviceMissing("the adapter is not plugged in; plug it in")
        self.events.append("open")

    async def close(self) -> None:
        self.events.append("close")

    async def reset(self) -> None:
        self.events.append("reset")
        if "fail reset" in self.events:
            raise OSError("stuck")

    def extra_labels(self) -> dict[str, str]:
        return {"example/kind": "x"}

    @export
    def which_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    @export
    async def echo(self, *values: Any) -> list[Any]:
        return list(values)

    @export
    async def add(self, first: int, second: int = 1) -> int:
        assert isinstance(first, int)
        return first + second

    @export
    def fail(self, name: str) -> None:
        raise ERRORS[name]

    @export
    async def unserialisable(self) -> object:
        return object()

    @export
    async def log(self, text: str) -> None:
        self.logger.info(text)

    @export
    async def flash(self) -> None:
        with self.exclusive("being flashed"):
            try:
                await trio.sleep_forever()
            finally:
                self.events.append("stopped")

    @export
    def block(self) -> None:
        self.started.set()
        self.release.wait(60)
        self.events.append("unblocked")

    @export
    def count(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                assert threading.current_thread() is not threading.main_thread()
                yield number
        finally:
            self.events.append("generator closed")

    @export
    async def count_async(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.events.append("generator closed")

    @export
    async def count_and_fail(self) -> AsyncIterator[int]:
        yield 1
        raise OSError("lost the meter")

    def hidden(self) -> None: ...


@pytest.fixture
def device() -> Device:
    return Device()


async def refusal(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value.code, caught.value.details


async def test_report(serve: Serve) -> None:
    device = Device(labels={"bench": "7"}, description="a device", methods_description={"on": "switch it on"})
    root = Composite(children={"board": Composite(children={"x": device}), "again": Proxy(ref="board.x")})
    async with serve(root, name="lab-pi") as user:
        report = await user.report()
    assert report.labels == {"jumpstarter.dev/name": "lab-pi"}
    top, board, under, again = report.reports
    assert not top.HasField("parent_uuid")
    assert "jumpstarter.dev/name" not in top.labels
    assert board.parent_uuid == again.parent_uuid == top.uuid
    assert under.parent_uuid == board.uuid
    assert under.uuid == again.uuid == str(device.uuid)
    assert dict(again.labels) == dict(under.labels) | {"jumpstarter.dev/name": "again"}
    assert dict(under.labels) == {
        "bench": "7",
        "example/kind": "x",
        "jumpstarter.dev/client": "example.client.ExampleClient",
        "jumpstarter.dev/name": "x",
        "jumpstarter.dev/interface": "example",
        "jumpstarter.dev/state": "ready",
        "jumpstarter.dev/reason": "not tried yet",
        "jumpstarter.dev/untried": "true",
    }
    assert (under.description, dict(under.methods_description)) == ("a device", {"on": "switch it on"})
    assert not top.HasField("description")


async def test_report_shows_states_and_reasons(serve: Serve, device: Device) -> None:
    root = Composite(children={"gone": Device(missing_at_open=True), "fine": device})
    async with serve(root) as user:
        assert (await refusal(user.call("gone", "echo")))[0] is StatusCode.UNAVAILABLE
        await user.call("fine", "echo")
        _, gone, fine = (await user.report()).reports
        assert gone.labels["jumpstarter.dev/state"] == "missing"
        assert gone.labels["jumpstarter.dev/reason"] == "the adapter is not plugged in; plug it in"
        assert fine.labels["jumpstarter.dev/state"] == "ready"
        assert "jumpstarter.dev/reason" not in fine.labels


async def test_call_opens_at_first_use_and_the_sessions_end_closes(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        assert device.events == []
        assert await user.call("", "add", 2) == 3
        assert await user.call("", "add", 2, 3) == 5
        assert device.events == ["open"]
    assert device.events == ["open", "close"]


async def test_values_go_both_ways(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        values = [None, True, 5.0, "text", [1.0, {"a": None}]]
        assert await user.call("", "echo", *values) == values


async def test_plain_methods_run_in_a_worker_thread(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        assert await user.call("", "which_thread") is False


@pytest.mark.parametrize(
    ("name", "code", "details"),
    [
        ("NotImplementedError", StatusCode.UNIMPLEMENTED, "no such mode"),
        ("ValueError", StatusCode.INVALID_ARGUMENT, "volts are positive"),
        (
            "UnicodeError",
            StatusCode.INVALID_ARGUMENT,
            "'utf-8' codec can't decode byte 0xff in position 0: bad byte",
        ),
        ("TimeoutError", StatusCode.DEADLINE_EXCEEDED, "the board is slow"),
        ("TooSlowError", StatusCode.DEADLINE_EXCEEDED, "too slow"),
        ("ConnectionError", StatusCode.UNAVAILABLE, "nobody there"),
        ("OSError", StatusCode.INTERNAL, "input/output error"),
        ("KeyError", StatusCode.UNKNOWN, "'x'"),
        ("Exception", StatusCode.UNKNOWN, "anything"),
        ("DeviceMissing", StatusCode.UNAVAILABLE, "unplugged; plug it in"),
        ("DeviceBusy", StatusCode.FAILED_PRECONDITION, "it is being flashed; wait"),
        ("DeviceFailed", StatusCode.INTERNAL, "burnt; replace it"),
        ("group", StatusCode.INVALID_ARGUMENT, "volts are positive"),
    ],
)
async def test_an_exceptions_class_is_the_status(
    serve: Serve, device: Device, name: str, code: StatusCode, details: str
) -> None:
    async with serve(device) as user:
        assert await refusal(user.call("", "fail", name)) == (code, details)
        assert await user.call("", "add", 1) == 2


@pytest.mark.parametrize(
    ("method", "arguments", "code", "details"),
    [
        ("nothing", [], StatusCode.NOT_FOUND, "method nothing not found on driver"),
        ("hidden", [], StatusCode.NOT_FOUND, "method hidden missing marker marker_drivercall"),
        ("count", [1], StatusCode.NOT_FOUND, "method count missing marker marker_drivercall"),
        ("events", [], StatusCode.NOT_FOUND, "method events missing marker marker_drivercall"),
        ("add", ["x"], StatusCode.INVALID_ARGUMENT, "add: argument first: Expected `int`, got `str`"),
        ("add", [], StatusCode.INVALID_ARGUMENT, "add takes 2 arguments (first, [second]), not 0"),
        (
            "unserialisable",
            [],
            StatusCode.INVALID_ARGUMENT,
            "a object has no JSON form; return text, numbers, lists, dicts or a dataclass",
        ),
    ],
)
async def test_a_wrong_call_is_refused_in_words(
    serve: Serve, method: str, arguments: list[object], code: StatusCode, details: str
) -> None:
    async with serve(Device()) as user:
        assert await refusal(user.call("", method, *arguments)) == (code, details)


async def test_a_wrong_argument_does_not_touch_the_hardware(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        await refusal(user.call("", "add", "x"))
        await refusal(user.call("", "nothing"))
    assert device.events == []


async def test_an_unknown_or_malformed_uuid_is_worded_as_jumpstarter_words_it(
    serve: Serve, device: Device
) -> None:
    async with serve(device) as user:
        nobody = uuid4()
        for uuid, text in (
            (str(nobody), f"Unexpected <class 'KeyError'>: {nobody!r}"),
            ("x", "Unexpected <class 'ValueError'>: badly formed hexadecimal UUID string"),
        ):
            request = jumpstarter_pb2.DriverCallRequest(uuid=uuid, method="echo")
            assert await refusal(user.exporter.DriverCall(request)) == (StatusCode.UNKNOWN, text)
        upper = jumpstarter_pb2.DriverCallRequest(uuid=str(device.uuid).upper(), method="echo")
        await user.exporter.DriverCall(upper)


async def test_a_busy_device_says_with_what(serve: Serve, device: Device) -> None:
    async with serve(device) as user, trio.open_nursery() as nursery:
        nursery.start_soon(user.call, "", "flash")
        while device.lifecycle.state != "busy":
            await user.report()
        code, details = await refusal(user.call("", "flash"))
        assert (code, details) == (
            StatusCode.FAILED_PRECONDITION,
            "the device is being flashed; wait until that is done, or end it",
        )
        assert (await user.report()).reports[0].labels["jumpstarter.dev/reason"] == "being flashed"
        nursery.cancel_scope.cancel()


async def test_a_caller_who_leaves_stops_an_async_method(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(user.call, "", "flash")
            while device.lifecycle.state != "busy":
                await user.report()
            nursery.cancel_scope.cancel()
        while user.session.tree.root.in_flight:
            await user.report()
        assert "stopped" in device.events


async def test_a_plain_method_whose_caller_left_ends_before_its_device_closes(
    serve: Serve, device: Device
) -> None:
    async with serve(device) as user:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(user.call, "", "block")
            await trio.to_thread.run_sync(device.started.wait)
            assert user.session.tree.root.in_flight == 1
            nursery.cancel_scope.cancel()
        device.release.set()
    assert device.events == ["open", "unblocked", "close"]


@pytest.mark.parametrize("method", ["count", "count_async"])
async def test_streaming(serve: Serve, device: Device, method: str) -> None:
    async with serve(device) as user:
        async with user.results("", method, 3) as results:
            assert [result async for result in results] == [0, 1, 2]
        assert device.events == ["open", "generator closed"]


@pytest.mark.parametrize("method", ["count", "count_async"])
async def test_a_reader_who_leaves_ends_the_generator(serve: Serve, device: Device, method: str) -> None:
    async with serve(device) as user:
        async with user.results("", method, 1_000_000) as results:
            assert await anext(results) == 0
        while "generator closed" not in device.events:
            await user.report()


async def exhaust(user: User, method: str) -> None:
    async with user.results("", method) as results:
        async for _ in results:
            pass


async def test_streaming_errors(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        for method, code, details in (
            ("add", StatusCode.NOT_FOUND, "method add missing marker marker_streamingdrivercall"),
            ("nothing", StatusCode.NOT_FOUND, "method nothing not found on driver"),
            ("count_and_fail", StatusCode.INTERNAL, "lost the meter"),
        ):
            assert await refusal(exhaust(user, method)) == (code, details)


async def test_log_readers_each_get_every_entry_as_it_happens(user: Any, device: Device) -> None:
    async with Session(device) as session, user(session) as one, user(session) as other:
        await one.call("", "log", "before anybody reads")
        async with (
            one.exporter.LogStream(empty_pb2.Empty()) as first,
            other.exporter.LogStream(empty_pb2.Empty()) as second,
        ):
            await first.initial_metadata()
            await second.initial_metadata()
            await one.call("", "log", "hello")
            for stream in (first, second):
                entry = await stream.receive()
                assert (entry.message, entry.severity, entry.driver_type) == ("hello", "INFO", "Device")
                assert entry.source == common_pb2.LOG_SOURCE_DRIVER


async def test_a_leases_log_begins_with_its_session(serve: Serve, device: Device) -> None:
    async with serve(device, lease="lease-1") as user:
        await user.call("", "log", "before anybody reads")
        async with user.exporter.LogStream(empty_pb2.Empty()) as stream:
            messages = [(await stream.receive()).message]
            while messages[-1] != "before anybody reads":
                messages.append((await stream.receive()).message)


async def test_status_and_end_of_session(serve: Serve, device: Device) -> None:
    async with serve(device) as user:
        status = await user.exporter.GetStatus(jumpstarter_pb2.GetStatusRequest())
        assert (status.status, status.message) == (
            common_pb2.EXPORTER_STATUS_LEASE_READY,
            "Ready for commands",
        )
        assert (status.status_version, status.previous_status) == (1, common_pb2.EXPORTER_STATUS_AVAILABLE)
        answer = await user.exporter.EndSession(jumpstarter_pb2.EndSessionRequest())
        assert (answer.success, answer.message) == (False, "No active lease context")


async def test_a_lease_can_be_ended(serve: Serve, device: Device) -> None:
    async with serve(device, lease="lease-1") as user:
        assert not user.session.end_requested.is_set()
        answer = await user.exporter.EndSession(jumpstarter_pb2.EndSessionRequest())
        assert answer.success
        assert answer.message == "Session end triggered, afterLease hook running asynchronously"
        assert user.session.end_requested.is_set()


async def test_reset_reaches_every_device_in_use_also_past_one_that_fails(serve: Serve) -> None:
    bad, good, unused = Device(), Device(), Device()
    async with serve(Composite(children={"bad": bad, "good": good, "unused": unused})) as user:
        await user.call("bad", "echo")
        await user.call("good", "echo")
        bad.events.append("fail reset")
        code, details = await refusal(user.exporter.Reset(jumpstarter_pb2.ResetRequest()))
        assert (code, details) == (StatusCode.INTERNAL, "not all devices were reset: bad: stuck")
        assert good.events == ["open", "reset"]
        assert unused.events == []
        bad.events.remove("fail reset")
        await user.exporter.Reset(jumpstarter_pb2.ResetRequest())


async def test_two_sessions_on_one_host_hear_of_their_own_calls_only(serve: Serve) -> None:
    async with serve(Device(), lease="ann's") as ann, serve(Device(), lease="bob's") as bob:
        await ann.call("", "log", "ann's")
        await bob.call("", "log", "bob's")
        for user, own in ((ann, "ann's"), (bob, "bob's")):
            await user.call("", "log", "last")
            async with user.exporter.LogStream(empty_pb2.Empty()) as stream:
                assert [(await stream.receive()).message for _ in range(2)] == [own, "last"]


async def test_errors_of_a_sessions_block_leave_it_as_themselves(device: Device) -> None:
    async def fail() -> None:
        async with Session(device) as session:
            await session.tree.root.open()
            raise ZeroDivisionError

    handlers = list(logging.getLogger().handlers)
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert logging.getLogger().handlers == handlers
    assert device.events == ["open", "close"]


async def test_a_method_that_is_called_in_another_way_is_told_from_one_that_is_not_there(
    serve: Serve,
) -> None:
    async with serve(Device()) as user:
        for method, reason in (("count", ReasonCode.OTHER_KIND), ("nothing", "")):
            with pytest.raises(RpcError) as caught:
                await user.call("", method)
            assert reason_of(caught.value) == reason
