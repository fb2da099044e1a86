"""Which of several boards a command means, by the name of a board or of a device.

If no board or several boards match, the command fails and lists the possible names; it never guesses.
"""

from __future__ import annotations

from collections.abc import Sequence

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_client.command_errors import UnknownDeviceError, UsageError, nearest
from jumpstarter_client.devices.selection import available, check_created, find, with_interface
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.node import Node

__all__ = ["check_served", "choose_board", "choose_board_of_tree"]

MAX_REASON_LENGTH = 400
_Found = list[tuple[HostBoard, Node]]


def choose_board(
    boards: Sequence[HostBoard], interface: str, arguments: list[str], takes_arguments: bool
) -> tuple[HostBoard, list[str]]:
    """Return the board with the named device, and the arguments for that board.

    The arguments are read as in `device_selection.select`. Without a name it is the only device with the interface on
    all boards.

    Raises:
        UnknownDeviceError: no board has such a device.
        UsageError: several boards have one; the message lists them as BOARD.DEVICE.
        JumpstarterError: the named board is not served; the message has the reason.
    """
    own = arguments.index("--") if "--" in arguments else len(arguments)  # words after it belong to the verb
    for index in {0, own - 1} if own else ():
        token = arguments[index]
        if token.startswith("-"):
            continue
        check_served(boards, token)
        found = [(board, node) for board in boards for node in _meant(board, interface, token)]
        if len(found) > 1:
            raise UsageError(f"{token!r} is ambiguous; use one of {_names(found)}")
        for board, node in found:
            path = [node.path] if node.path else []
            return board, [*arguments[:index], *path, *arguments[index + 1 :]]
        _check_created(boards, interface, token)
    everything = [
        (board, node)
        for board in boards
        if board.root is not None
        for node in with_interface(board.root, interface)
    ]
    named = own > 0 and not arguments[0].startswith("-")
    is_all = all(board.root is not None for board in boards)
    if len(everything) == 1 and is_all and (takes_arguments or not named):
        return everything[0][0], arguments
    if not everything:
        raise UnknownDeviceError(
            f"no board of this host has a device with the interface {interface!r}; "
            f"it has the boards {', '.join(shown(board.name) for board in boards)}: jumpstarter devices"
        )
    if named:
        names = [f"{board.name}.{node.path}" for board, node in everything]
        hint = nearest(
            arguments[0],
            names,
            also=[*(board.name for board in boards), *(node.path for _, node in everything)],
        )
        raise UnknownDeviceError(
            f"no board of this host has a device {arguments[0]!r} with the interface {interface!r}{hint}"
        )
    raise UsageError(
        f"several devices; name one of {_names(everything)}, or select a board: --board {shown(everything[0][0].name)}"
    )


def choose_board_of_tree(boards: Sequence[HostBoard], words: list[str]) -> tuple[HostBoard, list[str]]:
    """Do the same for a path in the device tree, whose first word is a board or a device.

    Raises:
        UnknownDeviceError: no board has that name or such a device.
        UsageError: several boards have such a device, or nothing was named; the message lists the boards.
        JumpstarterError: the named board is not served; the message has the reason.
    """
    names = [board.name for board in boards]
    if not words or words[0].startswith("-"):
        raise UsageError(
            f"this host has the boards {', '.join(map(shown, names))}; name one first: j {shown(names[0])}"
        )
    word = words[0]
    check_served(boards, word)
    found = [board for board in boards if board.root is not None and word in board.root.children]
    if not found:
        for board in boards:
            if board.name == word:
                return board, words[1:]
        tops = [name for board in boards if board.root is not None for name in board.root.children]
        raise UnknownDeviceError(
            f"no board of this host has a device {word!r}{nearest(word, [*names, *tops])}"
        )
    if len(found) > 1 or any(name == word for name in names if name != found[0].name):
        of = [f"j {shown(board.name)} {shown(word)}" for board in found]
        of += [f"j --board {shown(word)}" for name in names if name == word]
        raise UsageError(f"{word!r} exists on several boards; use one of: {', '.join(of)}")
    return found[0], words


def _meant(board: HostBoard, interface: str, token: str) -> list[Node]:
    """Return the devices of a board that the word can mean, with or without the name of the board in front."""
    if board.root is None:
        return []
    if found := find(board.root, interface, token):
        return found
    if token == board.name:
        return with_interface(board.root, interface)
    prefix = f"{board.name}."
    return find(board.root, interface, token.removeprefix(prefix)) if token.startswith(prefix) else []


def check_served(boards: Sequence[HostBoard], token: str) -> None:
    """Raise JumpstarterError if the word names a board that is not served."""
    for board in boards:
        if board.root is None and (token == board.name or token.startswith(f"{board.name}.")):
            why = board.problem or "its devices are not available to this user"
            raise JumpstarterError(
                f"the board {shown(board.name)} is not served: {shown(why, MAX_REASON_LENGTH)}"
            )


def _check_created(boards: Sequence[HostBoard], interface: str, token: str) -> None:
    for board in boards:
        if board.root is None:
            continue
        check_created(board.root, interface, token.removeprefix(f"{board.name}."))
        if token == board.name:
            raise UnknownDeviceError(
                f"the board {shown(board.name)} has no device with the interface {interface!r}; "
                f"it has {available(board.root)}"
            )


def _names(found: _Found) -> str:
    return ", ".join(shown(f"{board.name}.{node.path}".rstrip(".")) for board, node in found)
