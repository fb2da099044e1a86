"""Recognises prompts of login programs, shells and boot loaders, in text without escape sequences.

Only the prompt for a user's name is found in output as it comes.
"""

from __future__ import annotations

import enum
import re

from jumpstarter_client.console.escapes import strip_escapes
from jumpstarter_client.console.kernel import LOADER, without_messages

__all__ = ["LoaderPrompt", "PasswordPrompt", "at_login", "is_loader_banner", "is_prompt", "password_prompt"]


class PasswordPrompt(enum.Enum):
    """Which password a board asks for."""

    PASSWORD = "the password"  # noqa: S105 - not a password
    CURRENT = "the current password, to change it"
    NEW = "a new password"
    AGAIN = "the new password again"


_LOGIN = re.compile(rb"(?:^|[\r\n])(?!Last login)[^\r\n]*\blogin: ?$")
_ASKS = re.compile(r"(?<!bad )password\b[^:?]{0,40}[:?] ?$", re.IGNORECASE)
_AGAIN = re.compile(r"\b(?:re-?type|re-?enter|repeat|confirm|verify)\b|\bagain\b", re.IGNORECASE)
_NEW = re.compile(r"\b(?:new|create|choose)\b", re.IGNORECASE)
_CURRENT = re.compile(r"\b(?:current|old|existing)\b", re.IGNORECASE)
_PROMPT = re.compile(r"[#$>%] ?$")
# Bars of `#` and lines such as `Loading: #` are progress, and `root@host:~#` is a shell.
_VENDOR_PROMPT = re.compile(r"^[A-Za-z][\w .()/+-]{0,40}?(?:=>|>>?|#|\$) ?$")
_USUAL_PROMPT = re.compile(r"^(?:=>|U-Boot>|barebox[@:].*[ #$>]) ?$")
_BANNER = re.compile(rb"(?:^|[\r\n])" + LOADER)


def at_login(tail: bytes | bytearray) -> bool:
    """Whether the output ends with a login prompt; kernel messages may follow the prompt."""
    return _LOGIN.search(without_messages(strip_escapes(tail))) is not None


def password_prompt(line: str) -> PasswordPrompt | None:
    """Return which password the last line of a console asks for, or None."""
    if not _ASKS.search(line):
        return None
    if _AGAIN.search(line):
        return PasswordPrompt.AGAIN
    if _CURRENT.search(line):
        return PasswordPrompt.CURRENT
    return PasswordPrompt.NEW if _NEW.search(line) else PasswordPrompt.PASSWORD


def is_prompt(line: str) -> bool:
    """Whether the line ends like a prompt of a shell or a boot loader."""
    return _PROMPT.search(line) is not None


def is_loader_banner(data: bytes | bytearray) -> bool:
    """Whether the output has the version line of a boot loader, which it prints at its start and for `version`."""
    return _BANNER.search(data) is not None


class LoaderPrompt:
    """The prompt of a boot loader: a common one, the configured one, or one that looks like a vendor's."""

    def __init__(self, given: str | None = None) -> None:
        self._given = (given or "").strip()

    def certain(self, line: str) -> bool:
        """Whether the line is certainly a prompt of a boot loader."""
        if self._given and line.strip() == self._given:
            return True
        return _USUAL_PROMPT.search(line) is not None

    def likely(self, line: str) -> bool:
        """Whether the line is a prompt if a boot loader is running."""
        return self.certain(line) or _VENDOR_PROMPT.search(line) is not None
