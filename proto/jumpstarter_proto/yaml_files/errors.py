"""What is wrong in a file that somebody wrote, where, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.similar_names import most_similar
from jumpstarter_proto.texts import shown

__all__ = [
    "ConfigError",
    "FieldError",
    "Mistakes",
    "NoFileError",
    "PathInFile",
    "Place",
    "SeveralMistakesError",
    "dotted",
    "mistakes_of",
    "nearest",
]

PathInFile: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the top of a file."""
Place: TypeAlias = tuple[int, int]
"""Line and column, from 1."""
CUTOFF = 0.51
"""How similar a name must be to be suggested: half of the letters are not enough, as of `kind` and `uuid`."""


class ConfigError(JumpstarterError):
    """A file cannot be used. `path`, `line` and `column` (from 1) are where, if it is at one place."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE

    def __init__(
        self, message: str, *, file: Path, path: PathInFile = (), place: Place | None = None
    ) -> None:
        where = f"{file}:{place[0]}:{place[1]}" if place else str(file)
        super().__init__(": ".join(part for part in (where, dotted(path), message) if part))
        self.message = message
        self.file = file
        self.path = path
        self.line = place[0] if place else None
        self.column = place[1] if place else None


class SeveralMistakesError(ConfigError):
    """A file has several mistakes. The message is that of the first one, and says how many there are.

    `listed_by` is the command that shows all of them.
    """

    def __init__(self, errors: Sequence[ConfigError], listed_by: str = "") -> None:
        first = errors[0]
        hint = f"; all: {listed_by}" if listed_by else ""
        JumpstarterError.__init__(self, f"{first} (the first of {len(errors)} mistakes{hint})")
        self.message, self.file, self.path = first.message, first.file, first.path
        self.line, self.column = first.line, first.column
        self.exit_code = first.exit_code
        self.errors = tuple(errors)


class Mistakes:
    """Collects the errors of the parts of a file, so that a user sees all of them at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep a ConfigError of the block, and go on behind it."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def add(self, *errors: ConfigError) -> None:
        """Keep errors, each one once."""
        found = {str(mistake): mistake for mistake in self.errors}
        for error in errors:
            for mistake in mistakes_of(error):
                found.setdefault(str(mistake), mistake)
        self.errors = list(found.values())

    def check(self, listed_by: str = "") -> None:
        """Raise the only error, or SeveralMistakesError for several, see there; nothing without any."""
        if len(self.errors) > 1:
            raise SeveralMistakesError(self.errors, listed_by)
        if self.errors:
            raise self.errors[0]


def mistakes_of(error: ConfigError) -> tuple[ConfigError, ...]:
    """The mistakes of a file, each with its place: those of `SeveralMistakesError`, or the error itself."""
    return error.errors if isinstance(error, SeveralMistakesError) else (error,)


class NoFileError(ConfigError):
    """There is no file at the path that somebody gave."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


class FieldError(ValueError):
    """What a struct finds wrong with one of its fields: `path` is the key in the file, and what is below it."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def dotted(path: PathInFile) -> str:
    """A path as people write it: `export.rpi4.config.pins[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def nearest(name: object, known: Iterable[str]) -> str:
    """What was probably meant, or all that there is; the end of a sentence about an unknown name.

    A name in a file may be anything that YAML makes of it: of `{port: 1-1,2}` it makes the key 2.
    """
    names = sorted(known)
    if close := most_similar(str(name), names, cutoff=CUTOFF):
        return f"did you mean {close!r}?"
    return f"known are {', '.join(map(shown, names))}" if names else "there are none"
