"""Logging in over a console in whatever state it is, as a machine without input, output or clock.

    LISTENING --login prompt--> NAMED --password prompt--> PASSWORD_GIVEN --"Current password"--> CURRENT_GIVEN
        |                         |                             |   |                                  |
        |                         |                             |   +-------"New password"--> NEW_GIVEN/CONFIRMED
        +-- anything else ------> PROBING <-- shell prompt -----+-- shell prompt or silence ----------+
                                     |
                                     +-- the probe's answer --> LOGGED_IN

Every prompt is acted on once it is the last thing on the console, and escape sequences are no part of it. Words such as
"Permission denied" decide nothing: any program may print them; what decides is the prompt that follows.

A shell is known by what it does, not by its prompt: the probe is an `echo` whose answer differs from what was typed,
and which only a shell that has `eval` runs; a boot loader answers with its `version`. While a boot loader runs nothing
is typed, since any key stops it; should that have happened all the same, it is told to boot.
"""

from __future__ import annotations

import enum
import re

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.command import at_login
from jumpstarter_client.console.escapes import EscapeFilter
from jumpstarter_client.console.kernel import REBOOT, RESTART, interruptible, without_messages
from jumpstarter_client.console.matcher import plain, without_secrets
from jumpstarter_client.console.prompts import (
    LoaderPrompt,
    PasswordPrompt,
    is_loader_banner,
    is_prompt,
    password_prompt,
)

__all__ = ["Login", "LoginRefused", "LoginState", "Probe", "ShellProbe"]

ENTER = b"\r"
CTRL_C = b"\x03"
_KEEP = 4096
_QUIET = 0.3
"""Seconds without output after which a console waits for input."""
_BETWEEN = 2.0
"""The same while a board may be booting."""
_SLOW = 5.0
"""The same while a program may be starting: login checks passwords slowly on purpose."""
_LOADING = 10.0
"""The same for a boot loader."""
_LOADER_PROMPT = 1.0
"""The same where a boot loader seems to have stopped at its prompt."""
_TRIES = 3

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
    """The board does not take the user name or the password."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


class LoginState(enum.Enum):
    """What was typed last, and so what its answer means."""

    LISTENING = "no prompt has come"
    NAMED = "the board was given the user name"
    PASSWORD_GIVEN = "the board was given the password"  # noqa: S105 - not a password
    CURRENT_GIVEN = "the board was given the current password, to change it"
    NEW_GIVEN = "the board was given the new password"
    CONFIRMED = "the board was given the new password twice"
    PROBING = "the board was asked whether a shell is there"
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
    """An `echo` that tells a shell or boot loader from everything else that echoes."""

    def __init__(self, token: str) -> None:
        self.typed = f" echo 'JS''{token}?'".encode() + ENTER
        self.answer = re.compile(interruptible(f"JS{token}?".encode()))
        """What to expect."""

    def answered(self, data: bytes | bytearray) -> bool:
        """Whether its answer is in what the console printed."""
        return self.answer.search(data) is not None


class ShellProbe(Probe):
    """The same for a POSIX shell alone: a boot loader, which has no `eval`, says its version instead."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.typed = f" eval : && echo 'JS''{token}?' || version".encode() + ENTER


class Login:
    """A login from whatever is on the console to a shell that answers.

    `new_password` is for a board that wants another one; a board that has it already, from an earlier login, is logged
    in with it. `loader_prompt` is what the board's boot loader prompts with, if it is an unusual one.
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
        """Those to try, in order; the first one is the one that counts now."""
        self._new_password = new_password
        self._loader_prompt = LoaderPrompt(loader_prompt)
        self._probe = ShellProbe(token)
        self._filter = EscapeFilter()
        self._seen = bytearray()
        """Bare text since something was typed."""
        self._in_loader = False
        self._refusal = ""
        """What sounded like a refusal, since the name was given."""
        self._must_change = ""
        """What sounded like a demand for another password."""
        self._names = 0
        self._pokes = 0

    @property
    def patience(self) -> float:
        """Seconds without output after which `silence` is to be called."""
        line = self._last_line()
        if self._in_loader:
            return _LOADER_PROMPT if self._loader_prompt.likely(line) else _LOADING
        if self.state is not LoginState.PROBING and is_prompt(line):
            return _QUIET
        if self.state is not LoginState.LISTENING:
            return _SLOW
        return _BETWEEN if self._answered else min(_QUIET * 2**self._pokes, _SLOW)

    def feed(self, data: bytes) -> bytes:
        """The console printed this; the answer is what to type, if anything.

        Raises:
            LoginRefused: the user name or the password is wrong, a password or a new one is needed, or the board stands
                at its boot loader's prompt.
        """
        self._seen += self._filter.feed(data)
        del self._seen[:-_KEEP]
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
        if asked := password_prompt(line):
            return self._give_password(asked)
        if self._loader_prompt.certain(line):
            return self._leave_loader(line)
        return b""

    def silence(self) -> bytes:
        """Nothing came for `patience` seconds; the answer is what to type.

        Raises:
            LoginRefused: the board stands at its boot loader's prompt.
        """
        line = self._last_line()
        if self._in_loader and self._loader_prompt.likely(line):
            return self._leave_loader(line)
        if self.state is LoginState.LISTENING and not self._answered:
            self._pokes += 1
            return self._type(ENTER)
        if self.state is LoginState.PROBING:
            # Something else took it. Shells throw away what is typed just behind Ctrl-C, so listen first.
            self._enter(LoginState.LISTENING)
            return self._type(CTRL_C)
        self._enter(LoginState.PROBING)
        return self._type(self._probe.typed)

    @property
    def _answered(self) -> bool:
        """Whether somebody, not the kernel, said something since Enter was pressed."""
        return self._pokes > 0 and bool(without_messages(bytes(self._seen)))

    def _listen_to_words(self) -> None:
        seen = without_messages(bytes(self._seen))
        if found := _REFUSED.search(seen):
            self._refusal = plain(found[0]).strip()
        if found := _MUST_CHANGE.search(seen):
            self._must_change = plain(found[0]).strip()

    def _give_name(self) -> bytes:
        if self._refusal:
            if len(self._passwords) < 2:
                raise LoginRefused(
                    f"the board refuses to log {self._user!r} in ({self._refusal}); check the name and the password"
                )
            del self._passwords[0]  # it may have been changed before
        elif self._names == _TRIES:
            raise LoginRefused(
                f"the board asks for a user name again and again; it does not take {self._user!r}"
            )
        self._names += 1
        self._refusal = self._must_change = ""
        self._enter(LoginState.NAMED)
        return self._type(self._user.encode() + ENTER)

    def _give_password(self, asked: PasswordPrompt) -> bytes:
        self._in_loader = False
        if self.state is LoginState.PROBING:
            self._enter(LoginState.LISTENING)
        if self.state not in _LOGGING_IN:
            # Somebody else's login, half done: an empty password ends it.
            return self._type(ENTER)
        if asked is PasswordPrompt.PASSWORD and self.state is LoginState.NAMED:
            if not self._passwords:
                raise LoginRefused(f"the board asks for a password of {self._user!r}; give one")
            return self._type_secret(LoginState.PASSWORD_GIVEN, self._passwords[0])
        if asked is PasswordPrompt.PASSWORD and not self._must_change:
            raise LoginRefused(f"the board does not take the password of {self._user!r}; check it")
        return self._change_password(asked)

    def _change_password(self, asked: PasswordPrompt) -> bytes:
        if self._new_password is None:
            said = f" ({self._must_change})" if self._must_change else ""
            raise LoginRefused(
                f"the board wants a new password of {self._user!r}{said}; give `new_password`, or change it on the "
                "console once"
            )
        if self.state is LoginState.PASSWORD_GIVEN and asked in (
            PasswordPrompt.CURRENT,
            PasswordPrompt.PASSWORD,
        ):
            return self._type_secret(LoginState.CURRENT_GIVEN, self._passwords[0])
        if self.state is LoginState.NEW_GIVEN and asked is PasswordPrompt.AGAIN:
            self._passwords = [self._new_password]
            return self._type_secret(LoginState.CONFIRMED, self._new_password)
        if asked is PasswordPrompt.NEW and self.state in (
            LoginState.NAMED,
            LoginState.PASSWORD_GIVEN,
            LoginState.CURRENT_GIVEN,
        ):
            return self._type_secret(LoginState.NEW_GIVEN, self._new_password)
        said = f" ({words})" if (words := self._line_before()) else ""
        raise LoginRefused(
            f"the board does not take the new password of {self._user!r}{said}; choose another one"
        )

    def _leave_loader(self, line: str) -> bytes:
        if not (self._in_loader and self._pokes):
            raise self._at_loader(line)
        return self._type(b"boot" + ENTER)  # a key of ours has stopped it

    def _at_loader(self, line: str) -> LoginRefused:
        return LoginRefused(
            f"the board stands at its boot loader's prompt {line.strip()!r}; let it `boot` first, or power-cycle it"
        )

    def _follow_boot(self) -> None:
        starts = [found.end() for sign in (REBOOT, _COUNTDOWN) for found in sign.finditer(self._seen)]
        runs = [found.end() for sign in (_KERNEL_RUNS, RESTART) for found in sign.finditer(self._seen)]
        if starts or runs:
            self._in_loader = max(starts, default=0) > max(runs, default=0)

    def _last_line(self) -> str:
        return plain(without_messages(bytes(self._seen))).rpartition("\n")[2]

    def _line_before(self) -> str:
        """What the board said in front of the prompt, without secrets."""
        lines = plain(without_messages(bytes(self._seen))).split("\n")[:-1]
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return without_secrets(said.encode(), [*self._passwords, self._new_password or ""]).decode()

    def _type(self, keys: bytes) -> bytes:
        self._seen.clear()  # what was there has been answered
        return keys

    def _type_secret(self, state: LoginState, secret: str) -> bytes:
        self._enter(state)
        return self._type(secret.encode() + ENTER)

    def _enter(self, state: LoginState) -> None:
        if state not in _NEXT[self.state]:
            raise AssertionError(f"a login cannot go from {self.state} to {state}")
        self.state = state
