"""The boot loader's command line on the virtual board, as far as tests of U-Boot use it: text in, text out, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable

from jumpstarter_drivers.virtual.words import UnterminatedError, Word, commands, expanded

__all__ = ["PROMPT", "VERSION", "BootLoader", "LoaderAction"]

PROMPT = "=> "
VERSION = "U-Boot 2024.01-virtual"
_DEFAULTS = {
    "arch": "arm",
    "baudrate": "115200",
    "bootcmd": "boot mmc 0",
    "ethaddr": "02:00:00:00:00:01",
}
_LEASE = {"ipaddr": "10.0.2.15", "gatewayip": "10.0.2.2", "netmask": "255.255.255.0", "serverip": "10.0.2.2"}
_MAX_ENVIRONMENT_BYTES = 4096
"""Bytes of the environment, as its place on a card would have."""


class LoaderAction(enum.Enum):
    """What a command asks of the board, once its output has been printed."""

    BOOT = "boot"
    RESET = "reset"


class BootLoader:
    """U-Boot after its countdown was stopped. The environment is lost with the power, unless it was saved."""

    def __init__(self, boot_delay: int = 0) -> None:
        self._saved = _DEFAULTS | {"bootdelay": str(boot_delay)}
        self.start()

    def start(self) -> None:
        """The board starts: the environment is as it was saved."""
        self._environment = dict(self._saved)
        self._status = 0

    @property
    def boot_delay(self) -> int:
        """Seconds of the countdown; below 0 when nothing boots by itself. 0 to 9, and -1."""
        text = self._environment.get("bootdelay", "0")
        return -1 if text.startswith("-") else int(text[0]) if text[:1] in set("0123456789") and text else 0

    def run(self, line: str) -> tuple[str, LoaderAction | None]:
        """Run one line: what it prints (with LF), and what it asks for."""
        output = []
        try:
            for joint, words in commands(line):
                if joint != ";" and (self._status == 0) != (joint == "&&"):
                    continue
                text, action = self._command(words)
                output.append(text)
                if action is not None:
                    return "".join(output), action
        except UnterminatedError:
            self._status = 1
            output.append("syntax error\n")
        return "".join(output), None

    def _command(self, words: list[Word]) -> tuple[str, LoaderAction | None]:
        texts = expanded(words, self._variable, lambda line: f"$({line})")
        if not texts:
            return "", None
        name, *arguments = texts
        if name in ("boot", "reset"):
            return "resetting ...\n" if name == "reset" else "", LoaderAction(name)
        if name not in _COMMANDS:
            self._status = 1
            return f"Unknown command '{name}' - try 'help'\n", None
        self._status = 0
        return _COMMANDS[name](self, arguments), None

    def _variable(self, name: str) -> str:
        return str(self._status) if name == "?" else self._environment.get(name, "")

    def _fail(self, text: str) -> str:
        self._status = 1
        return text

    def _echo(self, arguments: list[str]) -> str:
        return " ".join(arguments) + "\n"

    def _true(self, _arguments: list[str]) -> str:
        return ""

    def _false(self, _arguments: list[str]) -> str:
        return self._fail("")

    def _help(self, _arguments: list[str]) -> str:
        return " ".join(sorted([*_COMMANDS, "boot", "reset"])) + "\n"

    def _version(self, _arguments: list[str]) -> str:
        return f"{VERSION}\n"

    def _printenv(self, arguments: list[str]) -> str:
        shown = []
        for name in arguments or sorted(self._environment):
            if name in self._environment:
                shown.append(f"{name}={self._environment[name]}\n")
            else:
                shown.append(self._fail(f'## Error: "{name}" not defined\n'))
        if not arguments:
            size = sum(len(line) for line in shown)
            shown.append(f"\nEnvironment size: {size}/{_MAX_ENVIRONMENT_BYTES} bytes\n")
        return "".join(shown)

    def _setenv(self, arguments: list[str]) -> str:
        if not arguments:
            return self._fail("Usage:\nsetenv name value ...\n")
        name, value = arguments[0], " ".join(arguments[1:])
        if "=" in name:
            return self._fail(f"## Error: illegal character '=' in variable name \"{name}\"\n")
        used = sum(len(key) + len(text) + 2 for key, text in self._environment.items() if key != name)
        if used + len(name) + len(value) + 2 > _MAX_ENVIRONMENT_BYTES:
            return self._fail(f'## Error: environment overflow, "{name}" deleted\n')
        if value:
            self._environment[name] = value
        else:
            self._environment.pop(name, None)
        return ""

    def _saveenv(self, _arguments: list[str]) -> str:
        self._saved = dict(self._environment)
        return "Saving Environment to MMC... OK\n"

    def _env(self, arguments: list[str]) -> str:
        known = {
            "print": self._printenv,
            "set": self._setenv,
            "save": self._saveenv,
            "default": self._default,
        }
        if not arguments or arguments[0] not in known:
            return self._fail("Usage:\nenv default -a | print | save | set\n")
        return known[arguments[0]](arguments[1:])

    def _default(self, _arguments: list[str]) -> str:
        self._environment = dict(_DEFAULTS)
        return "## Resetting to default environment\n"

    def _dhcp(self, _arguments: list[str]) -> str:
        self._environment.update(_LEASE)
        return f"BOOTP broadcast 1\nDHCP client bound to address {_LEASE['ipaddr']} (2 ms)\n"


_COMMANDS: dict[str, Callable[[BootLoader, list[str]], str]] = {
    "dhcp": BootLoader._dhcp,  # noqa: SLF001 - a table of the class's own methods
    "echo": BootLoader._echo,  # noqa: SLF001
    "env": BootLoader._env,  # noqa: SLF001
    "false": BootLoader._false,  # noqa: SLF001
    "help": BootLoader._help,  # noqa: SLF001
    "printenv": BootLoader._printenv,  # noqa: SLF001
    "saveenv": BootLoader._saveenv,  # noqa: SLF001
    "setenv": BootLoader._setenv,  # noqa: SLF001
    "true": BootLoader._true,  # noqa: SLF001
    "version": BootLoader._version,  # noqa: SLF001
}
