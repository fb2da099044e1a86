"""Kernel messages on a console: they come at any time, also in the middle of what a program prints.

Recognised by the time stamp of `CONFIG_PRINTK_TIME`, which all distributions set:
`[   12.345678] usb 1-1: new device`. Without it they cannot be told from a program's output.
"""

from __future__ import annotations

import re

from jumpstarter_client.console.escapes import SEQUENCE

__all__ = ["LOADER", "MESSAGE", "REBOOT", "RESTART", "interruptible", "separate", "without_messages"]

_STAMP = rb"\[ *\d+\.\d{6}\]"
MESSAGE = rb"(?:\r*\n)?" + _STAMP + rb"[^\r\n]*\r*\n"
"""One whole message, for use in other expressions; it may have begun on a new line."""

# Programs print logs with such stamps as well, behind a blank or a colon; those are theirs.
_BREAKING_IN = re.compile(rb"(?:^|(?<=\r)|(?<=[^\s:]))" + _STAMP + rb"[^\r\n]*(?:\r*\n|$)", re.MULTILINE)
_ANYWHERE = re.compile(MESSAGE)

LOADER = rb"(?:U-Boot|barebox) +(?:[A-Z]PL )?(?:20\d\d|1\.\d)"
"""How a boot loader says its version; U-Boot counted from 1.0 until 2008."""
REBOOT = re.compile(rb"(?:^|[\r\n])(?:" + SEQUENCE + rb")*(?:" + LOADER + rb"|NOTICE: +BL\d)")
"""What a boot loader prints first."""
RESTART = re.compile(rb"\[ +0\.000000\] +(?:Booting Linux|Linux version)")
"""What a kernel prints first. `dmesg` prints it too."""


def interruptible(text: bytes) -> bytes:
    """An expression for `text`, also with kernel messages or escape sequences between any two of its bytes."""
    between = rb"(?:" + MESSAGE + rb"|" + SEQUENCE + rb")*"
    return between.join(re.escape(bytes([byte])) for byte in text)


def without_messages(data: bytes) -> bytes:
    """All messages cut out wherever they are, for finding what they have broken into."""
    return _ANYWHERE.sub(b"", data)


def separate(output: bytes) -> tuple[bytes, bytes]:
    """A program's output without the messages that broke into it, and the messages.

    One that broke in behind a blank or a colon stays in the output.
    """
    messages = b"".join(found[0] for found in _BREAKING_IN.finditer(output))
    return _BREAKING_IN.sub(b"", output), messages
