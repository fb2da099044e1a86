"""Which of a host's boards a command means: by a board's name in the place of a device's, or by a device's name.

A command that means none of them, or several, ends with the names that would do; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_client.cli.devices import check_made, find, what_there_is, with_interface
from jumpstarter_client.cli.options import UnknownDeviceError, UsageError, nearest
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.node import Node

__all__ = ["check_served", "choose_board", "choose_board_of_tree"]

_SENTENCE = 400
_Found = list[tuple[HostBoard, Node]]


def choose_board(
    boards: Sequence[HostBoard], interface: str, arguments: list[str], takes_arguments: bool
) -> tuple[HostBoard, list[str]]:
    """The board that has the device that the arguments name, and the arguments for that board alone.

    The words are looked at as `devices.select` does. Without a name, the only device of all boards that has the
    interface.

    Raises:
        UnknownDeviceError: no board has such a device.
        UsageError: several have; names them as BOARD.DEVICE.
        JumpstarterError: the board that is named is not served; says why.
    """
    own = arguments.index("--") if "--" in arguments else len(arguments)  # behind it, words are the verb's
    for index in {0, own - 1} if own else ():
        token = arguments[index]
        if token.startswith("-"):
            continue
        check_served(boards, token)
        found = [(board, node) for board in boards for node in _meant(board, interface, token)]
        if len(found) > 1:
            raise UsageError(f"{token!r} can be any of {_names(found)}; name one of them")
        for board, node in found:
            path = [node.path] if node.path else []
            return board, [*arguments[:index], *path, *arguments[index + 1 :]]
        _check_made(boards, interface, token)
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
        f"which device? Name one of {_names(everything)}; or choose a board: --board {shown(everything[0][0].name)}"
    )


def choose_board_of_tree(boards: Sequence[HostBoard], words: list[str]) -> tuple[HostBoard, list[str]]:
    """The same for a path in the device tree: what its first word names, and the words for that board alone.

    Raises:
        UnknownDeviceError: no board has that name, or such a device.
        UsageError: several have such a device, or nothing is named; names what there is.
        JumpstarterError: the board that is named is not served; says why.
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
        raise UsageError(f"{word!r} can be any of several boards': {', '.join(of)}; use one of these")
    return found[0], words


def _meant(board: HostBoard, interface: str, token: str) -> list[Node]:
    """The board's devices that the word can mean: as on a host with that board only, and with the board's name."""
    if board.root is None:
        return []
    if found := find(board.root, interface, token):
        return found
    if token == board.name:
        return with_interface(board.root, interface)
    prefix = f"{board.name}."
    return find(board.root, interface, token.removeprefix(prefix)) if token.startswith(prefix) else []


def check_served(boards: Sequence[HostBoard], token: str) -> None:
    """JumpstarterError if the word names a board that is not there: no other board's device is meant by it."""
    for board in boards:
        if board.root is None and (token == board.name or token.startswith(f"{board.name}.")):
            why = board.problem or "its devices are for nobody here"
            raise JumpstarterError(f"the board {shown(board.name)} is not served: {shown(why, _SENTENCE)}")


def _check_made(boards: Sequence[HostBoard], interface: str, token: str) -> None:
    for board in boards:
        if board.root is None:
            continue
        check_made(board.root, interface, token.removeprefix(f"{board.name}."))
        if token == board.name:
            raise UnknownDeviceError(
                f"the board {shown(board.name)} has no device with the interface {interface!r}; "
                f"it has {what_there_is(board.root)}"
            )


def _names(found: _Found) -> str:
    return ", ".join(shown(f"{board.name}.{node.path}".rstrip(".")) for board, node in found)
