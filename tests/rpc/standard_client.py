"""grpcio's own health and reflection clients against a server of ours; prints what they saw, as JSON.

`python -m tests.rpc.standard_client HOST:PORT CA`. A process of its own, because it and we cannot both have the
messages in one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
LIMIT = 30


def main(endpoint: str, ca: str) -> None:
    credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes())
    with grpc.secure_channel(endpoint, credentials) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = list(database.get_services())
        pool = DescriptorPool(database)
        methods = {name: list(pool.FindServiceByName(name).methods_by_name) for name in services}
        found = {"methods": methods, "v1": reflected(channel), "health": healths(channel, services)}
        print(json.dumps(found), flush=True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        for response in watch:
            print(word(response), flush=True)
            if word(response) == "NOT_SERVING":
                return


def reflected(channel: grpc.Channel) -> list[str]:
    """The answers of reflection v1, whose messages are those of v1alpha on the wire."""
    call = channel.stream_stream(
        V1,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    extension = reflection_pb2.ExtensionRequest(containing_type="grpc.health.v1.Health", extension_number=7)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health.Check"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        reflection_pb2.ServerReflectionRequest(file_containing_extension=extension),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="grpc.health.v1.Health"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="no/such.proto"),
        # Jumpstarter's, but not served here.
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="jumpstarter.v1.TelemetryService"),
        reflection_pb2.ServerReflectionRequest(),
    ]
    answers = []
    for response in call(iter(requests), timeout=LIMIT):
        kind = response.WhichOneof("message_response")
        code = response.error_response.error_code if kind == "error_response" else 0
        answers.append(f"{kind} {code}" if code else kind)
    return answers


def healths(channel: grpc.Channel, services: list[str]) -> dict[str, str]:
    stub = health_pb2_grpc.HealthStub(channel)
    found = {}
    for name in ["", "no.such.Service", *services]:
        try:
            found[name] = word(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=LIMIT))
        except grpc.RpcError as error:
            found[name] = error.code().name
    return found


def word(response: health_pb2.HealthCheckResponse) -> str:
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


if __name__ == "__main__":
    main(*sys.argv[1:])
