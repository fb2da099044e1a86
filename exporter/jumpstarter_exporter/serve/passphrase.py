"""The passphrase of an exporter that listens on the network: an interceptor of every call."""

from __future__ import annotations

import hmac
import logging
import math
import os
from pathlib import Path
from typing import Any

import trio
from jumpstarter_proto.call_metadata import PASSPHRASE
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import (
    Attempts,
    Interceptor,
    LimitedLog,
    RpcError,
    ServerCall,
    StatusCode,
    network_of,
)

__all__ = [
    "VARIABLE",
    "PassphraseError",
    "let_everybody_in",
    "read_passphrase",
    "require_passphrase",
]

VARIABLE = "JMP_GRPC_PASSPHRASE"
INVALID = "invalid or missing passphrase"
_log = logging.getLogger(__name__)


class PassphraseError(JumpstarterError):
    """The configured passphrase cannot be read or is invalid."""

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
    """An interceptor that refuses every call without it, of any kind, before its handler hears of it.

    An address has ten wrong guesses in any minute; a call without one is no guess. After those it is refused with the
    right one, too, on connections where nobody has given it before: the answer must not tell. See `Attempts` for what
    guesses from other addresses change about that: nothing for one that has not guessed wrong.
    """
    wanted = passphrase.encode()
    attempts = Attempts()
    refusals = LimitedLog(_log)

    async def check(call: ServerCall[Any, Any]) -> None:
        given = (call.header(PASSPHRASE) or "").encode()
        is_right = hmac.compare_digest(given, wanted)
        if is_right and call.is_authenticated:
            return
        if not given:
            refusals.write(f"refused: no passphrase from {call.peer}")
            raise _refused()
        peer, now = network_of(call.peer), trio.current_time()
        if wait := attempts.take(peer, now):
            refusals.write(f"refused: too many wrong passphrases from {call.peer}")
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED, f"too many wrong passphrases; try again in {math.ceil(wait)} s"
            )
        if not is_right:
            refusals.write(f"refused: wrong passphrase from {call.peer}")
            raise _refused()
        attempts.give_back(peer, now)
        call.set_authenticated()

    return check


async def let_everybody_in(call: ServerCall[Any, Any]) -> None:
    """An interceptor for an exporter without a passphrase: every caller is trusted."""
    call.set_authenticated()


def _refused() -> RpcError:
    from jumpstarter_proto.remote import ReasonCode, refused  # noqa: PLC0415 - only who listens on a network needs it

    return refused(StatusCode.UNAUTHENTICATED, INVALID, ReasonCode.BAD_PASSPHRASE)
