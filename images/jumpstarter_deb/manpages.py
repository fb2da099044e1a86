"""Make manual pages from the output of --help, so that there is one text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["page", "subcommands"]

BOX_START, BOX_END = "╭─ ", "╰"
MAX_DEPTH = 2
"""The maximum depth of subcommands: `jumpstarter power cycle` has two."""
COMMANDS = re.compile(r"(Commands|Interfaces|Verbs)\b")
Help = Callable[[tuple[str, ...]], str]
"""Returns the output of `PROGRAM WORDS --help`."""


def page(name: str, summary: str, date: str, version: str, get_help: Help) -> str:
    """The manual page, in man(7), of a program and its commands."""
    lines = [
        f'.TH {_text(name.upper())} 1 "{date}" "{_text(version)}" "Jumpstarter"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
        ".SH DESCRIPTION",
        *_body(get_help(()), ".SS"),
    ]
    for words in _walk((), get_help):
        lines += [f".SH {_text(' '.join([name, *words]).upper())}", *_body(get_help(words), ".SS")]
    return "\n".join(lines) + "\n"


def subcommands(text: str) -> list[str]:
    """The commands that a help text lists."""
    found: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(BOX_START) or re.match(r"[A-Z]\w+.*:$", line):
            inside = bool(COMMANDS.match(line.removeprefix(BOX_START)))
        elif inside and (match := re.match(r"(?:│ |  )([a-z][\w-]*)(?=\s|$)", line)):
            found.append(match[1])
    return found


def _walk(above: tuple[str, ...], get_help: Help) -> Iterator[tuple[str, ...]]:
    if len(above) < MAX_DEPTH:
        for name in subcommands(get_help(above)):
            yield (*above, name)
            yield from _walk((*above, name), get_help)


def _body(text: str, heading: str) -> Iterator[str]:
    """Convert the lines of a help text: boxes become lists of terms, indented lines do not change."""
    rows: list[str] | None = None
    for line in text.strip("\n").splitlines():
        if line.startswith(BOX_START):
            yield f"{heading} {_text(line.strip('╭─╮ '))}"
            rows = []
        elif rows is not None and line.startswith(BOX_END):
            yield from _terms(rows)
            rows = None
        elif rows is not None:
            rows.append(line.strip("│").removeprefix(" ").rstrip())
        elif not line.strip():
            yield ".PP"
        elif line.startswith(" "):
            yield from (".nf", _text(line), ".fi")
        else:
            yield _text(line)


def _terms(rows: list[str]) -> Iterator[str]:
    """Two columns: a term, and its text over one or more rows."""
    for row in rows:
        if row and not row.startswith(" "):
            term, _, rest = row.partition("  ")
            yield ".TP"
            yield f"\\fB{_text(term)}\\fR"
            if rest.strip():
                yield _text(rest.strip())
        elif row.strip():
            yield _text(row.strip())


def _text(text: str) -> str:
    """Escape text that man(7) would interpret as a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    escaped = re.sub(r"[^\0-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
