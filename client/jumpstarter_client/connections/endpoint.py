"""Where a command connects: the order in which exporters are looked for, without looking."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.file_names import safe_name

from jumpstarter_client.errors import AddressError

__all__ = [
    "BOARD",
    "BuiltIn",
    "Tcp",
    "Unix",
    "board_of",
    "candidates",
    "choosing",
    "overriding",
    "parse_host",
    "passphrase",
    "socket_of",
]

BOARD = "x-jumpstarter-board"
"""Metadata that chooses one of several boards of a host."""
SYSTEM_SOCKET = "/run/jumpstarter/exporter.sock"


@dataclass(frozen=True)
class Unix:
    """A unix socket."""

    path: str
    asked_for: bool
    """The user named it; otherwise it is a place where a daemon may be."""

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Tcp:
    """A TCP address; with TLS unless it is insecure."""

    host: str
    port: int
    insecure: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class BuiltIn:
    """No exporter runs: start one here, for the one command."""


def candidates(host: str | None, environment: Mapping[str, str]) -> Iterator[Unix | Tcp | BuiltIn]:
    """In this order: what was asked for, JUMPSTARTER_HOST, a daemon's socket, a built-in exporter.

    What was asked for, or set, is the only one then: a user who names an exporter gets that one or an error.

    Raises:
        AddressError: the host is no address.
    """
    named = host or environment.get("JUMPSTARTER_HOST")
    if named:
        yield parse_host(named, environment)
        return
    if chosen := environment.get("JUMPSTARTER_RUNTIME_DIRECTORY"):
        yield Unix(os.path.join(chosen, "exporter.sock"), asked_for=False)
    else:
        yield Unix(SYSTEM_SOCKET, asked_for=False)
        runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        yield Unix(f"{runtime}/jumpstarter/exporter.sock", asked_for=False)
    yield BuiltIn()


def parse_host(text: str, environment: Mapping[str, str]) -> Unix | Tcp:
    """`HOST:PORT`, or the path of a socket: what has a slash in it, or is a file's name of this folder.

    Raises:
        AddressError: it is neither; says how it is written.
    """
    text = text.strip()
    if "/" in text and "://" not in text:
        return Unix(os.path.expanduser(text), asked_for=True)
    try:
        host, port = split_host_port(text)
    except AddressSyntaxError as error:
        if os.path.exists(text):
            return Unix(text, asked_for=True)
        raise AddressError(f"the exporter: {error}, or a socket's path such as /run/x.sock") from None
    insecure = any(
        environment.get(name) == "1" for name in ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")
    )
    return Tcp(host, port, insecure)


def board_of(board: str | None, environment: Mapping[str, str]) -> str | None:
    """The board that was asked for, or set; None for the only one of its host."""
    return board or environment.get("JUMPSTARTER_BOARD") or None


def socket_of(door: str, board: str | None) -> str:
    """The board's own socket beside its host's door, if there is one; else the door."""
    if board is not None:
        own = os.path.join(os.path.dirname(door), "boards", safe_name(board, ".sock"))
        if os.path.exists(own):
            return own
    return door


def choosing(board: str | None) -> list[tuple[str, str | bytes]]:
    """Metadata that chooses a board by its name, in whichever script; of none, if there is none to choose."""
    if board is None:
        return []
    if board.isascii() and board.isprintable() and board == board.strip():
        return [(BOARD, board)]
    return [(f"{BOARD}-bin", board.encode(errors="surrogateescape"))]


def passphrase(environment: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Metadata for an exporter that wants a passphrase. AddressError if no exporter can have that one."""
    secret = environment.get("JMP_GRPC_PASSPHRASE")
    if secret and not (secret.isascii() and secret.isprintable()):
        raise AddressError(
            "the passphrase in JMP_GRPC_PASSPHRASE has characters other than printable ASCII, which no exporter takes; "
            "set the one that the exporter has"
        )
    return [("x-jumpstarter-passphrase", secret)] if secret else []


def overriding(environment: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Metadata of who takes part in the lease of a board on this machine: JUMPSTARTER_OVERRIDE is "1", or "force"."""
    how = environment.get("JUMPSTARTER_OVERRIDE", "")
    if how not in ("1", "force"):
        return []
    return [("x-jumpstarter-override", "1"), *([("x-jumpstarter-force", "1")] if how == "force" else [])]
