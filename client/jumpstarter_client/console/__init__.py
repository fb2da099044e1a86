"""Use a board over its console: wait for text, log in, run commands.

`Expect` works on any trio byte stream, `Shell` on an `Expect`, and `ConsoleSession` offers both to plain code and to
trio tasks alike; a serial client's `console()` opens one. Their
logic is in classes without I/O or clock: `Matcher`, `LoginMachine` and `Command`.
"""

from __future__ import annotations

from jumpstarter_client.console.command import CommandFailed, CommandTooLong, Result
from jumpstarter_client.console.expect import ConsoleClosed, ConsoleError, Expect, ExpectTimeout
from jumpstarter_client.console.login import LoginRefused
from jumpstarter_client.console.matcher import Match, Matcher, Pattern
from jumpstarter_client.console.session import ConsoleSession
from jumpstarter_client.console.shell import BoardRebooted, CommandTimeout, LoginTimeout, Shell, ShellLost

__all__ = [
    "BoardRebooted",
    "CommandFailed",
    "CommandTimeout",
    "CommandTooLong",
    "ConsoleClosed",
    "ConsoleError",
    "ConsoleSession",
    "Expect",
    "ExpectTimeout",
    "LoginRefused",
    "LoginTimeout",
    "Match",
    "Matcher",
    "Pattern",
    "Result",
    "Shell",
    "ShellLost",
]
