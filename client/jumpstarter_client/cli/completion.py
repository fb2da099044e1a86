"""Completion for bash, zsh and fish: short scripts that ask this program for the possible words."""

from __future__ import annotations

import importlib

from jumpstarter_proto.page_width import print_page
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.commands import COMMANDS, canonical
from jumpstarter_client.cli.options import BY_NAME, GlobalOptions, split
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.manifests import interfaces

__all__ = ["complete", "completion"]

HELP = """Usage: jumpstarter completion bash|zsh|fish

  jumpstarter completion bash > ~/.local/share/bash-completion/completions/jumpstarter
  jumpstarter completion zsh > "${fpath[1]}/_jumpstarter"
  jumpstarter completion fish > ~/.config/fish/completions/jumpstarter.fish
"""

SCRIPTS = {
    # Not `compgen -W`, which would expand the words. The inserted word is quoted.
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
    # compadd quotes the inserted word.
    "zsh": """#compdef jumpstarter
_jumpstarter() {
    local -a found
    found=("${(@f)$(jumpstarter __complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    if [[ -n "$found[1]" ]]; then compadd -a found; else _files; fi
}
if [[ "$funcstack[1]" == _jumpstarter ]]; then _jumpstarter "$@"; else compdef _jumpstarter jumpstarter; fi
""",
    # fish does not expand the output of a function, and quotes it.
    "fish": """function __jumpstarter_complete
    set -l words (commandline -opc)
    jumpstarter __complete $words[2..-1] 2>/dev/null
end
complete -c jumpstarter -a '(__jumpstarter_complete)'
""",
}
MAX_WORD_LENGTH = 256
MAX_WORDS = 1000
"""Peers choose the words; a longer list is cut."""


def completion(arguments: list[str], _: GlobalOptions) -> int:
    """Run the command: print the script of a shell."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print_page(HELP)
        return 0
    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise UsageError(f"no completion for {arguments[0]!r}{nearest(arguments[0], SCRIPTS)}")
    print_text(script)
    return 0


def complete(words: list[str], _: GlobalOptions) -> int:
    """Print the words that may follow `words`, one per line."""
    fitting = [word for word in _fitting(words) if _can_be_typed(word)]
    for word in fitting[:MAX_WORDS]:
        print_line(word)
    return 0


def _can_be_typed(word: str) -> bool:
    """Whether the word is one printable line and not an option: peers choose names."""
    return word.isprintable() and not word.startswith("-") and 0 < len(word) <= MAX_WORD_LENGTH


_VALUES = {
    "board": "boards",
    "lease": "leases",
    "exporter": "named_exporters",
    "exporter_name": "exporters",
    "selector": "labels",
    "client": "configurations",
    "log_level": "log_levels",
}
"""By the field of an option of every command: the function in `completion_values`. The others take any value."""


def _fitting(words: list[str]) -> list[str]:
    last = words[-1] if words else ""
    field = "exporter_name" if last in ("-n", "--name") else ""
    if last in BY_NAME and BY_NAME[last].metavar:
        field = BY_NAME[last].field
    try:
        options, words = split(words[:-1] if field else words)
    except UsageError:
        return []
    if field:
        return _values(_VALUES[field], options) if field in _VALUES else []
    if not words:
        return [*COMMANDS, *interfaces()]
    match canonical(words):
        case ["lease", "show" | "extend" | "transfer" | "update"] | ["lease", "release" | "delete", *_]:
            return _values("leases", options)
        case ["exporters", "show" | "get"]:
            return _values("exporters", options)
        case ["config", "client"]:
            return ["create", "delete", "list", "use", "show"]
        case ["config", "client", "delete" | "use" | "show"]:
            return _values("configurations", options)
        case [command] if command in COMMANDS:
            return list(COMMANDS[command].words)
        case [command, *_] if command in COMMANDS:
            return []
        case [interface]:
            from jumpstarter_client.cli.verbs import client_class  # noqa: PLC0415 - the user waits for the prompt
            from jumpstarter_client.verb import verbs  # noqa: PLC0415

            return list(verbs(client_class(interface)))
        case [interface, _]:
            return _values("devices", options, interface)
    return []


def _values(function: str, options: GlobalOptions, *arguments: str) -> list[str]:
    """Call a function of `completion_values`, which is loaded only now: it needs the whole client."""
    values: list[str] = getattr(
        importlib.import_module("jumpstarter_client.cli.completion_values"), function
    )(options, *arguments)
    return values
