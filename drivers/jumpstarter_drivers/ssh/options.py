"""Command lines of OpenSSH's client: what the user types, and what an exporter may add to it.

An exporter is not trusted: its `ssh_command` must not start programs on the user's machine, and many options of ssh
could. So only options that set up the connection are taken from it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = ["allowed_options", "check_host_key", "check_username", "is_host", "split_arguments"]

_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
"""Letters of ssh(1) that take a value."""

_ALLOWED = {
    name.lower(): name
    for name in (
        "AddressFamily",
        "CASignatureAlgorithms",
        "Ciphers",
        "Compression",
        "ConnectionAttempts",
        "ConnectTimeout",
        "HostbasedAcceptedAlgorithms",
        "HostKeyAlgorithms",
        "KbdInteractiveAuthentication",
        "KexAlgorithms",
        "LogLevel",
        "MACs",
        "NumberOfPasswordPrompts",
        "PasswordAuthentication",
        "PreferredAuthentications",
        "PubkeyAcceptedAlgorithms",
        "PubkeyAcceptedKeyTypes",
        "PubkeyAuthentication",
        "RekeyLimit",
        "RequiredRSASize",
        "ServerAliveCountMax",
        "ServerAliveInterval",
        "TCPKeepAlive",
    )
}
_REPLACED = frozenset({"stricthostkeychecking", "userknownhostsfile"})
"""Options in Jumpstarter 0.9's default command. The client checks host keys in its own way."""
_VALUE = re.compile(r"[\w@.,:+*^-]{1,1000}", re.ASCII)
_HOST_KEY = re.compile(r"[a-z0-9@.-]{1,100} [A-Za-z0-9+/]{16,8000}={0,2}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%-]{0,252}", re.ASCII)
_USERNAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,200}", re.ASCII)


def split_arguments(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what follows `ssh` on a command line without a host into options and the command for the board."""
    index = 0
    while index < len(words) and len(words[index]) > 1 and words[index].startswith("-"):
        word = words[index]
        index += 1
        if word == "--":
            return list(words[: index - 1]), list(words[index:])
        for place, letter in enumerate(word[1:], 2):
            if letter in _WITH_VALUE:
                if place == len(word):  # the value is the next word
                    index += 1
                break
    return list(words[:index]), list(words[index:])


def allowed_options(command: str) -> tuple[list[str], list[str]]:
    """Return the arguments for ssh from an exporter's `ssh_command`, and those that are not used.

    Raises:
        ValueError: it has a quote that is not closed.
    """
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        raise ValueError("ssh_command has a quote that is not closed; close it") from None
    used: list[str] = []
    unused: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        given = word[2:] if word.startswith("-o") else ""
        if word == "-o" and index < len(words):
            given = words[index]
            index += 1
        name, separator, value = given.partition("=") if "=" in given else given.partition(" ")
        name, value = name.strip().lower(), value.strip()
        if name in _REPLACED:
            continue
        if separator and name in _ALLOWED and _VALUE.fullmatch(value):
            used.append(f"-o{_ALLOWED[name]}={value}")
        else:
            unused.append(f"-o {given}" if given else word)
    return used, unused


def check_username(name: str) -> str:
    """Return the name, which may be empty. ValueError if it is no user's name."""
    if name and not _USERNAME.fullmatch(name):
        raise ValueError(
            f"default_username is {name!r}; it takes letters, digits and _ . @ + -, and begins with none of @ + -"
        )
    return name


def is_host(name: str) -> bool:
    """Whether it is a host's name or address. A ProxyCommand of the user has it in a shell's words."""
    return _HOST.fullmatch(name) is not None


def check_host_key(key: str) -> str:
    """Return type and key, without the comment. ValueError if it is no public key."""
    shortened = " ".join(key.split()[:2])
    if not _HOST_KEY.fullmatch(shortened):
        raise ValueError(
            f"host_keys has {key[:80]!r}; it takes public keys such as 'ssh-ed25519 AAAA…', which the board has in "
            "/etc/ssh/ssh_host_*_key.pub"
        )
    return shortened
