"""Drives a board with grpcio alone, by stubs made of what reflection says; prints what it saw, as JSON.

`python -m tests.typed.grpcio_client TARGET [--ca FILE --passphrase WORD]`. A process of its own, as grpcio and we
cannot both have the messages in one.
"""

from __future__ import annotations

import argparse
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

LIMIT = 60
DRIVERS = "jumpstarter.driver."


class Board:
    """Stubs of all services that reflection names."""

    def __init__(self, channel: grpc.Channel, metadata: list[tuple[str, str]]) -> None:
        self._channel = channel
        self._metadata = metadata
        database = ProtoReflectionDescriptorDatabase(_WithMetadata(channel, metadata))  # type: ignore[arg-type]
        self.services = sorted(database.get_services())
        self._pool = DescriptorPool(database)

    def call(self, service: str, name: str, request: Any = None, *metadata: tuple[str, str]) -> Any:
        """What a procedure answers: a dict, or a list of them; or the name and text of its status."""
        method = self._pool.FindServiceByName(service).methods_by_name[name]
        message, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        stub = getattr(self._channel, kind)(
            f"/{service}/{name}",
            request_serializer=message.SerializeToString,
            response_deserializer=reply.FromString,
        )
        options: dict[str, Any] = {"timeout": LIMIT, "metadata": [*self._metadata, *metadata]}
        try:
            if method.client_streaming:
                return conversation(stub, message, request, options)
            answer = stub(message(**(request or {})), **options)
            return [plain(one) for one in answer] if method.server_streaming else plain(answer)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]  # type: ignore[attr-defined] # a call, too


class _WithMetadata:
    """A channel for reflection's client, which has no place for a passphrase."""

    def __init__(self, channel: grpc.Channel, metadata: list[tuple[str, str]]) -> None:
        self._channel, self._metadata = channel, metadata

    def __getattr__(self, kind: str) -> Any:
        def multicallable(*given: Any, **options: Any) -> Any:
            options.pop("_registered_method", None)
            stub = getattr(self._channel, kind)(*given, **options)
            return lambda requests, **more: stub(requests, metadata=self._metadata, **more)

        return multicallable


def plain(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def conversation(stub: Any, message: Any, said: list[str], options: dict[str, Any]) -> str:
    """What a byte stream answers to a few words, each sent when the one before was answered."""
    words: queue.Queue[bytes | None] = queue.Queue()
    heard = b""

    def requests() -> Iterator[Any]:
        while (word := words.get()) is not None:
            yield message(payload=word)

    call = stub(requests(), **options)
    for word in said:
        words.put(word.encode())
        before = len(heard)
        while len(heard) < before + len(word):
            heard += next(call).payload
    words.put(None)
    heard += b"".join(one.payload for one in call)
    return heard.decode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--passphrase")
    given = parser.parse_args()
    metadata = [("x-jumpstarter-passphrase", given.passphrase)] if given.passphrase else []
    if given.ca:
        channel = grpc.secure_channel(given.target, grpc.ssl_channel_credentials(given.ca.read_bytes()))
    else:
        channel = grpc.insecure_channel(given.target)
    power, network = f"{DRIVERS}power.v1.PowerInterface", f"{DRIVERS}network.v1.NetworkInterface"
    with channel:
        board = Board(channel, metadata)
        found = {
            "services": board.services,
            "on": board.call(power, "On"),
            "read": board.call(power, "Read"),
            "cycle": board.call(power, "Cycle", {"wait": 0.01}),
            "bad_cycle": board.call(power, "Cycle", {"wait": -1.0}),
            "rescue": board.call(power, "Rescue"),
            "wrong_device": board.call(power, "On", None, ("x-jumpstarter-driver-uuid", "nobody")),
            "echo": board.call(network, "Connect", ["hello", " world"]),
            "unnamed": board.call(f"{DRIVERS}storage.v1.StorageInterface", "Flash", {"handle": "x"}),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
