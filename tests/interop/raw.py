"""A client or exporter that consists of grpcio calls only, to test exactly what is on the wire."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import message_factory
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.common_pb2 import ExporterStatus

LIMIT = 60.0
SERVICES = {
    service.full_name: service
    for service in (
        client_pb2.DESCRIPTOR.services_by_name["ClientService"],
        jumpstarter_pb2.DESCRIPTOR.services_by_name["ControllerService"],
        lab_pb2.DESCRIPTOR.services_by_name["AdminService"],
    )
}
CLIENT = "jumpstarter.client.v1.ClientService"
CONTROLLER = "jumpstarter.v1.ControllerService"
ADMIN = lab_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name


class Caller:
    """Somebody's calls over one channel."""

    def __init__(self, channel: grpc.Channel, *metadata: tuple[str, str]) -> None:
        self.channel = channel
        self.metadata = metadata

    @classmethod
    def of(cls, credential: lab_pb2.Credential, **other: str) -> Caller:
        """With a credential; `other` replaces its kind, namespace, name or token."""
        words = {key: getattr(credential, key) for key in ("kind", "namespace", "name", "token")} | other
        trust = grpc.ssl_channel_credentials(credential.ca.encode())
        return cls(
            grpc.secure_channel(credential.endpoint, trust),
            ("authorization", f"Bearer {words['token']}"),
            *((f"jumpstarter-{key}", words[key]) for key in ("kind", "namespace", "name")),
        )

    def client(self, method: str, request: Any) -> Any:
        """A call of the client service."""
        return self._callable(CLIENT, method)(request, metadata=self.metadata, timeout=LIMIT)

    def controller(self, method: str, request: Any, timeout: float | None = LIMIT) -> Any:
        """A call of the controller service; the answer, or an iterator of answers."""
        return self._callable(CONTROLLER, method)(request, metadata=self.metadata, timeout=timeout)

    def later(self, method: str, request: Any) -> Any:
        """A call of the controller service under way: grpcio's future."""
        return self._callable(CONTROLLER, method).future(request, metadata=self.metadata, timeout=LIMIT)

    def admin(self, method: str, request: Any) -> Any:
        """A call of the admin service."""
        return self._callable(ADMIN, method)(request, metadata=self.metadata, timeout=LIMIT)

    def _callable(self, service: str, name: str) -> Any:
        method = SERVICES[service].methods_by_name[name]
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        return kind(
            f"/{service}/{name}",
            request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def close(self) -> None:
        self.channel.close()


class Board(Caller):
    """An exporter with one device, without a board: it registers and says what it is told to say."""

    def arrive(self, status: str = "AVAILABLE", devices: int = 1, **labels: str) -> Board:
        """Register, with labels of its own, and report."""
        reports = [jumpstarter_pb2.DriverInstanceReport(uuid=f"{number}") for number in range(devices)]
        self.controller("Register", jumpstarter_pb2.RegisterRequest(labels=labels, reports=reports))
        self.report(status)
        return self

    def report(self, status: str, message: str = "", *, release: bool = False) -> None:
        number = ExporterStatus.Value(f"EXPORTER_STATUS_{status}")
        request = jumpstarter_pb2.ReportStatusRequest(status=number, message=message, release_lease=release)
        self.controller("ReportStatus", request)

    def status(self) -> Stream:
        """Its status stream, from now on."""
        return Stream(self.controller("Status", jumpstarter_pb2.StatusRequest(), timeout=None))

    def listen(self, lease: str) -> Stream:
        """Its listen stream."""
        return Stream(
            self.controller("Listen", jumpstarter_pb2.ListenRequest(lease_name=lease), timeout=None)
        )


class Stream:
    """A stream of answers, read one at a time and with a bound."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def opened(self) -> None:
        """Wait until the other end has begun to answer."""
        self.call.initial_metadata()

    def next(self) -> Any:
        """The next answer, at most a minute from now; StopIteration at the stream's end."""
        timer = threading.Timer(LIMIT, self.call.cancel)
        timer.start()
        try:
            return next(self.call)
        finally:
            timer.cancel()

    def __iter__(self) -> Iterator[Any]:
        with suppress(StopIteration):
            while True:
                yield self.next()

    def close(self) -> None:
        self.call.cancel()


def credential_of(file: Path) -> lab_pb2.Credential:
    """What a configuration file says of its owner."""
    read = yaml.safe_load(file.read_text())
    return lab_pb2.Credential(
        kind=read["kind"].removesuffix("Config"),
        namespace=read["metadata"]["namespace"],
        name=read["metadata"]["name"],
        endpoint=read["endpoint"],
        token=read["token"],
        ca=base64.b64decode(read["tls"]["ca"]).decode(),
    )


def refused(call: Any, *arguments: Any) -> tuple[str, str]:
    """The code and the details with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code().name, caught.value.details()  # type: ignore[attr-defined]
