"""The passphrase of an exporter that listens on the network: an interceptor in front of every call."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import Interceptor, RpcError, ServerCall, StatusCode

__all__ = ["HEADER", "VARIABLE", "PassphraseError", "read_passphrase", "require_passphrase"]

HEADER = "x-jumpstarter-passphrase"
VARIABLE = "JMP_GRPC_PASSPHRASE"


class PassphraseError(JumpstarterError):
    """The passphrase to ask for cannot be had."""

    exit_code = ExitCode.USAGE


def read_passphrase(file: Path | None) -> str | None:
    """From the file's first line, or the environment; never from a command line, which everybody can read.

    Raises:
        PassphraseError: the file cannot be read, or what it holds is no passphrase.
    """
    if file is None:
        return _checked(os.environ[VARIABLE], f"${VARIABLE}") if VARIABLE in os.environ else None
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise PassphraseError(
            f"the passphrase file {file} cannot be read: {reason}; check the path"
        ) from None
    return _checked(text.partition("\n")[0].rstrip("\r"), str(file))


def _checked(text: str, where: str) -> str:
    if not text:
        raise PassphraseError(
            f"the passphrase in {where} is empty; put one there, or leave it out altogether"
        )
    if not all(" " <= character <= "~" for character in text) or text != text.strip():
        raise PassphraseError(
            f"the passphrase in {where} does not fit into a header; use ASCII, without spaces at its ends"
        )
    return text


def require_passphrase(passphrase: str) -> Interceptor:
    """An interceptor that refuses every call without it, of any kind, before its handler hears of it."""
    wanted = passphrase.encode()

    async def check(call: ServerCall[Any, Any]) -> None:
        given = (call.header(HEADER) or "").encode()
        if not hmac.compare_digest(given, wanted):
            raise RpcError(StatusCode.UNAUTHENTICATED, "invalid or missing passphrase")

    return check
