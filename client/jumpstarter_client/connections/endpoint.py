"""Where a command connects: the order of the endpoints, and the metadata of connections. No I/O."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.call_metadata import BOARD, FORCE, LOOK, OVERRIDE, PASSPHRASE
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.private_runtime import is_private, temporary_runtime_folder

from jumpstarter_client.errors import AddressError

__all__ = [
    "BOARD",
    "LOOK",
    "BuiltIn",
    "Tcp",
    "Unix",
    "board_metadata",
    "board_socket",
    "candidates",
    "override_metadata",
    "parse_host",
    "passphrase_metadata",
    "selected_board",
]

SYSTEM_SOCKET = "/run/jumpstarter/exporter.sock"


@dataclass(frozen=True)
class Unix:
    """A unix socket."""

    path: str
    asked_for: bool
    """The user named it; otherwise it is a default path where a daemon may listen."""

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Tcp:
    """A TCP address, with TLS unless `insecure`, the variable that leaves it out."""

    host: str
    port: int
    insecure: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class BuiltIn:
    """No exporter is running: start one in this process for the command."""


def candidates(host: str | None, environment: Mapping[str, str]) -> Iterator[Unix | Tcp | BuiltIn]:
    """Yield the endpoints in order: the named one, JUMPSTARTER_HOST, the sockets of daemons, a built-in exporter.

    A named endpoint is the only one: a user who names an exporter gets that one or an error.

    Raises:
        AddressError: the host is not a valid address.
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
        if _is_visible(own := f"{runtime}/jumpstarter/exporter.sock"):
            yield Unix(own, asked_for=False)
        if is_private(folder := temporary_runtime_folder()):
            yield Unix(f"{folder}/exporter.sock", asked_for=False)
    yield BuiltIn()


def _is_visible(path: str) -> bool:
    """Whether this user may look there: after `su` the variable still names the folder of the previous user."""
    try:
        os.stat(path)
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def parse_host(text: str, environment: Mapping[str, str]) -> Unix | Tcp:
    """Parse `HOST:PORT` or the path of a socket (it contains a slash, or is a file in the current folder).

    gRPC's notation for sockets, `unix:/run/x.sock` or `unix:///run/x.sock`, is a path, too.

    Raises:
        AddressError: it is neither, or a configuration; the message shows the format.
    """
    text = text.strip()
    if text.endswith((".yaml", ".yml")) and (os.path.isfile(text) or not os.path.exists(text)):
        raise AddressError(
            f"{text} is a configuration, not the address of an exporter; for a built-in exporter give it as --config "
            f"{text}, in Python as connect(config={text!r})"
        )
    if text.startswith("unix:") and "/" in text:  # else it is a host of that name
        path = text.removeprefix("unix:")
        text = f"/{path.lstrip('/')}" if path.startswith("/") else path
    if "/" in text and "://" not in text:
        return Unix(os.path.expanduser(text), asked_for=True)  # ./a:80 stays so: a:80 would be a host
    try:
        host, port = split_host_port(text)
    except AddressSyntaxError as error:
        if os.path.exists(text):
            return Unix(text, asked_for=True)
        raise AddressError(f"the exporter: {error}, or a socket's path such as /run/x.sock") from None
    variables = ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")
    insecure = " and ".join(name for name in variables if environment.get(name) == "1")
    return Tcp(host, port, insecure)


def selected_board(board: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the board from the option or JUMPSTARTER_BOARD; None means the only board of the host."""
    return board or environment.get("JUMPSTARTER_BOARD") or None


def board_socket(door: str, board: str | None) -> str:
    """Return the board's own socket beside the host's main socket (`door`) if it exists; otherwise the main socket."""
    if board is not None:
        own = os.path.join(os.path.dirname(door), "boards", safe_name(board, ".sock"))
        if os.path.exists(own):
            return own
    return door


def board_metadata(board: str | None) -> list[tuple[str, str | bytes]]:
    """Return the metadata that selects a board by name; names that are not ASCII go as binary metadata."""
    if board is None:
        return []
    if board.isascii() and board.isprintable() and board == board.strip():
        return [(BOARD, board)]
    return [(f"{BOARD}-bin", board.encode(errors="surrogateescape"))]


def passphrase_metadata(environment: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Return the metadata for an exporter with a passphrase. AddressError if the passphrase is invalid."""
    secret = environment.get("JMP_GRPC_PASSPHRASE")
    if secret and not (secret.isascii() and secret.isprintable()):
        raise AddressError(
            "the passphrase in JMP_GRPC_PASSPHRASE is invalid: only printable ASCII is allowed; "
            "set the passphrase of the exporter"
        )
    return [(PASSPHRASE, secret)] if secret else []


def override_metadata(environment: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Return the metadata for using a leased board of this machine: JUMPSTARTER_OVERRIDE is "1" or "force"."""
    how = environment.get("JUMPSTARTER_OVERRIDE", "")
    if how not in ("1", "force"):
        return []
    return [(OVERRIDE, "1"), *([(FORCE, "1")] if how == "force" else [])]
