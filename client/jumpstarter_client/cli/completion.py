"""Completion for bash, zsh and fish: short scripts that ask this program for the possible words."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jumpstarter_proto.page_width import print_page
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli import command_options
from jumpstarter_client.cli.commands import COMMANDS, KUBECTL_NOUNS, canonical
from jumpstarter_client.cli.options import BY_NAME, FORMATS, OPTIONS, GlobalOptions, Option, split
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.manifests import interfaces

__all__ = ["FILES", "SCRIPTS", "complete", "complete_tree", "completion"]

HELP = """Usage: jumpstarter completion bash|zsh|fish

For `jumpstarter` and `j`; `jumpstarter shell` needs it only for zsh.

  mkdir -p ~/.local/share/bash-completion/completions
  jumpstarter completion bash > ~/.local/share/bash-completion/completions/jumpstarter
  ln -s jumpstarter ~/.local/share/bash-completion/completions/j
  ln -s jumpstarter ~/.local/share/bash-completion/completions/jmp     # after `jumpstarter jmp install`
  sudo apt install bash-completion         # reads that folder; a Debian without desktop may lack it
  jumpstarter completion zsh > "${fpath[1]}/_jumpstarter"
  mkdir -p ~/.config/fish/conf.d
  jumpstarter completion fish > ~/.config/fish/conf.d/jumpstarter.fish
"""

FILES = 99
"""The exit code if names of files fit as well: only then the shell offers them."""
WORD = "_JMP_WORD"
"""The variable with the begin of the word that is completed: options are offered if it is a hyphen."""

SCRIPTS = {
    # Not `compgen -W`, which would expand the words. The inserted word is quoted. bash takes words apart at = and : and
    # replaces the last part only; what no blank divides is put together again. A `jmp` that `jumpstarter jmp install`
    # has not made is Jumpstarter's own, which has a completion of its own.
    "bash": """_jumpstarter() {
    local word quoted found code current rest=$COMP_LINE words=()
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -gt 0 && -n "$rest" && "$rest" != [[:space:]]* ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        rest=${rest#"$word"}
    done
    current=${words[${#words[@]}-1]}
    found=$(_JMP_WORD="$current" "${1##*/}" __complete "${words[@]:1:${#words[@]}-2}" 2>/dev/null)
    code=$?
    while IFS= read -r word; do
        printf -v quoted %q "$word"
        quoted=${quoted//\\\\,/,}
        if [[ -n "$word" && ("$word" == "$current"* || "$quoted" == "$current"*) ]]; then
            COMPREPLY+=("${quoted#"${current%"$2"}"}")
        fi
    done <<< "$found"
    if ((code == 99)); then compopt -o default 2>/dev/null; fi
}
complete -F _jumpstarter jumpstarter j
if ! complete -p jmp &>/dev/null && grep -qs 'jumpstarter jmp install' "$(type -P jmp)"; then
    complete -F _jumpstarter jmp
fi
""",
    # compadd quotes the inserted word.
    "zsh": """#compdef jumpstarter j jmp
_jumpstarter() {
    local -a found
    local out code
    if [[ "${words[1]:t}" == jmp ]] && ! grep -qs 'jumpstarter jmp install' "$(whence -p jmp)"; then
        _default
        return
    fi
    out="$(_JMP_WORD="$PREFIX" "${words[1]:t}" __complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)"
    code=$?
    found=("${(@f)out}")
    if [[ -n "$out" ]]; then compadd -a found; fi
    if ((code == 99)); then _files; fi
}
if [[ "$funcstack[1]" == _jumpstarter ]]; then
    _jumpstarter "$@"
else
    compdef _jumpstarter jumpstarter j
    compdef -n _jumpstarter jmp
fi
""",
    # fish does not expand the output of a function, and quotes it.
    "fish": """function __jumpstarter_complete
    set -l words (commandline -opc)
    set -lx _JMP_WORD (commandline -ct)
    set -l program (string replace -r '.*/' '' -- $words[1])
    $program __complete $words[2..-1] 2>/dev/null
    if test $status -eq 99
        __fish_complete_path (commandline -ct)
    end
end
complete -c jumpstarter -f -a '(__jumpstarter_complete)'
complete -c j -f -a '(__jumpstarter_complete)'
if command -sq jmp; and grep -qs 'jumpstarter jmp install' (command -s jmp)
    complete -c jmp -f -a '(__jumpstarter_complete)'
end
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


class Fitting(NamedTuple):
    """What may follow."""

    words: Iterable[str] = ()
    files: bool = False
    """Names of files fit, too."""
    options: Iterable[str] = ()
    """Options of ours, which begin with a hyphen; peers' words do not."""


def complete(words: list[str], _: GlobalOptions) -> int:
    """Print the words that may follow `words`, one per line. Returns `FILES` if names of files may, too."""
    return _print(_fitting(words, os.environ.get(WORD, "")))


def complete_tree(words: list[str]) -> int:
    """The same for `j`."""
    try:
        options, words = split(words, is_tree=True)
    except UsageError:
        return 0
    found, files = _values("tree_words", options, words)
    return _print(Fitting(found, files))


def _print(fitting: Fitting) -> int:
    typed = [word for word in fitting.words if _can_be_typed(word)]
    for word in [*fitting.options, *typed[:MAX_WORDS]]:
        print_line(word)
    return FILES if fitting.files else 0


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
_FILE_METAVARS = ("FILE", "DIR")
_COMMAND_OPTIONS: dict[tuple[str, ...], tuple[Option, ...]] = {
    ("exporters",): command_options.EXPORTERS,
    ("lease", "create"): command_options.LEASE_CREATE,
    ("lease", "list"): command_options.LEASE_LIST,
    ("lease", "extend"): command_options.LEASE_EXTEND,
    ("lease", "update"): command_options.LEASE_UPDATE,
    ("lease", "release"): command_options.LEASE_RELEASE,
    ("login",): (
        *command_options.LOGIN,
        *command_options.LOGIN_BY_CODE,
        *command_options.LOGIN_BY_TOKEN,
        *command_options.LOGIN_BY_ISSUER,
    ),
    ("config", "client", "create"): command_options.CONFIG_CREATE,
    ("test",): command_options.TEST,
    ("jmp", "install"): command_options.JMP_INSTALL,
    ("driver", "new"): command_options.DRIVER_NEW,
}


def _own_options(words: list[str]) -> tuple[Option, ...]:
    """Return the options of the command itself."""
    command = canonical(words) if words else []
    return next(
        (found for start, found in _COMMAND_OPTIONS.items() if tuple(command[: len(start)]) == start), ()
    )


def _fitting(words: list[str], current: str) -> Fitting:
    if "--" in words:
        return Fitting(files=True)  # of a command that the user's shell knows better
    name, equals, value = current.partition("=")
    if equals and name.startswith("--"):
        found = _option_value([*words, name], value) or Fitting()
        return Fitting(
            options=[f"{name}={one}" for one in found.words if _can_be_typed(one)], files=found.files
        )
    return _option_value(words, current) or _no_value(words, current)


def _option_value(words: list[str], current: str) -> Fitting | None:
    """Return the values of the option that is the last of the words. None if it is no option with a value."""
    last = words[-1] if words else ""
    before = words[:-1]
    own = {name: option for option in _own_options(before) for name in option.names} if before else {}
    option = own.get(last) or BY_NAME.get(last)
    field = option.field if option is not None and option.metavar else ""
    is_name, is_output = last in ("-n", "--name"), last in ("-o", "--output")
    try:
        if is_name or is_output:  # options of commands; verbs may use them differently
            _, command = split(before)
            is_command = bool(command) and canonical(command)[0] in COMMANDS
            if is_name and is_command and (option is None or command[0] == "lease"):
                field = "exporter_name"
            if is_output and is_command and option is None:
                return Fitting(FORMATS)
        options, _ = split(before if field else words)
    except UsageError:
        return Fitting()
    if not field:
        return None
    values = _values(_VALUES[field], options) if field in _VALUES else ()
    if field == "selector":
        before_comma, comma, _ = current.rpartition(",")
        values = [f"{before_comma}{comma}{value}" for value in values]
    return Fitting(values, files=option is not None and option.metavar in _FILE_METAVARS)


def _no_value(words: list[str], current: str) -> Fitting:
    """Return what may follow words of which the last is no option with a value."""
    try:
        options, words = split(words)
    except UsageError:
        return Fitting()
    if current.startswith("-"):
        is_shell = (
            bool(words) and canonical(words)[0] == "shell"
        )  # its help has those that the general help leaves out
        every = [one for one in OPTIONS if one.help or is_shell] + [
            one for one in _own_options(words) if one.help
        ]
        return Fitting(options=[*_options_of_verb(words), *(name for one in every for name in one.names)])
    return _next_words(words, options)


def _next_words(words: list[str], options: GlobalOptions) -> Fitting:
    """Return what may follow the words, which are no options."""
    if not words:
        return Fitting([*COMMANDS, *interfaces()])
    match canonical(words):
        case [word] if word in KUBECTL_NOUNS:
            return Fitting(KUBECTL_NOUNS[word])
        case ["lease", "show" | "extend" | "transfer" | "update"] | ["lease", "release" | "delete", *_]:
            return Fitting(_values("leases", options))
        case ["exporters", "show" | "get"]:
            return Fitting(_values("exporters", options))
        case ["config", "client"]:
            return Fitting(["create", "delete", "list", "use", "show"])
        case ["config", "client", "delete" | "use" | "show"]:
            return Fitting(_values("configurations", options))
        case ["test", *_]:
            return Fitting(files=True)
        case ["call"]:
            return Fitting(_values("devices", options, ""))
        case [command] if command in COMMANDS:
            return Fitting(COMMANDS[command].words)
        case [command, *_] if command in COMMANDS:
            return Fitting()
        case [interface, *rest]:
            from jumpstarter_client.cli.verbs import client_class  # noqa: PLC0415 - the user waits for the prompt
            from jumpstarter_client.verb import verbs  # noqa: PLC0415

            known = verbs(client_class(interface))
            if not rest:
                return Fitting(known)
            verb = known.get(rest[0])
            is_device = len(rest) == 1 and (verb is None or verb.needs_device)
            return Fitting(
                _values("devices", options, interface) if is_device else (),
                verb is not None and verb.takes_files,
            )
    return Fitting()


def _options_of_verb(words: list[str]) -> Iterator[str]:
    """Yield the options of the verb itself."""
    if len(words) < 2 or words[0] in COMMANDS or words[0] not in interfaces():
        return
    from jumpstarter_client.cli.verbs import client_class  # noqa: PLC0415 - as above
    from jumpstarter_client.verb import verbs  # noqa: PLC0415

    verb = verbs(client_class(words[0])).get(words[1])
    if verb is not None:
        from jumpstarter_client.cli.parser import option_names  # noqa: PLC0415

        yield from option_names(verb)


def _values(function: str, options: GlobalOptions, *arguments: Any) -> Any:
    """Call a function of `completion_values`, which is loaded only now: it needs the whole client."""
    module = importlib.import_module("jumpstarter_client.cli.completion_values")
    return getattr(module, function)(options, *arguments)
