"""Completion for bash, zsh and fish: short scripts that ask this program what fits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.options import LOG_LEVELS, VALUED, Options, UsageError, nearest, split

if TYPE_CHECKING:
    from jumpstarter_client.host_boards import HostBoard
    from jumpstarter_client.node import Node

__all__ = ["complete", "completion"]

HELP = """Usage: jumpstarter completion bash|zsh|fish

  jumpstarter completion bash > ~/.local/share/bash-completion/completions/jumpstarter
  jumpstarter completion zsh > "${fpath[1]}/_jumpstarter"
  jumpstarter completion fish > ~/.config/fish/completions/jumpstarter.fish
"""

SCRIPTS = {
    # Not `compgen -W`, which expands its words as a command line does. What goes into the line is quoted.
    "bash": """_jumpstarter() {
    local word quoted
    COMPREPLY=()
    while IFS= read -r word; do
        printf -v quoted %q "$word"
        if [[ "$word" == "$2"* || "$quoted" == "$2"* ]]; then COMPREPLY+=("$quoted"); fi
    done < <(jumpstarter __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
}
complete -o default -F _jumpstarter jumpstarter
""",
    # compadd quotes what goes into the line.
    "zsh": """#compdef jumpstarter
_jumpstarter() {
    local -a found
    found=("${(@f)$(jumpstarter __complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    if [[ -n "$found[1]" ]]; then compadd -a found; else _files; fi
}
if [[ "$funcstack[1]" == _jumpstarter ]]; then _jumpstarter "$@"; else compdef _jumpstarter jumpstarter; fi
""",
    # What a function prints is not expanded once more, and fish quotes it.
    "fish": """function __jumpstarter_complete
    set -l words (commandline -opc)
    jumpstarter __complete $words[2..-1] 2>/dev/null
end
complete -c jumpstarter -a '(__jumpstarter_complete)'
""",
}
MAX_WORD_LENGTH = 256
MAX_WORDS = 1000
"""Of a list; nobody reads more, and a peer made it."""


def completion(arguments: list[str]) -> int:
    """Print a shell's script."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print_text(HELP)
        return 0
    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise UsageError(f"no completion for {arguments[0]!r}{nearest(arguments[0], SCRIPTS)}")
    print_text(script)
    return 0


def complete(words: list[str]) -> int:
    """Print what can come behind `words`, a line each."""
    fitting = [word for word in _fitting(words) if _can_be_typed(word)]
    for word in fitting[:MAX_WORDS]:
        print_line(word)
    return 0


def _can_be_typed(word: str) -> bool:
    """Whether it is one visible line, and no option: peers choose their names."""
    return word.isprintable() and not word.startswith("-") and 0 < len(word) <= MAX_WORD_LENGTH


def _fitting(words: list[str]) -> list[str]:
    from jumpstarter_client.cli import completion_values  # noqa: PLC0415 - what is below needs what it names only
    from jumpstarter_client.cli.entry import COMMANDS, straight  # noqa: PLC0415 - it imports this module

    last = words[-1] if words else ""
    asked = last in VALUED or last in ("-n", "--name")
    try:
        options, words = split(words[:-1] if asked else words)
    except UsageError:
        return []
    if asked:
        return _values("exporter_name" if last in ("-n", "--name") else VALUED[last], options)
    if not words:
        from jumpstarter_client.manifests import interfaces  # noqa: PLC0415

        return [*COMMANDS, *interfaces()]
    match straight(words):
        case ["completion"]:
            return list(SCRIPTS)
        case ["lease"]:
            return ["create", "list", "show", "extend", "transfer", "release"]
        case ["lease", "show" | "extend" | "transfer" | "update"] | ["lease", "release" | "delete", *_]:
            return completion_values.leases(options)
        case ["exporters"]:
            return ["show"]
        case ["driver"]:
            return ["new"]
        case ["exporters", "show" | "get"]:
            return completion_values.exporters(options)
        case ["config"]:
            return ["client"]
        case ["config", "client"]:
            return ["create", "delete", "list", "use", "show"]
        case ["config", "client", "delete" | "use" | "show"]:
            return completion_values.configurations()
        case [word, *_] if word in COMMANDS:
            return []
        case [interface]:
            from jumpstarter_client.cli.verbs import client_class  # noqa: PLC0415
            from jumpstarter_client.verb import verbs  # noqa: PLC0415

            return list(verbs(client_class(interface)))
        case [interface, _]:
            return _devices(interface, options)
    return []


def _values(option: str, options: Options) -> list[str]:
    """What an option of every command can have; nothing where that is anything."""
    from jumpstarter_client.cli import completion_values  # noqa: PLC0415

    match option:
        case "board":
            return _boards(options)
        case "lease":
            return completion_values.leases(options)
        case "exporter":
            return [*completion_values.local_exporters(), *completion_values.exporters(options)]
        case "exporter_name":
            return completion_values.exporters(options)
        case "selector":
            return completion_values.labels(options)
        case "client":
            return completion_values.configurations()
        case "log_level":
            return list(LOG_LEVELS)
    return []


def _devices(interface: str, options: Options) -> list[str]:
    """Names for the devices of an exporter that runs; none is started for this."""
    names = [
        (board or node.path.partition(".")[0], f"{board}.{node.path}" if board else node.path)
        for board, root in _roots(options)
        for node in root.walk()
        if node.interface == interface
    ]
    # What a user types: the board, where it has only one of these.
    tops = [top for top, _ in names]
    return sorted({top if tops.count(top) == 1 else path for top, path in names})


def _boards(options: Options) -> list[str]:
    """Names of a host's boards, or of those that it could have."""
    from jumpstarter_client.cli.completion_values import local_exporters  # noqa: PLC0415

    return [board for board, _ in _roots(options) if board] or local_exporters()


def _roots(options: Options) -> list[tuple[str, Node]]:
    """What runs: the only board under no name, or several under theirs."""
    import trio  # noqa: PLC0415 - the words above need none of it

    async def ask() -> list[tuple[str, Node]]:
        from jumpstarter_client.cli.completion_values import ASK_SECONDS  # noqa: PLC0415
        from jumpstarter_client.connections.connect import connect_async  # noqa: PLC0415
        from jumpstarter_client.connections.endpoint import BuiltIn, candidates  # noqa: PLC0415

        with trio.move_on_after(ASK_SECONDS):
            for candidate in candidates(options.host, os.environ):
                if isinstance(candidate, BuiltIn):
                    break
                try:
                    async with connect_async(str(candidate), board=options.board) as client:
                        return [("", client.node)]
                except JumpstarterError as error:
                    several: list[HostBoard] = getattr(error, "boards", [])
                    if several:
                        return [(one.name, one.root) for one in several if one.root is not None]
        return []

    return trio.run(ask)
