"""`jumpstarter call`: call a method of any device, and list its methods."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import JSON, parse_json
from jumpstarter_proto.lab.v1 import devices_pb2
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.texts import shown

from jumpstarter_client.base import DriverClient
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import write_data, write_result
from jumpstarter_client.command_errors import UnknownDeviceError, UsageError, nearest
from jumpstarter_client.connections.connect import connect
from jumpstarter_client.errors import DriverError, call_error
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.node import Node

__all__ = ["call"]

_KINDS = {
    devices_pb2.METHOD_KIND_STREAMING: "  (streaming)",
    devices_pb2.METHOD_KIND_STREAM: "  (byte stream)",
}


def call(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    output, words = take_output(arguments)
    device, *rest = words
    if device.startswith("-"):
        raise UsageError(f"the first argument is a device, not {device}; see `jumpstarter call --help`")
    output = output or options.output
    try:
        with connect(
            options.host, config=options.config, board=options.board, request=options.lease_request()
        ) as root:
            _call(_find([HostBoard("", root=root.node)], device)[1], rest, output)
    except JumpstarterError as error:
        if not (boards := getattr(error, "boards", None)):
            raise
        board, node = _find(boards, device)
        with connect(options.host, board=board.name) as root:
            _call(_find([HostBoard("", root=root.node)], node.path)[1], rest, output)
    return ExitCode.OK


def _find(boards: Sequence[HostBoard], word: str) -> tuple[HostBoard, Node]:
    """The device with that path or name, with or without the name of its board in front."""
    every = [
        (board, node) for board in boards if board.root is not None for node in board.root.walk() if node.path
    ]
    names = [f"{board.name}.{node.path}" if board.name else node.path for board, node in every]
    exact = [one for one, name in zip(every, names, strict=True) if word in (name, one[1].path)]
    found = exact or [one for one in every if one[1].name == word]
    if not found:
        raise UnknownDeviceError(f"no device {word!r}{nearest(word, names)}")
    if len({(board.name, node.uuid) for board, node in found}) > 1:
        choice = [f"{board.name}.{node.path}" if board.name else node.path for board, node in found]
        raise UsageError(f"{word!r} is ambiguous; use one of {', '.join(map(shown, choice))}")
    return found[0]


def _call(node: Node, words: list[str], output: str | None) -> None:
    # Not its own client class, which may not be installed here.
    client = DriverClient(node, node.client.connection)
    if not words or words == ["help"]:
        _print_methods(client, output)
        return
    method, *texts = words
    arguments = [_value(text) for text in texts]
    try:
        result: object = _whole(client.call(method, *arguments))
    except DriverError as error:
        from jumpstarter_proto.remote import ReasonCode, means  # noqa: PLC0415 - only after a failure

        if not means(error, ReasonCode.OTHER_KIND):
            raise
        result = map(_whole, client.streamingcall(method, *arguments))
    write_result(result, output)
    sys.stdout.flush()


def _value(text: str) -> JSON:
    try:
        value: JSON = parse_json(text)
    except ValueError:
        return text
    return value


def _whole(value: JSON) -> object:
    """Numbers are floats on the wire."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _print_methods(client: DriverClient, output: str | None) -> None:
    methods = client.portal.call(_methods, client)
    if output in ("json", "yaml"):
        write_data(
            [
                {"name": one.name, "parameters": one.parameters, "description": one.description}
                for one in methods
            ],
            output,
        )
        return
    for one in methods:
        print_line(f"{shown(one.name)}({shown(one.parameters)}){_KINDS.get(one.kind, '')}")
        if one.description:
            print_line(f"    {shown(one.description)}")
    if not methods:
        print_line(f"{shown(client.path)} has no methods")


async def _methods(client: DriverClient) -> list[devices_pb2.Method]:
    try:
        await client.connection.wait_connected()
        request = devices_pb2.ListMethodsRequest(uuid=client.uuid)
        return list((await DevicesServiceStub(client.connection.channel).ListMethods(request)).methods)
    except RpcError as error:
        if error.code is StatusCode.UNIMPLEMENTED:
            raise JumpstarterError(
                "this exporter does not list methods; see the documentation of the driver, and call one by its name"
            ) from None
        raise call_error("help", error) from error
