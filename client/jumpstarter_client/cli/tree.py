"""`j`: the device tree as commands, such as `j rpi4 power on`."""

from __future__ import annotations

import os

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_line, print_text
from jumpstarter_proto.texts import cells, padded, shown

from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.cli.verbs import call_verb
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.node import Node
from jumpstarter_client.verb import Verb, verbs

__all__ = ["run_tree"]

MAX_NAME = 60
MAX_MEANT = 3
MAX_DESCRIPTION = 2000
"""Characters of a description; it comes from the exporter."""


def run_tree(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    if not options.host and not options.config and not os.environ.get("JUMPSTARTER_HOST"):
        raise UsageError(
            "`j` works inside `jumpstarter shell`; start that first, or set JUMPSTARTER_HOST to the socket or "
            "HOST:PORT of an exporter"
        )
    from jumpstarter_client.connections.connect import connect  # noqa: PLC0415 - not for a wrong command line

    try:
        with connect(
            options.host, config=options.config, board=options.board, request=options.lease_request()
        ) as root:
            return _run_below(root.node, arguments, "j", options)
    except JumpstarterError as error:
        if not (boards := getattr(error, "boards", None)):
            raise
        from jumpstarter_client.devices.board_selection import choose_board_of_tree  # noqa: PLC0415 - only a host of several

        board, words = choose_board_of_tree(boards, arguments)
        title = "j" if len(words) == len(arguments) else f"j {board.name}"
        with connect(options.host, board=board.name) as root:
            return _run_below(root.node, words, title, options)


def _run_below(node: Node, arguments: list[str], title: str, options: GlobalOptions) -> ExitCode:
    words = list(arguments)
    if (
        words
        and node.parent is None
        and words[0] == node.name
        and words[0] not in {*node.children, *_verbs(node)}
    ):
        words.pop(0)  # the only board of a host is named as one of several is
    while words and words[0] in node.children and _whole_command(node) is None:
        node = node.children[words.pop(0)]
    known = _verbs(node)
    title = " ".join([title, *arguments[: len(arguments) - len(words)]])
    if (whole := _whole_command(node)) is not None and words[:1] not in (["-h"], ["--help"]):
        call_verb(node.client, whole, words, title, options)
        return ExitCode.OK
    if not words or words[0] in ("-h", "--help"):
        _print_help(node, known, title)
        return ExitCode.OK
    word = words.pop(0)
    if reason := getattr(node.client, "stub_reason", None):
        raise JumpstarterError(f"{node.path} cannot be used: {reason}")
    if word not in known:
        raise UsageError(
            f"{title} has no {word!r}{_meant(node, word) or nearest(word, [*node.children, *known])}"
        )
    if any(w in ("-h", "--help") for w in words):
        from jumpstarter_client.cli.parser import print_help  # noqa: PLC0415

        print_help(known[word], f"{title} {word}", device=False)
        return ExitCode.OK
    call_verb(node.client, known[word], words, f"{title} {word}", options)
    return ExitCode.OK


def _meant(node: Node, word: str) -> str:
    """Where the word is a device below another one, as `j power on` is typed for a board with one switch."""
    found = [one for one in node.walk() if one is not node and word in (one.name, one.interface)]
    paths = [f"`j {shown(one.path.replace('.', ' '))}`" for one in found[:MAX_MEANT]]
    return f"; did you mean {' or '.join(paths)}?" if paths else ""


def _whole_command(node: Node) -> Verb | None:
    """The verb for which the device itself stands."""
    if getattr(node.client, "stub_reason", None):
        return None
    return next((verb for verb in _verbs(node).values() if verb.takes_all_words), None)


def _verbs(node: Node) -> dict[str, Verb]:
    return verbs(type(node.client))


def _print_help(node: Node, known: dict[str, Verb], title: str) -> None:
    if (whole := _whole_command(node)) is not None:
        from jumpstarter_client.cli.parser import print_help  # noqa: PLC0415

        print_help(whole, title, device=False)
        return
    print_line(f"Usage: {title} COMMAND [ARGUMENT ...]")
    if node.description:
        print_text(f"\n{node.description[:MAX_DESCRIPTION]}\n")
    rows = [(name, child.description or child.interface) for name, child in node.children.items()]
    rows += [(name, node.methods_description.get(name, verb.help)) for name, verb in known.items()]
    if rows:
        print_line()
    names = [shown(name, MAX_NAME) for name, _ in rows]
    width = max(map(cells, names), default=0)
    for name, (_, text) in zip(names, rows, strict=True):
        print_line(f"  {padded(name, width)}  {shown(text, MAX_DESCRIPTION)}".rstrip())
