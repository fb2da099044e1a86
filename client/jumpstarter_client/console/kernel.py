"""Kernel messages (printk) on a console. They may appear at any time, also inside a line of a program.

They are recognised by the time stamp of `CONFIG_PRINTK_TIME`, which all distributions set:
`[   12.345678] usb 1-1: new device`. Without it they cannot be distinguished from other output.
"""

from __future__ import annotations

import re

from jumpstarter_client.console.escapes import SEQUENCE

__all__ = [
    "LOADER",
    "MESSAGE",
    "REBOOT",
    "RESTART",
    "interleaved_pattern",
    "strip_printk",
    "without_messages",
]

_STAMP = rb"\[ *\d+\.\d{6}\]"
MESSAGE = rb"(?:\r*\n)?" + _STAMP + rb"[^\r\n]*\r*\n"
"""A whole message, for use in other expressions; it may start with a line end."""

# Programs print logs with such time stamps, too, after a blank or a colon; those are not kernel messages.
_BREAKING_IN = re.compile(rb"(?:^|(?<=\r)|(?<=[^\s:]))" + _STAMP + rb"[^\r\n]*(?:\r*\n|$)", re.MULTILINE)
_ANYWHERE = re.compile(MESSAGE)

LOADER = rb"(?:U-Boot|barebox) +(?:[A-Z]PL )?(?:20\d\d|1\.\d)"
"""The version line of a boot loader; U-Boot had versions from 1.0 until 2008."""
REBOOT = re.compile(rb"(?:^|[\r\n])(?:" + SEQUENCE + rb")*(?:" + LOADER + rb"|NOTICE: +BL\d)")
"""The first output of a boot loader."""
RESTART = re.compile(rb"\[ +0\.000000\] +(?:Booting Linux|Linux version)")
"""The first output of a kernel. `dmesg` prints it, too."""


def interleaved_pattern(text: bytes) -> bytes:
    """Return an expression for `text` that allows kernel messages and escape sequences between its bytes."""
    between = rb"(?:" + MESSAGE + rb"|" + SEQUENCE + rb")*"
    return between.join(re.escape(bytes([byte])) for byte in text)


def without_messages(data: bytes) -> bytes:
    """Remove all messages, to find text that they interrupt."""
    return _ANYWHERE.sub(b"", data)


def strip_printk(output: bytes) -> tuple[bytes, bytes]:
    """Split output into the output of the program and the kernel messages.

    A message after a blank or a colon stays in the output.
    """
    messages = b"".join(found[0] for found in _BREAKING_IN.finditer(output))
    return _BREAKING_IN.sub(b"", output), messages
