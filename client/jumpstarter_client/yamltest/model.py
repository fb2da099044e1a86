"""What a test file says, checked as far as that goes without a board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jumpstarter_proto.documents import Document, PathInFile

from jumpstarter_client.yamltest.steps import Step

__all__ = ["BoardTest", "Call", "Group", "Item", "Requires", "calls"]


@dataclass(frozen=True)
class Requires:
    """What hardware must have for the test to make sense on it."""

    interfaces: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    """All of one device or of the exporter."""


@dataclass(frozen=True, eq=False)
class Item:
    """Something to do, once or again."""

    place: PathInFile
    title: str
    retries: int
    """How often to try again when it fails."""
    delay: float
    """Seconds between tries."""


@dataclass(frozen=True, eq=False)
class Call(Item):
    """One step."""

    step: Step
    given: Any
    """Its value in the file, with references to variables."""
    device: str | None
    seconds: float
    """For one try."""
    capture: str | None
    """The variable that keeps the result."""


@dataclass(frozen=True, eq=False)
class Group(Item):
    """Steps that are tried again together."""

    steps: tuple[Item, ...]


@dataclass(frozen=True)
class BoardTest:
    """One file."""

    document: Document
    name: str
    description: str
    board: str | None
    requires: Requires
    variables: dict[str, Any]
    seconds: float | None
    """For all steps together, without those of `always`."""
    steps: tuple[Item, ...]
    always: tuple[Item, ...]


def calls(items: tuple[Item, ...]) -> Iterator[Call]:
    """Every step in there, groups opened, in order."""
    for item in items:
        if isinstance(item, Group):
            yield from calls(item.steps)
        elif isinstance(item, Call):
            yield item
