"""The known name that somebody who mistyped a name probably meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["most_similar"]

MIN_BEGINNING = 3
"""A shorter beginning says nothing: too many names begin like that."""


def most_similar(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the only known name that begins with this one, or else the most similar one; empty without any.

    `cutoff` is how similar it must be, from 0 to 1.
    """
    import difflib  # noqa: PLC0415 - only after a mistake

    names = list(dict.fromkeys(known))
    longer = [one for one in names if one.startswith(name)] if len(name) >= MIN_BEGINNING else []
    if len(longer) == 1:
        return longer[0]
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=cutoff)), "")
