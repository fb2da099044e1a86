"""Which device a command means, and the list of all of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import Styled, print_line, print_text
from jumpstarter_proto.texts import cells, padded, shown

from jumpstarter_client.cli.options import (
    Options,
    UnknownDeviceError,
    UsageError,
    nearest,
    take_name,
    take_output,
)
from jumpstarter_client.node import INTERFACE, Node

if TYPE_CHECKING:
    from jumpstarter_client.host_boards import HostBoard

__all__ = ["check_made", "devices", "find", "select", "what_there_is", "with_interface"]

HELP = """Usage: jumpstarter devices [-o json|yaml|name]

The devices of the exporter, with what is ready and what is not, and why; on a host with several boards those of
all of them, as BOARD.DEVICE.

  jumpstarter devices
  jumpstarter devices -o name           one path a line, for scripts
  jumpstarter devices -o json | jq -r '.[] | select(.state == "failed") | .path'
"""


def find(root: Node, interface: str, token: str) -> list[Node]:
    """The nodes with this interface that `token` can mean.

    A path means its own node. A name means every node that has it, and what is below a node that has it, be it
    the exporter itself.
    """
    nodes = [node for node in root.walk() if node.interface == interface]
    if exact := [node for node in nodes if node.path == token]:
        return exact
    if named := [node for node in nodes if node.name == token and node.parent is not None]:
        return named
    found = []
    for node in nodes:
        above: Node | None = node.parent
        while above is not None:
            if token in (above.path, above.name):
                found.append(node)
                break
            above = above.parent
    return _once(found)


def with_interface(root: Node, interface: str) -> list[Node]:
    """All devices with this interface, each once."""
    return _once([node for node in root.walk() if node.interface == interface])


def _once(nodes: list[Node]) -> list[Node]:
    """Each device under the first of its names."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.uuid, node)
    return list(first.values())


def select(root: Node, interface: str, arguments: list[str], takes_arguments: bool) -> tuple[Node, list[str]]:
    """The device that the arguments name first (or last, behind options), and what is left of them.

    Without a name, the only device with the interface. A word that is no device is the verb's, if it takes any
    and there is only one device.

    Raises:
        UnknownDeviceError: no device has the interface, or none has the name.
        UsageError: it is not clear which one is meant.
    """
    nodes = with_interface(root, interface)
    if arguments and not arguments[0].startswith("-"):
        check_made(root, interface, arguments[0])
    if not nodes:
        raise UnknownDeviceError(f"no device has the interface {interface!r}; there is {what_there_is(root)}")
    paths = [node.path for node in nodes]
    own = arguments.index("--") if "--" in arguments else len(arguments)  # behind it, words are the verb's
    for index in {0, own - 1} if own else ():
        token = arguments[index]
        if token.startswith("-"):
            continue
        found = find(root, interface, token)
        if len(found) == 1:
            return found[0], arguments[:index] + arguments[index + 1 :]
        if len(found) > 1:
            raise UsageError(
                f"{token!r} can be any of {', '.join(shown(n.path) for n in found)}; name one of them"
            )
    named = own > 0 and not arguments[0].startswith("-")
    if len(nodes) == 1 and (takes_arguments or not named):
        return nodes[0], arguments
    if named:
        boards = {path.partition(".")[0] for path in paths}
        hint = nearest(arguments[0], paths, also=boards)
        raise UnknownDeviceError(f"no device {arguments[0]!r} with the interface {interface!r}{hint}")
    raise UsageError(f"which device? Name one of {', '.join(map(shown, paths))}")


def check_made(root: Node, interface: str, token: str) -> None:
    """Raise UnknownDeviceError, with the reason, for a device that the exporter could not make: it has no interface."""
    named = [node for node in root.walk() if node.parent is not None and token in (node.path, node.name)]
    if len(named) == 1 and _is_not_made(named[0]):
        raise UnknownDeviceError(
            f"no device {token!r} with the interface {interface!r}: it has failed: {shown(named[0].reason, _SENTENCE)}"
        )


def what_there_is(root: Node) -> str:
    """The interfaces of a board's devices, and the devices that the exporter could not make, which have none."""
    nodes = list(root.walk())
    interfaces = sorted({shown(node.interface) for node in nodes} - {"", "composite"})
    failed = [
        f"{shown(node.path)} has failed: {shown(node.reason, _SENTENCE)}"
        for node in nodes
        if _is_not_made(node)
    ]
    text = "; ".join([", ".join(interfaces) or "nothing at all", *failed[:MAX_FAILED]])
    more = len(failed) - MAX_FAILED
    return f"{text}; {more} more have failed: jumpstarter devices" if more > 0 else text


def _is_not_made(node: Node) -> bool:
    # Its class, if it has one, stands for all that could not be made, and says nothing of its interface.
    return node.state == "failed" and not node.labels.get(INTERFACE) and bool(node.reason)


def devices(arguments: list[str], options: Options) -> ExitCode:
    """The command `devices`."""
    if any(word in ("-h", "--help") for word in arguments):
        print_text(HELP)
        return ExitCode.OK
    output, rest = take_output(take_name(arguments, options))
    if rest:
        raise UsageError(f"`devices` takes no {rest[0]!r}; try `jumpstarter devices --help`")
    from jumpstarter_client.connections.connect import connect  # noqa: PLC0415
    from jumpstarter_client.connections.endpoint import selected_board  # noqa: PLC0415
    from jumpstarter_client.host_boards import HostBoard, board_use  # noqa: PLC0415 - not for --help

    request = options.lease_request()
    try:
        with connect(options.host, config=options.config, board=options.board, request=request) as client:
            use = ""
            if output is None and request is None:  # a lease's user has it
                name = selected_board(options.board, os.environ)
                use = client.bridge.call(board_use, client.connection.channel, name)
            boards = [HostBoard("", root=client.node, use=use)]
    except JumpstarterError as error:
        if not (several := getattr(error, "boards", None)):
            raise
        boards = several
    if output is None:
        for board in boards:
            for line in _tree(board.root, board) if board.root is not None else _no_tree(board):
                print_line(*line)
        return ExitCode.OK
    found = [
        (f"{board.name}." if board.name else "", node)
        for board in boards
        if board.root is not None
        for node in board.root.walk()
        if node.path
    ]
    if output == "name":
        for prefix, node in found:
            print_line(f"{prefix}{node.path}")
    else:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        write_data([_facts(node, prefix) for prefix, node in found], output)
    return ExitCode.OK


def _no_tree(board: HostBoard) -> list[list[str | Styled]]:
    return [[f"{shown(board.name, MAX_NAME)}  not served: {shown(board.problem, _SENTENCE)}"]]


def _facts(node: Node, prefix: str) -> dict[str, object]:
    return {
        "path": f"{prefix}{node.path}",
        "interface": node.interface,
        "state": node.state,
        "reason": node.reason,
        "description": node.description,
        "labels": node.labels,
    }


_SENTENCE = 400
MAX_FAILED = 3
"""Devices whose failure an error tells."""
MAX_NAME = 60
"""Characters of a name in the tree; `-o name` has all of it."""
_COLOURS = {"ready": "32", "busy": "33", "starting": "33", "failed": "31", "missing": "31"}


def _tree(root: Node, board: HostBoard) -> list[list[str | Styled]]:
    """`board` has a name where there are several."""
    use = f"  {shown(board.use, _SENTENCE)}" if board.use else ""
    if not root.children:
        return (
            [[f"{shown(board.name, MAX_NAME)}  has no devices{use}"]]
            if board.name
            else [["the exporter has no devices; plug one in, or add some to its configuration's `export`"]]
        )
    rows: list[tuple[str, Node]] = []

    def add(node: Node, lead: str) -> None:
        children = list(node.children.values())
        for child in children:
            last = child is children[-1]
            rows.append((lead + ("└─ " if last else "├─ ") + shown(child.name, MAX_NAME), child))
            add(child, lead + ("   " if last else "│  "))

    add(root, "")
    width = max(cells(text) for text, _ in rows)
    coloured = sys.stdout.isatty() and _wants_colour()
    lines: list[list[str | Styled]] = [[(shown(board.name, MAX_NAME) or root.name or "exporter") + use]]
    for text, node in rows:
        style = _COLOURS.get(node.state, "") if coloured else ""
        interface = node.interface if node.interface != "composite" else ""
        why = f": {node.reason}" if node.reason else ""
        # A group has no state worth telling until it has one with a reason.
        told: list[str | Styled] = [Styled(node.state, style), why] if interface or why else []
        lead = f"{padded(text, width)}  {padded(interface, 8)} "
        lines.append([lead, *told] if (node.state and told) or why else [lead.rstrip()])
    return lines


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
