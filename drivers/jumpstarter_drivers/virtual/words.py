"""A command line in words, as a shell splits it: quotes, variables, `$(...)`, comments and what joins commands.

The virtual board's shell and its boot loader read their lines with it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["UnterminatedError", "Word", "commands", "expanded", "split"]

_OPERATORS = ("&&", "||", ";", "&", "\n")
_VARIABLE = re.compile(r"\$(\?|\w+|\{\w+(?:-\w*)?\})")


class UnterminatedError(ValueError):
    """A quote or a parenthesis has no end."""


class _Kind(enum.Enum):
    LITERAL = "as it is"
    EXPANDED = "with variables"
    COMMAND = "what a command prints"


@dataclass(frozen=True)
class Word:
    """A word before it is expanded."""

    parts: tuple[tuple[str, _Kind], ...]

    def expand(self, variable: Callable[[str], str], run: Callable[[str], str]) -> str:
        """The word itself; `variable` has the values (of what stands between braces), `run` what a command prints."""
        expanded = []
        for text, kind in self.parts:
            if kind is _Kind.EXPANDED:
                expanded.append(_VARIABLE.sub(lambda found: variable(found[1].strip("{}")), text))
            elif kind is _Kind.COMMAND:
                expanded.append(run(text).rstrip("\n"))
            else:
                expanded.append(text)
        return "".join(expanded)

    @property
    def may_vanish(self) -> bool:
        """Whether it is no word when it expands to nothing: nothing of it was written as it is, or in quotes."""
        return all(kind is not _Kind.LITERAL for _, kind in self.parts)


def expanded(words: list[Word], variable: Callable[[str], str], run: Callable[[str], str]) -> list[str]:
    """A command's words, expanded; those that vanish are left out."""
    texts = [(word, word.expand(variable, run)) for word in words]
    return [text for word, text in texts if text or not word.may_vanish]


def commands(line: str) -> Iterator[tuple[str, list[Word]]]:
    """The commands of a line, each with what stands in front of it: `;`, `&&` or `||`.

    Raises:
        UnterminatedError: a quote is open at the line's end.
    """
    joint = ";"
    words: list[Word] = []
    for word in [*split(line), ";"]:
        if isinstance(word, Word):
            words.append(word)
            continue
        if words:
            yield joint, words
        joint, words = word if word in ("&&", "||") else ";", []


def split(line: str) -> list[Word | str]:
    """Words, and operators as they are."""
    found: list[Word | str] = []
    parts: list[tuple[str, _Kind]] = []
    at = 0
    while at < len(line):
        char = line[at]
        operator = next((known for known in _OPERATORS if line.startswith(known, at)), "")
        if operator or char.isspace() or (char == "#" and not parts):
            if parts:
                found.append(Word(tuple(parts)))
                parts = []
            if operator:
                found.append(operator)
            elif char == "#":
                at = len(line) if "\n" not in line[at:] else line.index("\n", at)
                continue
            at += len(operator) or 1
        elif char == "'":
            end = _end(line, "'", at + 1)
            parts.append((line[at + 1 : end], _Kind.LITERAL))
            at = end + 1
        elif char == '"':
            parts.append(("", _Kind.LITERAL))
            at += 1
            while at < len(line) and line[at] != '"':
                at = _piece(line, at, parts, '"$\\')
            if at == len(line):
                raise UnterminatedError(line)
            at += 1
        else:
            at = _piece(line, at, parts, " \t\r\n'\"$\\;&|#")
    if parts:
        found.append(Word(tuple(parts)))
    return found


def _piece(line: str, at: int, parts: list[tuple[str, _Kind]], stops: str) -> int:
    """Take one piece of a word that is not in single quotes; where the next one begins."""
    if line[at] == "\\":
        parts.append((line[at + 1 : at + 2], _Kind.LITERAL))
        return min(at + 2, len(line))
    if line.startswith("$(", at):
        end = _closing(line, at + 2)
        parts.append((line[at + 2 : end], _Kind.COMMAND))
        return end + 1
    if variable := _VARIABLE.match(line, at):
        parts.append((variable[0], _Kind.EXPANDED))
        return variable.end()
    end = at + 1
    while end < len(line) and line[end] not in stops:
        end += 1
    parts.append((line[at:end], _Kind.LITERAL))
    return end


def _closing(line: str, at: int) -> int:
    while at < len(line) and line[at] != ")":
        at = _end(line, line[at], at + 1) + 1 if line[at] in "'\"" else at + 1
    if at >= len(line):
        raise UnterminatedError(line)
    return at


def _end(line: str, quote: str, at: int) -> int:
    end = line.find(quote, at)
    if end < 0:
        raise UnterminatedError(line)
    return end
