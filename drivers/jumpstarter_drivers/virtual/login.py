"""The login program of the virtual board: names and passwords in, what it prints out, no I/O or clock."""

from __future__ import annotations

import enum

__all__ = ["LoginProgram"]

_MIN_PASSWORD_LENGTH = 6
_FORCED = "You are required to change your password immediately (administrator enforced).\n"


class _Asks(enum.Enum):
    NAME = "login: "
    PASSWORD = "Password: "  # noqa: S105 - what is asked
    CURRENT = "Current password: "
    NEW = "New password: "
    AGAIN = "Retype new password: "


class LoginProgram:
    """It knows root alone, with a password or without, which may have to be changed at the first login."""

    def __init__(self, hostname: str, *, password: str = "", must_change: bool = False) -> None:
        self._hostname = hostname
        self._password = password
        self._must_change = must_change
        self._asks = _Asks.NAME
        self._is_root = False
        self._new = ""

    def begin(self) -> str:
        """Ask for the name; the prompt."""
        self._asks = _Asks.NAME
        return f"{self._hostname} login: "

    @property
    def is_secret(self) -> bool:
        """Whether what is typed now is not echoed."""
        return self._asks is not _Asks.NAME

    def entered(self, line: str) -> tuple[str, bool]:
        """A line was typed: what is printed, with LF, and whether that is a login."""
        if self._asks is _Asks.NAME:
            self._is_root = line.strip() == "root"
        match self._asks:
            case _Asks.NAME if not line.strip():
                return self.begin(), False
            case _Asks.NAME if self._password:
                return self._ask(_Asks.PASSWORD), False
            case _Asks.NAME if self._is_root:
                return "", True
            case _Asks.NAME:
                knows = "Login incorrect (this board knows only root, without a password)\n"
                return knows + self.begin(), False
            case _Asks.PASSWORD if line != self._password or not self._is_root:
                return "\nLogin incorrect\n" + self.begin(), False
            case _Asks.PASSWORD if self._must_change:
                return f"{_FORCED}Changing password for root.\n" + self._ask(_Asks.CURRENT), False
            case _Asks.PASSWORD:
                return "", True
            case _Asks.CURRENT if line != self._password:
                return "passwd: Authentication token manipulation error\n" + self.begin(), False
            case _Asks.CURRENT:
                return self._ask(_Asks.NEW), False
            case _Asks.NEW if len(line) < _MIN_PASSWORD_LENGTH or line == self._password:
                return "BAD PASSWORD: it is too short, or the same\n" + self._ask(_Asks.NEW), False
            case _Asks.NEW:
                return self._ask(_Asks.AGAIN, line), False
            case _:
                if line != self._new:
                    return "Sorry, passwords do not match.\n" + self._ask(_Asks.NEW), False
                self._password, self._must_change = line, False
                return "passwd: password updated successfully\n", True

    def _ask(self, what: _Asks, new: str = "") -> str:
        self._asks, self._new = what, new
        return what.value
