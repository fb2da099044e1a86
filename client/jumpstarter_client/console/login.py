"""A login over a console in any state, as a state machine without I/O or clock.

    LISTENING --login prompt--> NAMED --password prompt--> PASSWORD_GIVEN --"Current password"--> CURRENT_GIVEN
        |                         |                             |   |                                  |
        |                         |                             |   +-------"New password"--> NEW_GIVEN/CONFIRMED
        +-- anything else ------> PROBING <-- shell prompt -----+-- shell prompt or silence ----------+
                                     |
                                     +-- the probe's answer --> LOGGED_IN

A prompt counts when it is the last text on the console, without escape sequences. Words such as "Permission denied"
decide nothing, because any program may print them; the prompt that follows decides.

A shell is recognised by its behaviour, not by its prompt: the probe is an `echo` whose output differs from the typed
text, and which only a shell with `eval` runs; a boot loader prints its `version` instead. While a boot loader runs,
nothing is typed, because any key stops it. If it was stopped all the same, it is told to boot.
"""

from __future__ import annotations

import enum
import re

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.escapes import EscapeFilter
from jumpstarter_client.console.kernel import REBOOT, RESTART, interleaved_pattern, without_messages
from jumpstarter_client.console.matcher import plain, without_secrets
from jumpstarter_client.console.prompts import (
    LoaderPrompt,
    PasswordPrompt,
    at_login,
    is_loader_banner,
    is_prompt,
    password_prompt,
)

__all__ = ["LoginMachine", "LoginRefused", "LoginState", "Probe", "ShellProbe"]

ENTER = b"\r"
CTRL_C = b"\x03"
_MAX_SEEN_BYTES = 4096
_QUIET_SECONDS = 0.3
"""After so long without output, the console waits for input."""
_BOOT_QUIET_SECONDS = 2.0
"""While the board may be booting."""
_PROGRAM_QUIET_SECONDS = 5.0
"""While a program may be starting, or login checks a password, which it does slowly on purpose."""
_LOADER_QUIET_SECONDS = 10.0
"""While a boot loader runs."""
_LOADER_PROMPT_SECONDS = 1.0
"""If a boot loader seems to be at its prompt."""
_MAX_NAME_PROMPTS = 3

_REFUSED = re.compile(
    rb"[^\r\n]*(?:Login incorrect|Authentication failure|Permission denied|Login timed out)[^\r\n]*"
)
_MUST_CHANGE = re.compile(
    rb"[^\r\n]*(?:(?:required to|must|have to) change your password|password (?:has |is )?expired)[^\r\n]*",
    re.IGNORECASE,
)
_KERNEL_RUNS = re.compile(rb"Starting kernel|Booting Linux|Linux version")
_COUNTDOWN = re.compile(rb"stop autoboot|[Aa]utoboot(?:ing)? in ")


class LoginRefused(JumpstarterError):  # noqa: N818 - says what happened
    """The board rejected the user name or the password."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


class LoginState(enum.Enum):
    """What was typed last, which decides what the output means."""

    LISTENING = "no prompt has come"
    NAMED = "the board was given the user name"
    PASSWORD_GIVEN = "the board was given the password"  # noqa: S105 - not a password
    CURRENT_GIVEN = "the board was given the current password, to change it"
    NEW_GIVEN = "the board was given the new password"
    CONFIRMED = "the board was given the new password twice"
    PROBING = "the board was prompt whether a shell is there"
    LOGGED_IN = "a shell answers"


_S = LoginState
_NEXT: dict[LoginState, frozenset[LoginState]] = {
    _S.LISTENING: frozenset({_S.NAMED, _S.PROBING}),
    _S.NAMED: frozenset({_S.NAMED, _S.PASSWORD_GIVEN, _S.NEW_GIVEN, _S.PROBING}),
    _S.PASSWORD_GIVEN: frozenset({_S.NAMED, _S.CURRENT_GIVEN, _S.NEW_GIVEN, _S.PROBING}),
    _S.CURRENT_GIVEN: frozenset({_S.NAMED, _S.NEW_GIVEN, _S.PROBING}),
    _S.NEW_GIVEN: frozenset({_S.NAMED, _S.CONFIRMED, _S.PROBING}),
    _S.CONFIRMED: frozenset({_S.NAMED, _S.PROBING}),
    _S.PROBING: frozenset({_S.LISTENING, _S.NAMED, _S.PROBING, _S.LOGGED_IN}),
    _S.LOGGED_IN: frozenset(),
}
_LOGGING_IN = {_S.NAMED, _S.PASSWORD_GIVEN, _S.CURRENT_GIVEN, _S.NEW_GIVEN, _S.CONFIRMED}


class Probe:
    """An `echo` command whose output only a shell or a boot loader prints."""

    def __init__(self, token: str) -> None:
        self.typed = f" echo 'JS''{token}?'".encode() + ENTER
        self.answer = re.compile(interleaved_pattern(f"JS{token}?".encode()))
        """The pattern of its output."""

    def answered(self, data: bytes | bytearray) -> bool:
        """Whether the console printed the output."""
        return self.answer.search(data) is not None


class ShellProbe(Probe):
    """A probe that only a POSIX shell answers: a boot loader has no `eval` and prints its version instead."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.typed = f" eval : && echo 'JS''{token}?' || version".encode() + ENTER


class LoginMachine:
    """A login, from any state of the console to a shell that answers.

    `new_password` is for a board that requires a new password; if it was set by an earlier login, it is used to log in.
    `loader_prompt` is the prompt of the board's boot loader if it is an unusual one.
    """

    def __init__(
        self,
        user: str,
        password: str | None,
        token: str,
        *,
        new_password: str | None = None,
        loader_prompt: str | None = None,
    ) -> None:
        self.state = LoginState.LISTENING
        self._user = user
        self._passwords = [one for one in (password, new_password) if one is not None]
        """The passwords to try, in order; the first one is the current one."""
        self._new_password = new_password
        self._loader_prompt = LoaderPrompt(loader_prompt)
        self._probe = ShellProbe(token)
        self._filter = EscapeFilter()
        self._seen = bytearray()
        """The text without escape sequences since the last input."""
        self._in_loader = False
        self._refusal = ""
        """A line that looks like a rejection, since the user name was typed."""
        self._must_change = ""
        """A line that looks like a request to change the password."""
        self._names = 0
        self._pokes = 0

    @property
    def quiet_seconds(self) -> float:
        """Seconds without output after which `silence` has to be called."""
        line = self._last_line()
        if self._in_loader:
            return _LOADER_PROMPT_SECONDS if self._loader_prompt.likely(line) else _LOADER_QUIET_SECONDS
        if self.state is not LoginState.PROBING and is_prompt(line):
            return _QUIET_SECONDS
        if self.state is not LoginState.LISTENING:
            return _PROGRAM_QUIET_SECONDS
        return (
            _BOOT_QUIET_SECONDS
            if self._answered
            else min(_QUIET_SECONDS * 2**self._pokes, _PROGRAM_QUIET_SECONDS)
        )

    def feed(self, data: bytes) -> bytes:
        """Handle output of the console, and return what to type.

        Raises:
            LoginRefused: the user name or the password is wrong, a password or a new one is required, or the board is
                at the prompt of its boot loader.
        """
        self._seen += self._filter.feed(data)
        del self._seen[:-_MAX_SEEN_BYTES]
        if self.state is LoginState.PROBING and self._probe.answered(self._seen):
            self._enter(LoginState.LOGGED_IN)
            return b""
        line = self._last_line()
        if (
            self.state is LoginState.PROBING
            and is_loader_banner(self._seen)
            and self._loader_prompt.likely(line)
        ):
            raise self._at_loader(line)
        self._follow_boot()
        if self.state in _LOGGING_IN:
            self._listen_to_words()
        if at_login(self._seen):
            self._in_loader = False
            return self._give_name()
        if prompt := password_prompt(line):
            return self._give_password(prompt)
        if self._loader_prompt.certain(line):
            return self._leave_loader(line)
        return b""

    def silence(self) -> bytes:
        """Handle that nothing was printed for `quiet_seconds`, and return what to type.

        Raises:
            LoginRefused: the board is at the prompt of its boot loader.
        """
        line = self._last_line()
        if self._in_loader and self._loader_prompt.likely(line):
            return self._leave_loader(line)
        if self.state is LoginState.LISTENING and not self._answered:
            self._pokes += 1
            return self._type(ENTER)
        if self.state is LoginState.PROBING:
            # Another program received the probe. Shells discard input right after Ctrl-C, so listen first.
            self._enter(LoginState.LISTENING)
            return self._type(CTRL_C)
        self._enter(LoginState.PROBING)
        return self._type(self._probe.typed)

    @property
    def _answered(self) -> bool:
        """Whether there was output, other than kernel messages, since Enter was typed."""
        return self._pokes > 0 and bool(without_messages(bytes(self._seen)))

    def _listen_to_words(self) -> None:
        text = without_messages(bytes(self._seen))
        if found := _REFUSED.search(text):
            self._refusal = plain(found[0]).strip()
        if found := _MUST_CHANGE.search(text):
            self._must_change = plain(found[0]).strip()

    def _give_name(self) -> bytes:
        if self._refusal:
            if len(self._passwords) < 2:
                raise LoginRefused(
                    f"the board rejected the login of {self._user!r} ({self._refusal}); check the name and the password"
                )
            del self._passwords[0]  # it may have been changed before
        elif self._names == _MAX_NAME_PROMPTS:
            raise LoginRefused(
                f"the board repeats its login prompt; it does not accept the user {self._user!r}"
            )
        self._names += 1
        self._refusal = self._must_change = ""
        self._enter(LoginState.NAMED)
        return self._type(self._user.encode() + ENTER)

    def _give_password(self, prompt: PasswordPrompt) -> bytes:
        self._in_loader = False
        if self.state is LoginState.PROBING:
            self._enter(LoginState.LISTENING)
        if self.state not in _LOGGING_IN:
            # An unfinished login of somebody else: an empty password ends it.
            return self._type(ENTER)
        if prompt is PasswordPrompt.PASSWORD and self.state is LoginState.NAMED:
            if not self._passwords:
                raise LoginRefused(f"the board asks for the password of {self._user!r}; pass one")
            return self._type_secret(LoginState.PASSWORD_GIVEN, self._passwords[0])
        if prompt is PasswordPrompt.PASSWORD and not self._must_change:
            raise LoginRefused(f"the board rejected the password of {self._user!r}; check it")
        return self._change_password(prompt)

    def _change_password(self, prompt: PasswordPrompt) -> bytes:
        if self._new_password is None:
            said = f" ({self._must_change})" if self._must_change else ""
            raise LoginRefused(
                f"the board requires a new password for {self._user!r}{said}; pass `new_password`, or change it on the "
                "console once"
            )
        if self.state is LoginState.PASSWORD_GIVEN and prompt in (
            PasswordPrompt.CURRENT,
            PasswordPrompt.PASSWORD,
        ):
            return self._type_secret(LoginState.CURRENT_GIVEN, self._passwords[0])
        if self.state is LoginState.NEW_GIVEN and prompt is PasswordPrompt.AGAIN:
            self._passwords = [self._new_password]
            return self._type_secret(LoginState.CONFIRMED, self._new_password)
        if prompt is PasswordPrompt.NEW and self.state in (
            LoginState.NAMED,
            LoginState.PASSWORD_GIVEN,
            LoginState.CURRENT_GIVEN,
        ):
            return self._type_secret(LoginState.NEW_GIVEN, self._new_password)
        said = f" ({words})" if (words := self._line_before()) else ""
        raise LoginRefused(f"the board rejected the new password of {self._user!r}{said}; choose another one")

    def _leave_loader(self, line: str) -> bytes:
        if not (self._in_loader and self._pokes):
            raise self._at_loader(line)
        return self._type(b"boot" + ENTER)  # our input stopped it

    def _at_loader(self, line: str) -> LoginRefused:
        return LoginRefused(
            f"the board is at the prompt of its boot loader, {line.strip()!r}; type `boot` first, or power-cycle it"
        )

    def _follow_boot(self) -> None:
        starts = [found.end() for sign in (REBOOT, _COUNTDOWN) for found in sign.finditer(self._seen)]
        runs = [found.end() for sign in (_KERNEL_RUNS, RESTART) for found in sign.finditer(self._seen)]
        if starts or runs:
            self._in_loader = max(starts, default=0) > max(runs, default=0)

    def _last_line(self) -> str:
        return plain(without_messages(bytes(self._seen))).rpartition("\n")[2]

    def _line_before(self) -> str:
        """Return the line before the prompt, without secrets."""
        lines = plain(without_messages(bytes(self._seen))).split("\n")[:-1]
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return without_secrets(said.encode(), [*self._passwords, self._new_password or ""]).decode()

    def _type(self, keys: bytes) -> bytes:
        self._seen.clear()  # the previous output is handled
        return keys

    def _type_secret(self, state: LoginState, secret: str) -> bytes:
        self._enter(state)
        return self._type(secret.encode() + ENTER)

    def _enter(self, state: LoginState) -> None:
        if state not in _NEXT[self.state]:
            raise AssertionError(f"a login cannot go from {self.state} to {state}")
        self.state = state
