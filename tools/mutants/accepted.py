"""Read the written reasons for mutants that no test can notice, and match them with what a run found."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.mutations import Mutation

FILE = Path("tools/mutants/accepted.toml")
KEYS = {"module", "function", "what", "why"}


class AcceptedError(Exception):
    """The file of reasons is not right."""


@dataclass(frozen=True)
class Accepted:
    """A mutant that may survive, and why."""

    module: str
    function: str
    what: str
    why: str

    def matches(self, root: Path, mutation: Mutation) -> bool:
        """Return whether this is about that mutation."""
        key = (str(mutation.path.relative_to(root)), mutation.function, mutation.what)
        return key == (self.module, self.function, self.what)


def load(root: Path) -> list[Accepted]:
    """Return the entries of a checkout's file; none if it has no such file."""
    path = root / FILE
    if not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise AcceptedError(f"{FILE}: {error}") from None
    entries = []
    for entry in content.get("accepted", []):
        if entry.keys() != KEYS or not all(isinstance(v, str) and v.strip() for v in entry.values()):
            raise AcceptedError(f"{FILE}: an entry has the texts {sorted(KEYS)}, and none is empty: {entry}")
        if not (root / entry["module"]).is_file():
            raise AcceptedError(f"{FILE}: there is no module {entry['module']}. Delete or correct the entry.")
        entries.append(Accepted(**entry))
    return entries


def outdated(
    entries: Iterable[Accepted],
    root: Path,
    modules: set[str],
    mutations: list[Mutation],
    survivors: list[Mutation],
) -> list[str]:
    """Return a sentence for each entry about one of `modules` that is not about a survivor any more."""
    sentences = []
    for entry in entries:
        if entry.module not in modules or any(entry.matches(root, one) for one in survivors):
            continue
        is_there = any(entry.matches(root, one) for one in mutations)
        reason = "a test notices it now" if is_there else "there is no such mutant any more"
        sentences.append(
            f"{FILE}: {entry.module}, {entry.function}, {entry.what}: {reason}. Delete the entry."
        )
    return sentences
