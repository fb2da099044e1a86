"""What any driver client can do, against an exporter that says what the test wants."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.errors import ExitCode, JumpstarterUsageError
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2, router_pb2

from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import FakeExporter, echo, entry, serving
from jumpstarter_client.errors import (
    DriverError,
    DriverInvalidArgument,
    DriverMethodNotImplemented,
    ExporterNotReady,
)


def status(value: int, message: str = "") -> jumpstarter_pb2.GetStatusResponse:
    return jumpstarter_pb2.GetStatusResponse(status=value, message=message)  # type: ignore[arg-type]


def refuse(code: StatusCode, details: str) -> Any:
    def method(*_: object) -> None:
        raise RpcError(code, details)

    return method


# --- calls


async def test_call_sends_arguments_and_gives_the_result(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.methods["set"] = lambda volts, names: {"volts": volts, "names": names}
    assert await root.rpi4.power.call_async("set", 5, ("a", "b")) == {"volts": 5.0, "names": ["a", "b"]}
    assert exporter.called == [("switch", "set", [5.0, ["a", "b"]])]


CODES = [
    (StatusCode.FAILED_PRECONDITION, ExporterNotReady, ExitCode.FAILED),
    (StatusCode.NOT_FOUND, DriverMethodNotImplemented, ExitCode.FAILED),
    (StatusCode.UNIMPLEMENTED, DriverMethodNotImplemented, ExitCode.FAILED),
    (StatusCode.INVALID_ARGUMENT, DriverInvalidArgument, ExitCode.USAGE),
    (StatusCode.UNAVAILABLE, DriverError, ExitCode.UNAVAILABLE),
    (StatusCode.DEADLINE_EXCEEDED, DriverError, ExitCode.TIMEOUT),
    (StatusCode.UNAUTHENTICATED, DriverError, ExitCode.DENIED),
    (StatusCode.UNKNOWN, DriverError, ExitCode.FAILED),
]


@pytest.mark.parametrize(("code", "kind", "exit_code"), CODES)
async def test_a_status_of_a_call_becomes_an_exception(
    root: DriverClient, exporter: FakeExporter, code: StatusCode, kind: type[DriverError], exit_code: ExitCode
) -> None:
    exporter.methods["on"] = refuse(code, "the relay is welded")
    with pytest.raises(DriverError) as caught:
        await root.rpi4.power.call_async("on")
    assert type(caught.value) is kind
    assert str(caught.value) == f"DriverCall 'on' failed with gRPC {code.name}: the relay is welded"
    assert (caught.value.details, caught.value.exit_code) == ("the relay is welded", exit_code)


async def test_exceptions_are_also_pythons_own(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.methods["on"] = refuse(StatusCode.INVALID_ARGUMENT, "no")
    with pytest.raises(ValueError, match="no"):
        await root.rpi4.power.call_async("on")
    with pytest.raises(NotImplementedError):
        await root.rpi4.power.call_async("no_such_method")


async def test_a_streaming_call_gives_its_items_and_then_its_error(
    root: DriverClient, exporter: FakeExporter
) -> None:
    def read() -> Any:
        yield 1
        raise RpcError(StatusCode.NOT_FOUND, "the meter is gone")

    exporter.methods["read"] = read
    items = root.rpi4.power.streamingcall_async("read")
    assert await anext(items) == 1
    with pytest.raises(DriverError, match=r"^the meter is gone$") as caught:
        await anext(items)
    assert type(caught.value) is DriverError  # not "not implemented", unlike a call's NOT_FOUND


async def test_leaving_a_streaming_call_ends_it_at_the_exporter(
    root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.methods["read"] = lambda: iter(range(1_000_000))
    async with aclosing(root.rpi4.power.streamingcall_async("read")) as items:
        assert await anext(items) == 0
    with trio.fail_after(5):
        while not exporter.ended_streams:
            await trio.testing.wait_all_tasks_blocked()


def test_blocking_calls(blocking_root: DriverClient, exporter: FakeExporter) -> None:
    exporter.methods["read"] = lambda: iter("abc")
    blocking_root.rpi4.power.call("on")
    assert list(blocking_root.rpi4.power.streamingcall("read")) == ["a", "b", "c"]


async def test_a_blocking_call_in_a_trio_task_is_refused(root: DriverClient) -> None:
    with pytest.raises(JumpstarterUsageError):
        root.rpi4.power.call("on")


# --- the tree


async def test_children_are_attributes_and_items(root: DriverClient) -> None:
    assert root.rpi4.power is root.children["rpi4"].children["power"]
    assert list(root.children) == ["rpi4"]
    assert root.rpi4.power.path == "rpi4.power"
    assert type(root.rpi4.power).__name__ == "PowerClient"


async def test_an_unknown_child_is_answered_with_those_there_are(root: DriverClient) -> None:
    with pytest.raises(AttributeError, match="'rpi5'; its children are rpi4"):
        _ = root.rpi5


async def test_a_class_that_may_not_be_loaded_fails_on_use_only(exporter: FakeExporter) -> None:
    exporter.reports.append(entry("fan", "fan", "root", "some_lab.client.FanClient"))
    async with serving(exporter) as root:
        fan = root.fan
        with pytest.raises(DriverError, match="JMP_DRIVERS_ALLOW=some_lab"):
            await fan.call_async("on")
        with pytest.raises(DriverError, match="fan cannot be used"):
            async with fan.stream_async():
                pass
        with pytest.raises(DriverError, match="fan cannot be used"):
            await anext(fan.streamingcall_async("read"))
        assert exporter.called == []


# --- streams


async def test_a_stream_carries_bytes_and_ends_on_both_sides(
    root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    async with root.rpi4.power.stream_async() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_a_stream_asks_for_its_driver_and_method(root: DriverClient, exporter: FakeExporter) -> None:
    asked: list[dict[str, Any]] = []

    async def serve(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        asked.append(request)
        await call.send_initial_metadata()

    exporter.stream = serve
    async with root.rpi4.power.stream_async("console"):
        pass
    assert asked == [{"kind": "driver", "uuid": "switch", "method": "console"}]


async def test_a_stream_that_cannot_be_opened_says_why(root: DriverClient, exporter: FakeExporter) -> None:
    async def serve(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        raise RpcError(StatusCode.UNAVAILABLE, "the port is not plugged in")

    exporter.stream = serve
    with pytest.raises(DriverError, match="not plugged in"):
        async with root.rpi4.power.stream_async():
            pass


def test_a_blocking_stream(blocking_root: DriverClient, exporter: FakeExporter) -> None:
    exporter.stream = echo
    with blocking_root.rpi4.power.stream() as stream:
        stream.send(b"hello")
        assert stream.receive() == b"hello"
        stream.send_eof()
        assert stream.receive() == b""


def test_a_stream_without_a_block_ends_when_it_is_closed(
    blocking_root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    stream = blocking_root.rpi4.power.open_stream()
    stream.send(b"x")
    assert stream.receive() == b"x"
    stream.close()
    stream.close()
    with pytest.raises(trio.ClosedResourceError):
        stream.send(b"y")


# --- status and logs


async def test_an_exporter_without_a_status_is_ready(root: DriverClient) -> None:
    assert await root.get_status_async() is None
    await root.wait_for_lease_ready()


async def test_waiting_for_the_lease_asks_until_it_is_ready(
    root: DriverClient, exporter: FakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_client.session_status.POLL_SECONDS", 0)
    exporter.statuses = [
        status(common_pb2.EXPORTER_STATUS_AVAILABLE),
        status(common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK),
        status(common_pb2.EXPORTER_STATUS_LEASE_READY),
    ]
    await root.wait_for_lease_ready()
    assert len(exporter.statuses) == 1


async def test_a_failed_hook_ends_the_wait(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.statuses = [status(common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, "no power")]
    with pytest.raises(ExporterNotReady, match="no power"):
        await root.wait_for_lease_ready()


async def test_a_wait_for_the_lease_is_bounded(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.statuses = [status(common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK)]
    with pytest.raises(ExporterNotReady, match="within 0 s"):
        await root.wait_for_lease_ready(timeout=0)


async def test_a_hook_that_never_ends_is_waited_for_only_so_long(
    root: DriverClient, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    exporter.statuses = [status(common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK)]
    with trio.fail_after(100), pytest.raises(ExporterNotReady, match="within 20 s"):
        await root.wait_for_lease_ready(timeout=20)
    assert trio.current_time() == pytest.approx(20)


async def test_a_stream_is_of_no_use_after_its_block(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.stream = echo
    async with root.rpi4.power.stream_async() as stream:
        await stream.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"y")
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


def test_closing_a_client_ends_its_streams_and_not_the_connection(
    blocking_root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    stream = blocking_root.rpi4.power.open_stream()
    blocking_root.close()
    with pytest.raises(trio.ClosedResourceError):
        stream.send(b"y")
    blocking_root.rpi4.power.call("on")


async def test_ending_a_session_that_has_no_end_is_not_an_error(root: DriverClient) -> None:
    assert await root.end_session_async() is False


@pytest.mark.parametrize(("everything", "shown"), [(True, ["hook", "driver"]), (False, ["hook"])])
def test_logs_are_printed_during_the_block(
    blocking_root: DriverClient,
    exporter: FakeExporter,
    capfd: pytest.CaptureFixture[str],
    everything: bool,
    shown: list[str],
) -> None:
    exporter.log = [
        jumpstarter_pb2.LogStreamResponse(
            severity="INFO", message="hook", source=common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK
        ),
        jumpstarter_pb2.LogStreamResponse(
            severity="INFO", message="driver", source=common_pb2.LOG_SOURCE_DRIVER
        ),
    ]
    with blocking_root.log_stream(show_all_logs=everything):
        blocking_root.portal.call(trio.testing.wait_all_tasks_blocked)
    assert [line.split()[-1] for line in capfd.readouterr().err.splitlines()] == shown


def test_an_exporter_without_a_log_is_not_an_error(blocking_root: DriverClient) -> None:
    with blocking_root.log_stream():
        blocking_root.rpi4.power.call("on")


def test_a_blocking_stream_in_pieces_of_the_users_choice(
    blocking_root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    with blocking_root.rpi4.power.stream() as stream:
        stream.send(b"hello")
        assert stream.receive(2) == b"he"
        assert stream.receive(100) == b"llo"
        with pytest.raises(ValueError, match="at least 1"):
            stream.receive(0)


def test_a_blocking_stream_that_nobody_reads_holds_its_sender(
    blocking_root: DriverClient, exporter: FakeExporter
) -> None:
    sent = 0

    async def flood(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        nonlocal sent
        await call.send_initial_metadata()
        while sent < 1 << 26:
            await call.send(router_pb2.StreamResponse(payload=bytes(65536)))
            sent += 65536

    exporter.stream = flood
    with blocking_root.rpi4.power.stream() as stream:
        received = len(stream.receive())
        assert sent < 1 << 24
        while data := stream.receive():
            received += len(data)
    assert received == 1 << 26


def test_whoever_receives_from_a_blocking_stream_learns_its_end(
    blocking_root: DriverClient, exporter: FakeExporter
) -> None:
    async def cut(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        await call.send(router_pb2.StreamResponse(payload=b"x"))
        raise RpcError(StatusCode.ABORTED, "the board is gone")

    exporter.stream = cut
    with blocking_root.rpi4.power.stream() as stream:
        assert stream.receive() == b"x"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="the board is gone"):
                stream.receive()
    with pytest.raises(trio.ClosedResourceError):
        stream.receive()
