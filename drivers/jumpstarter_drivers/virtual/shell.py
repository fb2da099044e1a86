"""The tiny shell that the virtual board offers after login: text in, text out, no I/O.

It knows a handful of commands, variables, `;`, `&&`, `||`, quotes, `$?`, `$(...)`, `eval` and `command`, which is what
tests on a console use. A syntax error gives the whole line up, as in busybox, unless `command` stands in front of it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from jumpstarter_drivers.virtual.image import BootImage
from jumpstarter_drivers.virtual.words import UnterminatedError, Word, commands, expanded

__all__ = ["KERNEL", "BoardShell", "MachineFacts", "ShellAction"]

KERNEL = "6.6.0-virtual"
_OCTAL = re.compile(r"\\(?:0([0-7]{0,3})|(.))", re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_MAX_VARIABLES_LENGTH = 256 * 1024
"""Characters of all variables."""
_MAX_DEPTH = 20
"""Of `eval` and `$(...)` in one another."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class ShellAction(enum.Enum):
    """What a command asks of the machine, once its output has been printed."""

    REBOOT = "reboot"
    POWER_OFF = "poweroff"
    LOG_OUT = "exit"


@dataclass
class MachineFacts:
    """Facts that commands print."""

    hostname: str
    model: str
    image: BootImage
    log: list[str] = field(default_factory=list)
    """Kernel messages so far, for `dmesg`."""
    root_lost: bool = False
    """The card left while the system ran: nothing can be loaded from it any more."""


class _SyntaxError(Exception):
    """A line that is given up, of which this was printed so far."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


class BoardShell:
    """One login; `status` is what `$?` says."""

    def __init__(self, machine: MachineFacts) -> None:
        self.machine = machine
        self.status = 0
        self._variables: dict[str, str] = {}
        self._depth = 0

    def run(self, line: str, uptime: float) -> tuple[str, ShellAction | None]:
        """Run one line, `uptime` seconds after boot: what it prints (with LF), and what it asks for."""
        try:
            return self._nested(line, uptime)
        except _SyntaxError as error:
            return error.output, None

    def _nested(self, line: str, uptime: float) -> tuple[str, ShellAction | None]:
        if self._depth == _MAX_DEPTH:
            self.status = 2
            return "sh: too many levels\n", None
        self._depth += 1
        try:
            return self._run(line, uptime)
        finally:
            self._depth -= 1

    def _run(self, line: str, uptime: float) -> tuple[str, ShellAction | None]:
        output = []
        try:
            for joint, words in commands(line):
                if joint != ";" and (self.status == 0) != (joint == "&&"):
                    continue
                text, action = self._command(words, uptime)
                output.append(text)
                if action is not None:
                    return "".join(output), action
        except UnterminatedError:
            self.status = 2
            output.append("sh: syntax error: unterminated quoted string\n")
            raise _SyntaxError("".join(output)) from None
        except _SyntaxError as error:
            raise _SyntaxError("".join([*output, error.output])) from None
        return "".join(output), None

    def _command(self, words: list[Word], uptime: float) -> tuple[str, ShellAction | None]:
        texts = expanded(words, self._variable, lambda line: self.run(line, uptime)[0])
        if texts[:1] == ["command"]:
            try:
                return self._execute(texts[1:], uptime)
            except _SyntaxError as error:
                return error.output, None
        return self._execute(texts, uptime)

    def _execute(self, texts: list[str], uptime: float) -> tuple[str, ShellAction | None]:
        if not texts:
            self.status = 0
            return "", None
        name, *arguments = texts
        if not arguments and (assigned := _ASSIGNMENT.fullmatch(name)):
            return self._assign(assigned[1], assigned[2]), None
        if name == "eval":
            # An empty one succeeds; all others are told by what they run.
            self.status = 0
            return self._nested(" ".join(arguments), uptime)
        if name in _ACTIONS:
            return "", _ACTIONS[name]
        if name in _BUILTINS:
            self.status = 0 if name != "false" else 1
            return _BUILTINS[name](self, arguments, uptime), None
        if name not in _PROGRAMS:
            self.status = 127
            return f"sh: {name}: not found\n", None
        if self.machine.root_lost:
            self.status = 126
            return f"sh: {name}: Input/output error\n", None
        self.status = 0
        return _PROGRAMS[name](self, arguments, uptime), None

    def _variable(self, name: str) -> str:
        name, _, otherwise = name.partition("-")
        return str(self.status) if name == "?" else self._variables.get(name, otherwise)

    def _assign(self, name: str, value: str) -> str:
        others = sum(len(text) for key, text in self._variables.items() if key != name)
        if others + len(value) > _MAX_VARIABLES_LENGTH:
            self.status = 2
            return "sh: out of memory\n"
        self._variables[name] = value
        self.status = 0
        return ""

    def _unset(self, arguments: list[str], _uptime: float) -> str:
        for name in arguments:
            self._variables.pop(name, None)
        return ""

    def _printf(self, arguments: list[str], _uptime: float) -> str:
        """`%b` and `%s` alone, or a text."""
        if arguments[:1] in (["%b"], ["%s"]):
            text = "".join(arguments[1:])
            return _OCTAL.sub(_escaped, text) if arguments[0] == "%b" else text
        return _OCTAL.sub(_escaped, " ".join(arguments))

    def _echo(self, arguments: list[str], _uptime: float) -> str:
        if arguments[:1] == ["-n"]:
            return " ".join(arguments[1:])
        return " ".join(arguments) + "\n"

    def _nothing(self, _arguments: list[str], _uptime: float) -> str:
        return ""

    def _help(self, _arguments: list[str], _uptime: float) -> str:
        return " ".join(sorted([*_ACTIONS, *_BUILTINS, *_PROGRAMS])) + "\n"

    def _uname(self, arguments: list[str], _uptime: float) -> str:
        host = self.machine.hostname
        parts = {"-s": "Linux", "-n": host, "-r": KERNEL, "-m": "aarch64"}
        whole = f"Linux {host} {KERNEL} #1 SMP PREEMPT virtual aarch64 GNU/Linux"
        return (parts.get(arguments[0], whole) if arguments else "Linux") + "\n"

    def _uptime(self, _arguments: list[str], uptime: float) -> str:
        minutes, seconds = divmod(int(uptime), 60)
        return f" up {minutes} min {seconds} s,  1 user,  load average: 0.00, 0.00, 0.00\n"

    def _dmesg(self, _arguments: list[str], _uptime: float) -> str:
        return "".join(f"{entry}\n" for entry in self.machine.log)

    def _hostname(self, _arguments: list[str], _uptime: float) -> str:
        return f"{self.machine.hostname}\n"

    def _whoami(self, _arguments: list[str], _uptime: float) -> str:
        return "root\n"

    def _ls(self, arguments: list[str], _uptime: float) -> str:
        folder = (arguments[-1].rstrip("/") if arguments else "/root") + "/"
        names = {path[len(folder) :].split("/")[0] for path in self._files(0.0) if path.startswith(folder)}
        return " ".join(sorted(names)) + "\n" if names else ""

    def _cat(self, arguments: list[str], uptime: float) -> str:
        files = self._files(uptime)
        output = []
        for path in arguments:
            if path in files:
                output.append(files[path])
            else:
                self.status = 1
                output.append(f"cat: can't open '{path}': No such file or directory\n")
        return "".join(output)

    def _files(self, uptime: float) -> dict[str, str]:
        machine = self.machine
        image = machine.image
        return {
            "/proc/cpuinfo": f"processor\t: 0\nBogoMIPS\t: 108.00\nModel\t\t: {machine.model}\n",
            "/proc/version": f"Linux version {KERNEL}\n",
            "/proc/uptime": f"{uptime:.2f} {uptime:.2f}\n",
            "/proc/device-tree/model": f"{machine.model}\n",
            "/etc/hostname": f"{machine.hostname}\n",
            "/etc/os-release": (
                f'NAME="{image.name}"\nVERSION="{image.version}"\nIMAGE_SHA256="{image.digest}"\n'
            ),
        }


def _escaped(found: re.Match[str]) -> str:
    if found[1] is not None:
        return chr(int(found[1] or "0", 8))
    return _ESCAPES.get(found[2], found[2])


_Command = Callable[[BoardShell, list[str], float], str]
_ACTIONS = {
    "reboot": ShellAction.REBOOT,
    "poweroff": ShellAction.POWER_OFF,
    "halt": ShellAction.POWER_OFF,
    "exit": ShellAction.LOG_OUT,
    "logout": ShellAction.LOG_OUT,
}
# What a shell has in itself goes on working when the card is gone; programs are loaded from it.
_BUILTINS: dict[str, _Command] = {
    "echo": BoardShell._echo,  # noqa: SLF001 - tables of the class's own methods
    "true": BoardShell._nothing,  # noqa: SLF001
    ":": BoardShell._nothing,  # noqa: SLF001
    "false": BoardShell._nothing,  # noqa: SLF001
    "printf": BoardShell._printf,  # noqa: SLF001
    "help": BoardShell._help,  # noqa: SLF001
    "unset": BoardShell._unset,  # noqa: SLF001
}
_PROGRAMS: dict[str, _Command] = {
    "cat": BoardShell._cat,  # noqa: SLF001
    "dmesg": BoardShell._dmesg,  # noqa: SLF001
    "hostname": BoardShell._hostname,  # noqa: SLF001
    "ls": BoardShell._ls,  # noqa: SLF001
    "sync": BoardShell._nothing,  # noqa: SLF001
    "uname": BoardShell._uname,  # noqa: SLF001
    "uptime": BoardShell._uptime,  # noqa: SLF001
    "whoami": BoardShell._whoami,  # noqa: SLF001
}
