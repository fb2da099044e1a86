"""Which of several boards a test uses: the named one, or the only one with its devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_client.command_errors import UnknownDeviceError, UsageError
from jumpstarter_client.devices.board_selection import check_served
from jumpstarter_client.devices.selection import select
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.node import Node
from jumpstarter_client.requirements import missing_interfaces, unmet_requirement
from jumpstarter_client.yamltest.model import BoardTest, Group, Item, StepCall, calls

__all__ = ["choose_board_of_test"]

MAX_REASON_LENGTH = 400


def choose_board_of_test(boards: Sequence[HostBoard], test: BoardTest) -> tuple[HostBoard, BoardTest]:
    """Return the board, and the test with names for that board only.

    The `board` of the test, and the `device` of a step, may name it, as BOARD or BOARD.DEVICE.

    If no board meets the requirements of the test, the first board is returned, on which the test is skipped.

    Raises:
        UnknownDeviceError: no board has the devices of its steps.
        UsageError: several boards have them; the message lists the boards.
        JumpstarterError: the named board is not served; the message has the reason.
    """
    for word in (test.board, *(call.device for call in calls(test.steps + test.always))):
        if word:
            check_served(boards, word)
    served = [(board, board.root) for board in boards if board.root is not None]
    named = [
        (board, root, own) for board, root in served if (own := _on_board_named(board, test)) is not None
    ]
    tried = [*((board, root, test) for board, root in served), *named]
    whys = [(board, own, _mismatch(root, own)) for board, root, own in tried]
    # As on a host with that board only, before the meaning that needs the board's name.
    found = {board.name: (board, own) for board, own, why in reversed(whys) if not why}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = ", ".join(shown(board.name) for board, _ in served if board.name in found)
        raise UsageError(
            f"{test.document.file}: each of the boards {names} has what the test uses; choose one: --board NAME"
        )
    if named:  # errors then name that board, with the position of the step in the file
        return named[0][0], named[0][2]
    if served and all(_is_to_be_skipped(root, test) for _, root in served):
        return served[0][0], test
    told = "; ".join(f"{shown(board.name)}: {shown(why, MAX_REASON_LENGTH)}" for board, _, why in whys)
    raise UnknownDeviceError(
        f"{test.document.file}: no board of this host has what the test uses ({told or 'none is served'})"
    )


def _on_board_named(board: HostBoard, test: BoardTest) -> BoardTest | None:
    """Return the test for that board if its `board` or the `device` of a step names the board; otherwise None."""
    words = [test.board, *(call.device for call in calls(test.steps + test.always))]
    if all(_without_name(board, word) == word for word in words):
        return None
    return replace(
        test,
        board=_without_name(board, test.board),
        steps=_items_on_board(board, test.steps),
        always=_items_on_board(board, test.always),
    )


def _items_on_board(board: HostBoard, items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(
        replace(item, steps=_items_on_board(board, item.steps))
        if isinstance(item, Group)
        else replace(item, device=_without_name(board, item.device))
        if isinstance(item, StepCall)
        else item
        for item in items
    )


def _without_name(board: HostBoard, word: str | None) -> str | None:
    """Remove the name of the board from a word; None if the word is the board itself."""
    if word == board.name:
        return None
    return word.removeprefix(f"{board.name}.") or word if word else word


def _mismatch(root: Node, test: BoardTest) -> str:
    """Return why the test does not fit a board; empty if it does. Devices that are not usable now count as well."""
    if why := unmet_requirement(root, test.requires.interfaces, test.requires.labels):
        return why
    for call in calls(test.steps + test.always):
        if not call.step.interface:
            continue
        token = call.device or test.board
        try:
            select(root, call.step.interface, [token] if token else [], False)
        except JumpstarterError as error:
            return str(error)
    return ""


def _is_to_be_skipped(root: Node, test: BoardTest) -> bool:
    return bool(missing_interfaces(root, test.requires.interfaces))
