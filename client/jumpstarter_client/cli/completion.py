"""Completion for bash, zsh and fish: short scripts that ask this program what fits."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.cli.options import Options, UsageError, nearest

if TYPE_CHECKING:
    from jumpstarter_client.node import Node

__all__ = ["complete", "completion"]

HELP = """Usage: jumpstarter completion bash|zsh|fish

  jumpstarter completion bash > ~/.local/share/bash-completion/completions/jumpstarter
  jumpstarter completion zsh > "${fpath[1]}/_jumpstarter"
  jumpstarter completion fish > ~/.config/fish/completions/jumpstarter.fish
"""

SCRIPTS = {
    "bash": """_jumpstarter() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(jumpstarter __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "$2"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$2"))
}
complete -F _jumpstarter jumpstarter
""",
    "zsh": """#compdef jumpstarter
_jumpstarter() {
    local -a found
    found=("${(@f)$(jumpstarter __complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    [[ -n "$found[1]" ]] && compadd -a found || _files
}
compdef _jumpstarter jumpstarter
""",
    "fish": """function __jumpstarter_complete
    set -l words (commandline -opc)
    jumpstarter __complete $words[2..-1] 2>/dev/null
end
complete -c jumpstarter -a '(__jumpstarter_complete)'
""",
}

DEVICE_SECONDS = 1.0
"""An exporter that has not answered by then does not hold the prompt any longer."""


def completion(arguments: list[str]) -> int:
    """Print a shell's script."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise UsageError(f"no completion for {arguments[0]!r}{nearest(arguments[0], SCRIPTS)}")
    sys.stdout.write(script)
    return 0


def complete(words: list[str], options: Options) -> int:
    """Print what can come behind `words`, a line each."""
    from jumpstarter_client.cli.entry import COMMANDS  # noqa: PLC0415 - it imports this module

    if not words:
        from jumpstarter_client.manifests import interfaces  # noqa: PLC0415

        found = [*COMMANDS, *interfaces()]
    elif words[0] in COMMANDS:
        found = list(SCRIPTS) if words == ["completion"] else []
    elif len(words) == 1:
        from jumpstarter_client.cli.verbs import client_class  # noqa: PLC0415
        from jumpstarter_client.verb import verbs  # noqa: PLC0415

        found = list(verbs(client_class(words[0])))
    elif len(words) == 2:
        found = _devices(words[0], options)
    else:
        found = []
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def _devices(interface: str, options: Options) -> list[str]:
    """Names for the devices of an exporter that runs; none is started for this."""
    import trio  # noqa: PLC0415 - the words above need none of it

    async def ask() -> list[Node]:
        from jumpstarter_client.connecting import connect_async  # noqa: PLC0415
        from jumpstarter_client.resolve import BuiltIn, candidates  # noqa: PLC0415

        with trio.move_on_after(DEVICE_SECONDS):
            for candidate in candidates(options.host, os.environ):
                if isinstance(candidate, BuiltIn):
                    break
                with suppress(JumpstarterError):
                    async with connect_async(str(candidate)) as client:
                        return [node for node in client.node.walk() if node.interface == interface]
        return []

    nodes = trio.run(ask)
    # What a user types: the board, where it has only one of these.
    tops = [node.path.partition(".")[0] for node in nodes]
    return sorted({top if tops.count(top) == 1 else node.path for top, node in zip(tops, nodes, strict=True)})
