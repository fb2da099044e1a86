"""One command on a shell over a console, as a state machine without I/O or clock.

The command is typed between two `echo`s of a word that is new each time, the second with the exit status. The word
is typed in two quoted halves, so the terminal's echo of the line is never taken for it, and it is found even when
kernel messages break into it.

    TYPED --first word--> RUNNING --second word--> DONE

Terminals and line editors take lines of limited length and drop what comes after (POSIX: 255 bytes at least, Linux:
4095, busybox: 512 or 1024). So a long command goes over in pieces, into a variable of the shell: `preparation` has one
line for each, which is a command of its own, with words and an exit status of its own.

An error of the shell itself, such as a quote that is never closed, makes dash and busybox give the whole line up, and
the second word would never come; `command` in front of `eval` makes it an exit status.
"""

from __future__ import annotations

import codecs
import enum
import re
import shlex
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.escapes import SEQUENCE, EscapeFilter, strip_escapes
from jumpstarter_client.console.kernel import (
    MESSAGE,
    REBOOT,
    RESTART,
    interleaved_pattern,
    strip_printk,
    without_messages,
)
from jumpstarter_client.console.prompts import at_login

__all__ = [
    "COMMAND_BYTES",
    "Command",
    "CommandFailed",
    "CommandStage",
    "CommandTooLong",
    "Result",
    "Suspicion",
    "named",
]

MAX_OUTPUT_BYTES = 16 << 20
"""How much output is kept; older output is dropped."""
COMMAND_BYTES = 64 << 10
"""The longest command; longer ones belong into a file."""
LINE_BYTES = 250
"""The longest typed line without Enter: POSIX guarantees 255 bytes with it."""
_MAX_PIECE_BYTES = 160
_MAX_NAMED_LENGTH = 80
"""How much of a command a message quotes, in characters."""
_OVERLAP_BYTES = 4096
"""How far back a marker may start that ends in new data, with kernel messages in it."""

_EVAL = "${funcstack-command} eval"
"""`command eval`. In zsh, where `command` is for programs alone, `funcstack` exists and is empty, which leaves `eval`.
A boot loader has neither, and says that it does not know `eval`."""
_NO_EVAL = "Unknown command 'eval' - try 'help'\n"
_MESSAGES = re.compile(MESSAGE)
_UNFINISHED = re.compile(rb"\[[^\r\n]*\r*$")


class CommandStage(enum.Enum):
    """The stage of a command."""

    TYPED = "the shell has not read the command yet"
    RUNNING = "the command runs"
    DONE = "the command has ended"


class Suspicion(enum.Enum):
    """What the output looks like. A command may print the same, so this is only a suspicion."""

    NONE = "nothing unusual"
    KERNEL = "a kernel started"
    LOADER = "a boot loader started"
    LOGIN = "the console is at a login prompt"


class CommandFailed(JumpstarterError):  # noqa: N818 - says what happened
    """A command on the board ended with an exit code other than 0."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class CommandTooLong(JumpstarterError):  # noqa: N818 - says what it is
    """A command is too long for the console; nothing was sent."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Result:
    """The result of a command."""

    command: str
    output: str
    """Stdout and stderr, lines ended by a line feed, without kernel messages; invalid UTF-8 shows as U+FFFD."""
    exit_code: int
    """0 to 255."""
    kernel: str = ""
    """Kernel messages during the command, or printed by it (`dmesg`), one per line."""
    dropped: int = 0
    """How many bytes are missing at the start of `output`, because the command printed more than 16 MiB."""

    def check(self) -> str:
        """Return the output if the exit code is 0.

        Raises:
            CommandFailed: the exit code is not 0.
        """
        if self.exit_code == ExitCode.OK:
            return self.output
        last = "".join(f"\n  | {line}" for line in self.output.splitlines()[-10:])
        quoted = f"; it printed:{last}" if last else " and printed nothing"
        raise CommandFailed(f"{named(self.command)} ended with exit code {self.exit_code}{quoted}", self)


class Command:
    """A command, from its input to its result. `token` is a random word that marks its start and end."""

    def __init__(self, command: str, token: str) -> None:
        if "\0" in command:
            raise ValueError("a command cannot hold a NUL character")
        if (size := len(command.encode())) > COMMAND_BYTES:
            raise CommandTooLong(
                f"the command has {size} bytes, more than {COMMAND_BYTES}; put it into a file on the board"
            )
        self.command = command
        self.stage = CommandStage.TYPED
        self.result: Result | None = None
        self.rest = b""
        """Output after the end of the command."""
        self._token = token
        self._buffer = bytearray()
        self._dropped = 0
        self._taken = 0
        self._end_of_output = 0
        self._late = b""
        # A message that breaks into a character leaves half of it at the end of a piece.
        self._returns = ""
        """Carriage returns at the end of the taken output."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sign = Suspicion.NONE
        self._marker = f"JS{token}=".encode()
        between = rb"(?:" + MESSAGE + rb"|" + SEQUENCE + rb")*?"
        self._first = re.compile(
            interleaved_pattern(f"JS{token}+".encode()) + between + rb"\r*(?:" + SEQUENCE + rb")*\n"
        )
        digits = rb"((?:" + between + rb"\d){1,3})"
        self._last = re.compile(
            interleaved_pattern(self._marker) + digits + between + rb";(?:\r*\n)?", re.DOTALL
        )

    @property
    def typed(self) -> str:
        """The line to type, without Enter. The leading blank keeps it out of the history of many shells."""
        return self._between_words(self._at_once if self._is_short else self._assembled)

    @property
    def preparation(self) -> list[Command]:
        """Commands to run first, in order, each with exit status 0; empty if the command fits into one line."""
        if self._is_short:
            return []
        text = _octal(self.command) if _has_controls(self.command) else self.command
        name = self._variable
        return [
            _Assignment(self.command, f"{self._token}{number}", f'{name}="${{{name}-}}"{shlex.quote(piece)}')
            for number, piece in enumerate(_pieces(text))
        ]

    @property
    def _is_short(self) -> bool:
        return len(self._between_words(self._at_once).encode()) <= LINE_BYTES

    @property
    def _at_once(self) -> str:
        return f"{_EVAL} {_word(self.command)}"

    @property
    def _variable(self) -> str:
        return f"js{self._token}"

    @property
    def _assembled(self) -> str:
        """Run the assembled command; the variable is unset before the command starts."""
        name = self._variable
        text = f'$(printf %b "${name}")' if _has_controls(self.command) else f"${name}"
        return f'{_EVAL} "unset {name};{text}"'

    def _between_words(self, line: str) -> str:
        return f" echo 'JS''{self._token}+'; {line}; echo 'JS''{self._token}='$?';'"

    @property
    def suspicion(self) -> Suspicion:
        """Why the command may never end; used after a time without output, or at the time limit."""
        if at_login(self._buffer[-_OVERLAP_BYTES:]):
            return Suspicion.LOGIN
        return self._sign

    @property
    def restarted(self) -> bool:
        """Whether the output looks like a boot of the board."""
        return self._sign is not Suspicion.NONE

    @property
    def is_unknown_to_a_boot_loader(self) -> bool:
        """Whether a boot loader read the line: it has `echo`, but no `eval`."""
        return self.result is not None and self.result.output == _NO_EVAL

    def feed(self, data: bytes) -> None:
        """Handle output of the console."""
        searched = max(0, len(self._buffer) - _OVERLAP_BYTES)
        self._buffer += data
        if self.stage is CommandStage.TYPED and (first := self._first.search(self._buffer, searched)):
            # A kernel message inside the marker is reported first.
            messages = b"".join(found[0] for found in _MESSAGES.finditer(first[0]))
            self._buffer[: first.end()] = messages.lstrip(b"\r\n")
            searched = 0
            self.stage = CommandStage.RUNNING
        if self.stage is CommandStage.RUNNING and (last := self._last.search(self._buffer, searched)):
            self._end(last)
            return
        if self.stage is CommandStage.RUNNING:
            self._look_for_signs(searched)
        excess = len(self._buffer) - MAX_OUTPUT_BYTES
        if excess > 0:
            del self._buffer[:excess]
            self._taken = max(0, self._taken - excess)
            self._dropped += excess

    def take(self) -> tuple[str, str]:
        """Return output and kernel messages since the last `take`: whole lines, and everything after the end.

        A carriage return ends a line, too, so that progress bars are reported as they are drawn.
        """
        if self.stage is CommandStage.DONE:
            end, late = self._end_of_output, self._late
            self._late = b""
        elif self.stage is CommandStage.RUNNING and not self._may_be_ending():
            end, late = self._end_of_lines(), b""
        else:
            return "", ""
        output, messages = strip_printk(bytes(self._buffer[self._taken : end]))
        self._taken = max(self._taken, end)
        taken = self._returns + self._decoder.decode(output, self.stage is CommandStage.DONE)
        # A message may have separated them from the rest of the line end.
        whole = taken if self.stage is CommandStage.DONE else taken.rstrip("\r")
        self._returns = taken[len(whole) :]
        return _plain(whole), _text(messages + late)

    def _end(self, last: re.Match[bytes]) -> None:
        self._end_of_output = last.start()
        self._late = b"".join(found[0].lstrip(b"\r\n") for found in _MESSAGES.finditer(last[0]))
        output, messages = strip_printk(bytes(self._buffer[: last.start()]))
        self.result = Result(
            command=self.command,
            output=_text(output),
            exit_code=int(strip_escapes(without_messages(last[1]))),
            kernel=_text(messages + self._late),
            dropped=self._dropped,
        )
        self.rest = bytes(self._buffer[last.end() :])
        self.stage = CommandStage.DONE

    def _may_be_ending(self) -> bool:
        """Whether the end marker may have started, with a kernel message in it."""
        tail = EscapeFilter().feed(without_messages(bytes(self._buffer[-_OVERLAP_BYTES:])))
        tail = _UNFINISHED.sub(b"", tail)
        tail = tail.rstrip(b"\r\n").rstrip(b"0123456789")
        return any(tail.endswith(self._marker[:size]) for size in range(1, len(self._marker) + 1))

    def _end_of_lines(self) -> int:
        end = self._buffer.rfind(b"\n") + 1
        returned = self._buffer.rfind(b"\r", end, len(self._buffer) - 1) + 1
        # A carriage return at the very end may belong to a line end.
        return returned if self._buffer[returned:].strip(b"\r") and returned else end

    def _look_for_signs(self, start: int) -> None:
        if REBOOT.search(self._buffer, start):
            self._sign = Suspicion.LOADER
        elif self._sign is Suspicion.NONE and RESTART.search(self._buffer, start):
            self._sign = Suspicion.KERNEL


def _text(data: bytes) -> str:
    return _plain(data.decode("utf-8", "replace"))


def _plain(text: str) -> str:
    return re.sub(r"\r+\n", "\n", text)


class _Assignment(Command):
    """A command that appends one piece to the variable."""

    def __init__(self, command: str, token: str, line: str) -> None:
        super().__init__(command, token)
        self._line = line

    @property
    def typed(self) -> str:
        """The line to type, without Enter."""
        return self._between_words(self._line)

    @property
    def preparation(self) -> list[Command]:
        """Nothing: it is short."""
        return []


def named(command: str) -> str:
    """Quote a command for a message."""
    return repr(command if len(command) <= _MAX_NAMED_LENGTH else f"{command[: _MAX_NAMED_LENGTH - 3]}...")


def _pieces(text: str) -> list[str]:
    """Split the text into pieces that fit into a line."""
    pieces = [""]
    size = 0
    for char in text:
        width = 5 if char == "'" else len(char.encode())  # a quote is quoted as '"'"'
        if size + width > _MAX_PIECE_BYTES:
            pieces.append("")
            size = 0
        pieces[-1] += char
        size += width
    return pieces


def _has_controls(command: str) -> bool:
    return any(ord(char) < 0x20 or ord(char) == 0x7F for char in command)


def _octal(command: str) -> str:
    """Encode for `printf %b`, so that line editors treat no byte as a key."""
    return "".join(
        f"\\0{ord(char):03o}" if ord(char) < 0x20 or char in "\x7f\\" else char for char in command
    )


def _word(command: str) -> str:
    """Quote the command as one word of a shell line."""
    if not _has_controls(command):
        return shlex.quote(command)
    return f'"$(printf %b {shlex.quote(_octal(command))})"'
