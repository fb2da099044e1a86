"""Logging in over a console in whatever state it is, as a machine without input, output or clock.

    LISTENING --login prompt--> NAMED --password prompt--> PASSWORD_GIVEN
        |                         |                             |
        +-- anything else ------> PROBING <-- shell prompt -----+
                                     |
                                     +-- the probe's answer --> LOGGED_IN

Every prompt is acted on once it is the last thing on the console. A shell is known by what it does, not by its
prompt: the probe is an `echo` whose answer differs from what was typed. While a boot loader runs nothing is typed,
since any key stops it; should that have happened all the same, it is told to boot.
"""

from __future__ import annotations

import enum
import re

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.command import at_login
from jumpstarter_client.console.kernel import REBOOT, RESTART, interruptible, without_messages
from jumpstarter_client.console.matcher import plain

__all__ = ["Login", "LoginRefused", "LoginState", "Probe"]

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
_TRIES = 3

_PASSWORD = re.compile(r"[Pp]assword(?: for \S+)?: ?$")
_REFUSED = re.compile(rb"Login incorrect|Authentication failure|Permission denied|Login timed out")
_PROMPT = re.compile(r"[#$>%] ?$")
_LOADER_PROMPT = re.compile(r"^(?:=>|U-Boot>) ?$")
_KERNEL_RUNS = re.compile(rb"Starting kernel|Booting Linux|Linux version")


class LoginRefused(JumpstarterError):  # noqa: N818 - says what happened
    """The board does not take the user name or the password."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


class LoginState(enum.Enum):
    """What was typed last, and so what its answer means."""

    LISTENING = "no prompt has come"
    NAMED = "the board was given the user name"
    PASSWORD_GIVEN = "the board was given the password"  # noqa: S105 - not a password
    PROBING = "the board was asked whether a shell is there"
    LOGGED_IN = "a shell answers"


_NEXT: dict[LoginState, frozenset[LoginState]] = {
    LoginState.LISTENING: frozenset({LoginState.NAMED, LoginState.PROBING}),
    LoginState.NAMED: frozenset({LoginState.NAMED, LoginState.PASSWORD_GIVEN, LoginState.PROBING}),
    LoginState.PASSWORD_GIVEN: frozenset({LoginState.NAMED, LoginState.PROBING}),
    LoginState.PROBING: frozenset(
        {LoginState.LISTENING, LoginState.NAMED, LoginState.PROBING, LoginState.LOGGED_IN}
    ),
    LoginState.LOGGED_IN: frozenset(),
}


class Probe:
    """An `echo` that tells a shell from everything else that echoes."""

    def __init__(self, token: str) -> None:
        self.typed = f" echo 'JS''{token}?'".encode() + ENTER
        self.answer = re.compile(interruptible(f"JS{token}?".encode()))
        """What to expect."""

    def answered(self, data: bytes | bytearray) -> bool:
        """Whether its answer is in what the console printed."""
        return self.answer.search(data) is not None


class Login:
    """A login from whatever is on the console to a shell that answers."""

    def __init__(self, user: str, password: str | None, token: str) -> None:
        self.state = LoginState.LISTENING
        self._user = user
        self._password = password
        self._probe = Probe(token)
        self._seen = bytearray()
        self._in_loader = False
        self._names = 0
        self._pokes = 0

    @property
    def patience(self) -> float:
        """Seconds without output after which `silence` is to be called."""
        if self._in_loader:
            return _LOADING
        if self.state is not LoginState.PROBING and _PROMPT.search(self._last_line()):
            return _QUIET
        if self.state is not LoginState.LISTENING:
            return _SLOW
        return _BETWEEN if self._answered else min(_QUIET * 2**self._pokes, _SLOW)

    def feed(self, data: bytes) -> bytes:
        """The console printed this; the answer is what to type, if anything.

        Raises:
            LoginRefused: the user name or the password is wrong, or a password is needed.
        """
        self._seen += data
        del self._seen[:-_KEEP]
        self._follow_boot()
        if self.state is LoginState.PROBING and self._probe.answered(self._seen):
            self._enter(LoginState.LOGGED_IN)
            return b""
        if self.state in (LoginState.NAMED, LoginState.PASSWORD_GIVEN) and _REFUSED.search(self._seen):
            raise LoginRefused(f"the board refuses to log {self._user!r} in; check the name and the password")
        if at_login(self._seen):
            self._in_loader = False
            return self._give_name()
        line = self._last_line()
        if _PASSWORD.search(line):
            return self._give_password()
        if _LOADER_PROMPT.search(line):
            if self._in_loader and self._pokes:
                return self._type(b"boot" + ENTER)  # a key of ours has stopped it
            if not self._in_loader:
                raise LoginRefused("the board stands at its boot loader's prompt; let it `boot` first")
        return b""

    def silence(self) -> bytes:
        """Nothing came for `patience` seconds; the answer is what to type."""
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

    def _give_name(self) -> bytes:
        if self._names == _TRIES:
            raise LoginRefused(
                f"the board asks for a user name again and again; it does not take {self._user!r}"
            )
        self._names += 1
        self._enter(LoginState.NAMED)
        return self._type(self._user.encode() + ENTER)

    def _give_password(self) -> bytes:
        self._in_loader = False
        match self.state:
            case LoginState.NAMED if self._password is None:
                raise LoginRefused(f"the board asks for a password of {self._user!r}; give one")
            case LoginState.NAMED if self._password is not None:
                self._enter(LoginState.PASSWORD_GIVEN)
                return self._type(self._password.encode() + ENTER)
            case LoginState.PASSWORD_GIVEN:
                raise LoginRefused(f"the board does not take the password of {self._user!r}; check it")
            case LoginState.PROBING:
                self._enter(LoginState.LISTENING)
        # Somebody else's login, half done: an empty password ends it.
        return self._type(ENTER)

    def _follow_boot(self) -> None:
        starts = [found.end() for found in REBOOT.finditer(self._seen)]
        runs = [found.end() for found in _KERNEL_RUNS.finditer(self._seen)]
        runs += [found.end() for found in RESTART.finditer(self._seen)]
        if starts or runs:
            self._in_loader = max(starts, default=0) > max(runs, default=0)

    def _last_line(self) -> str:
        return plain(without_messages(bytes(self._seen))).rpartition("\n")[2]

    def _type(self, keys: bytes) -> bytes:
        self._seen.clear()  # what was there has been answered
        return keys

    def _enter(self, state: LoginState) -> None:
        if state not in _NEXT[self.state]:
            raise AssertionError(f"a login cannot go from {self.state} to {state}")
        self.state = state
