"""Errors of the command line. They are apart from `errors`, which loads gRPC: `--help` does not need it."""

from __future__ import annotations

from collections.abc import Iterable

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.similar_names import most_similar
from jumpstarter_proto.texts import shown

__all__ = ["UnknownDeviceError", "UsageError", "nearest"]


class UsageError(JumpstarterError):
    """The command line is invalid."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class UnknownDeviceError(JumpstarterError):
    """No device has that name."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


def nearest(word: str, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """Return `; did you mean …` and the list of known words, for the end of an error.

    Words in `also` may be guessed, but are not listed.
    """
    names = sorted(known)
    close = most_similar(word, [*also, *names])
    guess = f"; did you mean {close!r}" if close else ""
    return f"{guess}; there is {', '.join(map(shown, names))}" if names else guess
