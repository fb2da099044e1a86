"""`jumpstarter devices`: list the devices of the exporter."""

from __future__ import annotations

import os
import sys

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.page_width import terminal_width, wrap
from jumpstarter_proto.report_labels import MEMORY
from jumpstarter_proto.terminal import Styled, print_line, wants_colour
from jumpstarter_proto.texts import cells, padded, shown

from jumpstarter_client.cli.options import GlobalOptions, take_name, take_output
from jumpstarter_client.cli.output import state_colour, write_data
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.connections.connect import connect
from jumpstarter_client.connections.endpoint import selected_board
from jumpstarter_client.host_boards import HostBoard, board_use
from jumpstarter_client.node import Node

__all__ = ["devices"]


def devices(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    output, rest = take_output(take_name(arguments, options))
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}; see `jumpstarter devices --help`")

    request = options.lease_request()
    try:
        with connect(
            options.host, config=options.config, board=options.board, request=request, looks=True
        ) as client:
            use = ""
            if output is None and request is None:  # with a lease, the user has the board
                name = selected_board(options.board, os.environ)
                use = client.portal.call(board_use, client.connection.channel, name)
            boards = [HostBoard("", root=client.node, use=use)]
    except JumpstarterError as error:
        if not (several := getattr(error, "boards", None)):
            raise
        boards = several
    if output is None:
        for board in boards:
            for line in _tree(board.root, board) if board.root is not None else _unserved_board(board):
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
        write_data([_device_data(node, prefix) for prefix, node in found], output)
    return ExitCode.OK


def _unserved_board(board: HostBoard) -> list[list[str | Styled]]:
    return [[f"{shown(board.name, MAX_NAME)}  not served: {shown(board.problem, MAX_REASON_LENGTH)}"]]


def _device_data(node: Node, prefix: str) -> dict[str, object]:
    return {
        "path": f"{prefix}{node.path}",
        "interface": node.interface,
        "state": node.state,
        "reason": node.reason,
        "description": node.description,
        "labels": node.labels,
    }


MAX_REASON_LENGTH = 400
MAX_NAME = 60
"""Characters of a name in the tree; `-o name` prints all of it."""


def _tree(root: Node, board: HostBoard) -> list[list[str | Styled]]:
    """Return the lines of a tree. `board` has a name if the host has several."""
    use = f"  {shown(board.use, MAX_REASON_LENGTH)}" if board.use else ""
    if not root.children:
        return (
            [[f"{shown(board.name, MAX_NAME)}  has no devices{use}"]]
            if board.name
            else [["the exporter has no devices; plug one in, or add one to `export` in its configuration"]]
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
    coloured, columns = wants_colour(sys.stdout), terminal_width()
    lines: list[list[str | Styled]] = [[(shown(board.name, MAX_NAME) or root.name or "exporter") + use]]
    for text, node in rows:
        style = state_colour(node.state) if coloured else ""
        interface = node.interface if node.interface != "composite" else ""
        why = f": {node.reason}" if node.reason else ""
        # The state of a group is shown only if it has a reason.
        state: list[str | Styled] = [Styled(node.state, style), why] if interface or why else []
        if node.is_untried:
            # "ready" would promise too much, and of a group there is nothing to try.
            state, why = ([node.reason], why) if interface else ([], "")
        if memory := node.labels.get(MEMORY):
            state = [Styled(node.state, style), f"{why}  (its process has {shown(memory, 20)})"]
        lead = f"{padded(text, width)}  {padded(interface, 8)} "
        if (node.state and state) or why:
            lines += _fitted(lead, state, columns)
        else:
            lines.append([lead.rstrip()])
    return lines


MIN_STATE_WIDTH = 24
"""Columns for the state beside a device's name; else it is below."""


def _fitted(lead: str, state: list[str | Styled], width: int | None) -> list[list[str | Styled]]:
    """Return a line, or several if it does not fit: the state's text continues below itself."""
    text = "".join(part.text if isinstance(part, Styled) else part for part in state)
    if width is None or cells(lead) + cells(text) <= width:
        return [[lead, *state]]
    start = cells(lead)
    lines: list[list[str | Styled]] = []
    if width - start < MIN_STATE_WIDTH:
        lines.append([lead.rstrip()])
        lead, start = " " * 8, 8
    first, *others = wrap(shown(text, MAX_REASON_LENGTH), max(1, width - start))
    word = state[0]
    if isinstance(word, Styled) and first.startswith(word.text):
        lines.append([lead, word, first[len(word.text) :]])
    else:
        lines.append([lead, first])
    return lines + [[" " * start + one] for one in others]
