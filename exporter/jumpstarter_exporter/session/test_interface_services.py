"""Driver interfaces as gRPC services: those of a foreign package with every type, and what holds for all calls."""

from __future__ import annotations

import enum
import importlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from google.protobuf import descriptor_pb2, empty_pb2
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.reflection.v1 import reflection_pb2
from jumpstarter_proto.reflection.v1.reflection_grpc import SERVER_REFLECTION_SERVER_REFLECTION_INFO
from jumpstarter_proto.rpc import Cardinality, Method, RpcError, StatusCode
from jumpstarter_proto.value import JSON, from_value

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import (
    DeviceFailed,
    DeviceMissing,
    Driver,
    GrpcInterface,
    export,
    export_stream,
)
from jumpstarter_exporter.session.call_notes import CallNote
from jumpstarter_exporter.session.interface_services import DRIVER_UUID

SERVICE = "acme.fan.v1.FanInterface"
FAN = GrpcInterface(SERVICE, "acme_fan.fan_grpc")
PROTO = """
syntax = "proto3";
package acme.fan.v1;
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "jumpstarter_proto/annotations/annotations.proto";

service FanInterface {
  rpc Spin(SpinRequest) returns (SpinResponse);
  rpc Describe(google.protobuf.Empty) returns (Description);
  rpc Flash(FlashRequest) returns (FlashResponse);
  rpc Speeds(SpeedsRequest) returns (stream SpeedsResponse);
  rpc Counts(google.protobuf.Empty) returns (stream CountsResponse);
  rpc Connect(stream StreamData) returns (stream StreamData);
  rpc Stop(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc Block(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc Wrong(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc FailWith(FailWithRequest) returns (google.protobuf.Empty);
  rpc NotOfThisDevice(google.protobuf.Empty) returns (google.protobuf.Empty);
}
enum Direction { DIRECTION_UNSPECIFIED = 0; DIRECTION_LEFT = 1; DIRECTION_RIGHT = 2; }
message Limits { int64 top = 1; optional double ramp = 2; }
message SpinRequest {
  int64 speed = 1;
  optional Direction direction = 2;
  optional Limits limits = 3;
  repeated string labels = 4;
  google.protobuf.Value extra = 5;
  optional bytes raw = 6;
}
message SpinResponse { google.protobuf.Value value = 1; }
message Description {
  string id = 1;
  optional double hours = 2;
  Direction direction = 3;
  repeated Limits limits = 4;
  google.protobuf.Value extra = 5;
  bytes raw = 6;
}
message FlashRequest { string handle = 1 [(jumpstarter.annotations.resource_handle) = true]; }
message FlashResponse { google.protobuf.Value value = 1; }
message SpeedsRequest { int64 count = 1; }
message SpeedsResponse { repeated int64 value = 1; }
message CountsResponse { int64 value = 1; }
message StreamData { bytes payload = 1; }
message FailWithRequest { string name = 1; }
"""


class Direction(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True)
class Limits:
    top: int
    ramp: float | None = None


@dataclass(frozen=True)
class Description:
    id: UUID
    hours: float | None
    direction: Direction
    limits: list[Limits]
    extra: dict[str, JSON]
    raw: bytes


ERRORS: dict[str, Exception] = {
    "missing": DeviceMissing("unplugged; plug it in"),
    "failed": DeviceFailed("burnt; replace it"),
    "value": ValueError("too fast"),
    "unimplemented": NotImplementedError("no such mode"),
}
ID = uuid4()


@dataclass(kw_only=True, eq=False)
class Fan(Driver):
    client: ClassVar[str] = "acme_fan.client.FanClient"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (FAN,)

    seen: list[Any] = field(default_factory=list)
    blocked: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    closed: trio.Event = field(default_factory=trio.Event)

    @export
    async def spin(  # noqa: PLR0917 - one of each type
        self,
        speed: int,
        direction: Direction = Direction.LEFT,
        limits: Limits | None = None,
        labels: list[str] = [],  # noqa: B006 - of the signature
        extra: JSON = None,
        raw: bytes = b"",
    ) -> JSON:
        self.seen.append((speed, direction, limits, labels, extra, raw))
        return {"speed": speed}

    @export(reads=True)
    def describe(self) -> Description:
        assert threading.current_thread() is not threading.main_thread()
        return Description(ID, None, Direction.RIGHT, [Limits(1), Limits(2, 0.5)], {"a": [1]}, b"\x00")

    @export
    async def flash(self, handle: dict[str, JSON]) -> JSON:
        self.seen.append(handle)
        async with self.read_resource(handle) as source:
            return [len(chunk) async for chunk in source]

    @export
    def speeds(self, count: int) -> Iterator[list[int]]:
        for number in range(count):
            yield [number, number]

    @export
    async def counts(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await trio.sleep(0)
        finally:
            self.closed.set()

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        ours, theirs = trio.testing.memory_stream_pair()
        async with ours, trio.open_nursery() as nursery:
            nursery.start_soon(self._echo, theirs)
            yield ours

    async def _echo(self, stream: trio.abc.HalfCloseableStream) -> None:
        async for data in stream:
            await stream.send_all(data.upper())
        await stream.aclose()

    @export
    async def stop(self) -> None:
        self.seen.append("stop")

    @export
    def block(self) -> None:
        self.blocked.set()
        self.release.wait(30)

    @export
    async def wrong(self) -> None:
        return 5  # type: ignore[return-value]

    @export
    async def fail_with(self, name: str) -> None:
        raise ERRORS[name]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package with nothing but the .proto file and what is generated of it."""
    root = tmp_path_factory.mktemp("acme")
    (root / "acme_fan").mkdir()
    (root / "acme_fan" / "__init__.py").touch()
    (root / "acme_fan" / "fan.proto").write_text(PROTO)
    command = [
        sys.executable,
        "-m",
        "jumpstarter_proto.purerpc_adapter.generate",
        str(root),
        "acme_fan/fan.proto",
    ]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


@dataclass
class Caller:
    """Calls the service as any client does: by path, with messages of its own."""

    user: User
    messages: Any

    def method(self, name: str, request: Any, response: Any) -> Method[Any, Any]:
        return Method(f"/{SERVICE}/{name}", Cardinality.UNARY_UNARY, request, response)

    async def unary(
        self, name: str, request: Any = None, response: Any = empty_pb2.Empty, **options: Any
    ) -> Any:
        request = empty_pb2.Empty() if request is None else request
        return await self.user.channel.unary(self.method(name, type(request), response), request, **options)


@pytest.fixture
def messages(acme: Path) -> Any:
    return importlib.import_module("acme_fan.fan_pb2")


@pytest.fixture
def fan() -> Fan:
    return Fan()


async def status(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value.code, caught.value.details


async def test_arguments_of_every_type_arrive_as_the_method_wants_them(
    serve: Serve, fan: Fan, messages: Any
) -> None:
    async with serve(fan) as user:
        caller = Caller(user, messages)
        request = messages.SpinRequest(speed=3)
        reply = await caller.unary("Spin", request, messages.SpinResponse)
        assert reply.value.struct_value["speed"] == 3
        request.direction = messages.DIRECTION_RIGHT
        request.limits.top = 9
        request.labels.extend(["a", "b"])
        request.extra.struct_value["k"] = True
        request.raw = b"\x01"
        await caller.unary("Spin", request, messages.SpinResponse)
    assert fan.seen[0] == (3, Direction.LEFT, None, [], None, b"")
    assert fan.seen[1] == (3, Direction.RIGHT, Limits(9), ["a", "b"], {"k": True}, b"\x01")
    assert isinstance(fan.seen[1][0], int)


async def test_result_of_every_type_is_in_its_field(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user:
        reply = await Caller(user, messages).unary("Describe", None, messages.Description)
    assert reply.id == str(ID)
    assert not reply.HasField("hours")
    assert reply.direction == messages.DIRECTION_RIGHT
    assert [(one.top, one.HasField("ramp"), one.ramp) for one in reply.limits] == [
        (1, False, 0),
        (2, True, 0.5),
    ]
    assert reply.extra.struct_value["a"][0] == 1
    assert reply.raw == b"\x00"


async def test_generators_plain_and_async_stream_their_results(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user:
        method = Method(
            f"/{SERVICE}/Speeds", Cardinality.UNARY_STREAM, messages.SpeedsRequest, messages.SpeedsResponse
        )
        async with user.channel.server_stream(method, messages.SpeedsRequest(count=2)) as replies:
            assert [list(one.value) async for one in replies] == [[0, 0], [1, 1]]
        method = Method(
            f"/{SERVICE}/Counts", Cardinality.UNARY_STREAM, empty_pb2.Empty, messages.CountsResponse
        )
        async with user.channel.server_stream(method, empty_pb2.Empty()) as replies:
            assert (await replies.receive()).value == 0
        with trio.fail_after(5):
            await fan.closed.wait()


async def test_byte_stream_carries_pieces_both_ways_and_ends_with_the_device(
    serve: Serve, fan: Fan, messages: Any
) -> None:
    data = messages.StreamData
    method: Method[Any, Any] = Method(f"/{SERVICE}/Connect", Cardinality.STREAM_STREAM, data, data)
    notes: list[CallNote] = []
    async with serve(fan, on_call=notes.append) as user, user.channel.stream(method) as call:
        await call.send(data(payload=b"abc"))
        assert (await call.receive()).payload == b"ABC"
        await call.send(data())  # nothing, which is not the end
        await call.send(data(payload=b"d"))
        assert (await call.receive()).payload == b"D"
        await call.send_eof()
        with pytest.raises(trio.EndOfChannel):
            await call.receive()
    assert [(one.method, one.status, one.received, one.sent) for one in notes] == [
        ("connect", "", 0, 0),
        ("connect", "OK", 4, 4),
    ]


async def test_handle_is_a_stream_that_is_open(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user, user.resource("") as (stream, handle, _), trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(b"12345")
            await stream.send_eof()

        nursery.start_soon(send)
        request = messages.FlashRequest(handle=handle["uuid"])
        reply = await Caller(user, messages).unary("Flash", request, messages.FlashResponse)
        assert [one.number_value for one in reply.value.list_value.values] == [5]


@pytest.mark.parametrize("text", ["", "no handle", '{"a":'])
async def test_handle_that_is_none_is_named(serve: Serve, fan: Fan, messages: Any, text: str) -> None:
    async with serve(fan) as user:
        call = Caller(user, messages).unary(
            "Flash", messages.FlashRequest(handle=text), messages.FlashResponse
        )
        code, details = await status(call)
    assert code is StatusCode.INVALID_ARGUMENT
    assert details.startswith("handle: ")


async def test_handle_may_be_a_url_or_json(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user:
        for text in ("http://127.0.0.1:1/x", '{"kind": "presigned_request", "url": "http://127.0.0.1:1/x"}'):
            await status(
                Caller(user, messages).unary(
                    "Flash", messages.FlashRequest(handle=text), messages.FlashResponse
                )
            )
    assert [one["kind"] for one in fan.seen] == ["presigned_request", "presigned_request"]


async def test_metadata_chooses_among_several_devices(serve: Serve, messages: Any) -> None:
    one, other = Fan(), Fan()
    group = Composite(children={"one": one, "other": other})
    async with serve(group) as user:
        caller = Caller(user, messages)
        code, details = await status(caller.unary("Stop"))
        assert code is StatusCode.FAILED_PRECONDITION
        assert f"one ({one.uuid})" in details
        assert f"other ({other.uuid})" in details
        await caller.unary("Stop", metadata=[(DRIVER_UUID, str(other.uuid).upper())])
        for wrong in (str(uuid4()), "x", str(group.uuid)):
            code, _ = await status(caller.unary("Stop", metadata=[(DRIVER_UUID, wrong)]))
            assert code is StatusCode.NOT_FOUND
    assert (one.seen, other.seen) == ([], ["stop"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing", StatusCode.UNAVAILABLE),
        ("failed", StatusCode.INTERNAL),
        ("value", StatusCode.INVALID_ARGUMENT),
        ("unimplemented", StatusCode.UNIMPLEMENTED),
    ],
)
async def test_errors_are_those_of_driver_call(
    serve: Serve, fan: Fan, messages: Any, name: str, code: StatusCode
) -> None:
    async with serve(fan) as user:
        typed = await status(Caller(user, messages).unary("FailWith", messages.FailWithRequest(name=name)))
        assert typed == await status(user.call("", "fail_with", name))
        assert typed[1] == str(ERRORS[name])
        del code


async def test_result_that_does_not_fit_is_an_error(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user:
        code, details = await status(Caller(user, messages).unary("Wrong"))
        assert code is StatusCode.INVALID_ARGUMENT
        assert "returns nothing" in details


@dataclass(kw_only=True, eq=False)
class OddFan(Fan):
    answer: Any = None

    @export(reads=True)
    def describe(self) -> Description:
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"direction": "sideways"}, "direction is 'sideways', and may be unspecified, left, right"),
        ({"direction": StatusCode.OK}, "direction is 0, and may be"),
        ({"limits": [{"top": 2**80}]}, ""),
        ({"id": "\ud800"}, ""),
    ],
)
async def test_result_whose_field_has_an_impossible_value_does_not_fit(
    serve: Serve, messages: Any, values: dict[str, Any], complaint: str
) -> None:
    answer = dict.fromkeys(("id", "hours", "direction", "limits", "extra", "raw"))
    limits = [{"ramp": None, **one} for one in values.get("limits", [])]
    async with serve(OddFan(answer={**answer, **values, "limits": limits})) as user:
        code, details = await status(Caller(user, messages).unary("Describe", None, messages.Description))
    assert code is StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"the driver's result does not fit acme.fan.v1.Description: {complaint}")


@dataclass(kw_only=True, eq=False)
class BrokenFan(Fan):
    """Its configuration is valid, but its driver object cannot be created."""

    def __post_init__(self) -> None:
        raise ValueError("burnt; replace it")


async def test_failed_device_says_why_as_driver_call_does(serve: Serve, messages: Any) -> None:
    unknown = Spec(Composite, fault="lab.yaml:3: unknown type fan.Fan; install it")
    board = Spec(Composite, children={"broken": Spec(BrokenFan), "unknown": unknown})
    async with serve(Inventory().add("lab", board)) as user:
        caller = Caller(user, messages)
        without_uuid = await status(caller.unary("Stop"))
        assert without_uuid == await status(user.call("broken", "stop"))
        assert without_uuid[0] is StatusCode.INTERNAL
        assert "burnt" in without_uuid[1]
        for name in ("broken", "unknown"):
            typed = await status(caller.unary("Stop", metadata=[(DRIVER_UUID, user.uuid(name))]))
            assert typed == await status(user.call(name, "stop"))
    board = Spec(Composite, children={"unknown": unknown})
    async with serve(Inventory().add("lab", board)) as user:
        typed = await status(
            Caller(user, messages).unary("Stop", metadata=[(DRIVER_UUID, user.uuid("unknown"))])
        )
        assert typed == await status(user.call("unknown", "stop"))
        assert "install it" in typed[1]


@dataclass(kw_only=True, eq=False)
class Misnamed(Driver):
    client: ClassVar[str] = Fan.client
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (GrpcInterface("acme.fan.v1.Fun", FAN.module),)


@dataclass(kw_only=True, eq=False)
class Uninstalled(Driver):
    client: ClassVar[str] = Fan.client
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (
        GrpcInterface("acme.light.v1.LightInterface", "acme_light.light_grpc"),
    )


async def test_reflection_leaves_out_an_interface_that_is_wrong(
    serve: Serve, fan: Fan, messages: Any, caplog: pytest.LogCaptureFixture
) -> None:
    group = Composite(children={"fan": fan, "misnamed": Misnamed(), "uninstalled": Uninstalled()})
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with serve(group) as user:
        for _ in range(2):
            async with user.channel.stream(SERVER_REFLECTION_SERVER_REFLECTION_INFO) as call:
                await call.send(request)
                names = [one.name for one in (await call.receive()).list_services_response.service]
                assert SERVICE in names
                assert "jumpstarter.v1.ExporterService" in names
                assert not {"acme.fan.v1.Fun", "acme.light.v1.LightInterface"} & set(names)
    warnings = sorted(text for text in caplog.messages if text.startswith("Reflection leaves out"))
    assert [text.partition(":")[0].rpartition(" ")[2] for text in warnings] == [
        "acme.fan.v1.Fun",
        "acme.light.v1.LightInterface",
    ]
    assert "acme_fan.fan_grpc has no service of that name" in warnings[0]
    assert "acme_light.light_grpc cannot be imported (No module named 'acme_light')" in warnings[1]


@pytest.mark.parametrize(
    ("driver", "service", "said"),
    [
        (Misnamed, "acme.fan.v1.Fun", "has no service of that name"),
        (Uninstalled, "acme.light.v1.LightInterface", "cannot be imported (No module named 'acme_light')"),
    ],
)
async def test_call_of_an_interface_that_is_wrong_says_so(
    serve: Serve, driver: type[Driver], service: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    method = Method(f"/{service}/Stop", Cardinality.UNARY_UNARY, empty_pb2.Empty, empty_pb2.Empty)
    async with serve(driver()) as user:
        code, details = await status(user.channel.unary(method, empty_pb2.Empty()))
    assert code is StatusCode.INTERNAL
    assert details.startswith(f"the interface {service} cannot be used: acme_")
    assert said in details
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["Stop", f"{SERVICE}/Stop", f"//{SERVICE}/Stop", "/", "*"])
async def test_path_that_is_not_a_procedure_is_unimplemented(
    serve: Serve, fan: Fan, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    method = Method(path, Cardinality.UNARY_UNARY, empty_pb2.Empty, empty_pb2.Empty)
    async with serve(fan) as user:
        code, details = await status(user.channel.unary(method, empty_pb2.Empty()))
    assert (code, details) == (StatusCode.UNIMPLEMENTED, "Method not found!")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_method_that_the_device_lacks_is_unimplemented(serve: Serve, fan: Fan, messages: Any) -> None:
    async with serve(fan) as user:
        code, details = await status(Caller(user, messages).unary("NotOfThisDevice"))
        assert (code, "not_of_this_device" in details) == (StatusCode.UNIMPLEMENTED, True)
        code, details = await status(Caller(user, messages).unary("NoSuchProcedure"))
        assert (code, details) == (StatusCode.UNIMPLEMENTED, "Method not found!")


async def test_service_without_a_device_is_unimplemented(serve: Serve, messages: Any) -> None:
    async with serve(Composite()) as user:
        assert await status(Caller(user, messages).unary("Stop")) == (
            StatusCode.UNIMPLEMENTED,
            "Method not found!",
        )


async def test_call_is_noted_and_refused_as_driver_call_is(serve: Serve, fan: Fan, messages: Any) -> None:
    notes: list[CallNote] = []
    async with serve(fan, on_call=notes.append) as user:
        caller = Caller(user, messages)
        await caller.unary("Describe", None, messages.Description)  # only reads
        await caller.unary("Stop")
        await status(caller.unary("FailWith", messages.FailWithRequest(name="value")))
        user.session.obstacle = "in local use"
        assert await status(caller.unary("Stop")) == (
            StatusCode.FAILED_PRECONDITION,
            "not ready: in local use",
        )
        user.session.obstacle = ""
        user.session.end_calls("the lease is over")
        assert await status(caller.unary("Stop")) == (StatusCode.UNAVAILABLE, "the lease is over")
    assert [(one.method, one.status) for one in notes] == [("stop", "OK"), ("fail_with", "INVALID_ARGUMENT")]


def is_stuck(fan: Fan) -> bool:
    return fan.lifecycle.is_stuck


async def test_cancelled_call_that_blocks_a_thread_fails_the_device(
    serve: Serve, fan: Fan, messages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.isolation.GRACE_SECONDS", 0.05)
    notes: list[CallNote] = []
    async with serve(fan, on_call=notes.append) as user:
        caller = Caller(user, messages)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.unary, "Block")
            await trio.to_thread.run_sync(fan.blocked.wait)
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            while not is_stuck(fan):
                await trio.sleep(0.01)
        assert "block()" in (await status(caller.unary("Stop")))[1]
        fan.release.set()
        with trio.fail_after(10):
            while is_stuck(fan):
                await trio.sleep(0.01)
        await caller.unary("Stop")
    stops = [one.status for one in notes if one.method == "stop" and one.status]
    assert stops == ["INTERNAL", "OK"]


class SimpleFan(Fan):
    """Takes less than its interface offers."""

    @export
    async def spin(self, speed: int) -> dict[str, JSON]:  # type: ignore[override]
        return {"speed": speed}


async def test_argument_that_a_device_does_not_take_is_refused_and_not_dropped(
    serve: Serve, messages: Any
) -> None:
    async with serve(SimpleFan()) as user:
        caller = Caller(user, messages)
        reply = await caller.unary("Spin", messages.SpinRequest(speed=5), messages.SpinResponse)
        assert from_value(reply.value) == {"speed": 5}
        request = messages.SpinRequest(speed=5, labels=["loud"])
        code, details = await status(caller.unary("Spin", request, messages.SpinResponse))
    assert code is StatusCode.INVALID_ARGUMENT
    assert details == "spin of this device does not take labels; leave it out"


async def test_report_names_the_services_of_a_failed_device_too(serve: Serve) -> None:
    unknown = Spec(Composite, fault="lab.yaml:3: unknown type fan.Fan; install it")
    board = Spec(Composite, children={"broken": Spec(BrokenFan), "unknown": unknown})
    async with serve(Inventory().add("lab", board)) as user:
        named = {one.uuid: list(one.native_services) for one in (await user.report()).reports}
        assert named[user.uuid("broken")] == [SERVICE]
        assert named[user.uuid("unknown")] == []


async def test_report_names_the_service_and_has_its_descriptor(serve: Serve, fan: Fan, acme: Path) -> None:
    async with serve(fan) as user:
        (report,) = (await user.report()).reports
    assert list(report.native_services) == [SERVICE]
    found = descriptor_pb2.FileDescriptorProto.FromString(report.file_descriptor_proto)
    assert (found.package, [one.name for one in found.service]) == ("acme.fan.v1", ["FanInterface"])


def test_descriptor_that_is_missing_or_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("bare", "broken", "two"):
        (tmp_path / f"{name}_grpc.py").touch()
    (tmp_path / "broken.binpb").write_bytes(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff")
    (tmp_path / "two.binpb").write_bytes(b"\x0a\x00\x0a\x00")
    assert GrpcInterface("a.B", "bare_grpc").descriptor() == b""
    for name in ("broken", "two"):
        with pytest.raises(JumpstarterUsageError, match=rf"{name}\.binpb"):
            GrpcInterface("a.B", f"{name}_grpc").descriptor()
    with pytest.raises(JumpstarterUsageError, match="no_such_grpc"):
        GrpcInterface("a.B", "no_such_grpc").descriptor()
