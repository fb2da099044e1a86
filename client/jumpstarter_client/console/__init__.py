"""Talking to a board over its console: wait for text, log in, run commands.

`Expect` works on any trio byte stream, `Shell` on an `Expect`, and `ConsoleSession` offers both to plain code and to
trio tasks alike; a serial client's `console()` opens one. What they decide is decided by parts without input, output
or clock: `Matcher`, `Login` and `Command`.
"""

from __future__ import annotations

from jumpstarter_client.console.expect import ConsoleClosed, Expect, ExpectTimeout
from jumpstarter_client.console.matcher import Match, Matcher, Pattern

__all__ = ["ConsoleClosed", "Expect", "ExpectTimeout", "Match", "Matcher", "Pattern"]
