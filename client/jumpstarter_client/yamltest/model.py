"""The content of a test file, checked as far as possible without a board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jumpstarter_proto.yaml_files import Document, PathInFile

from jumpstarter_client.yamltest.steps import StepType

__all__ = ["BoardTest", "Group", "Item", "Requires", "StepCall", "calls"]


@dataclass(frozen=True)
class Requires:
    """The requirements of a test on the hardware."""

    interfaces: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    """One device, or the exporter, must have all of them."""


@dataclass(frozen=True, eq=False)
class Item:
    """A step or a group, with its retries."""

    place: PathInFile
    title: str
    retries: int
    """How many times to retry after a failure."""
    delay: float
    """Seconds between attempts."""


@dataclass(frozen=True, eq=False)
class StepCall(Item):
    """One step."""

    step: StepType
    given: Any
    """Its value in the file, with references to variables."""
    device: str | None
    seconds: float
    """The time limit for one attempt."""
    capture: str | None
    """The variable for the result."""


@dataclass(frozen=True, eq=False)
class Group(Item):
    """Steps that are retried together."""

    steps: tuple[Item, ...]


@dataclass(frozen=True)
class BoardTest:
    """A test file."""

    document: Document
    name: str
    description: str
    board: str | None
    requires: Requires
    variables: dict[str, Any]
    seconds: float | None
    """The time limit for all steps, without `always`."""
    steps: tuple[Item, ...]
    always: tuple[Item, ...]


def calls(items: tuple[Item, ...]) -> Iterator[StepCall]:
    """Yield every step in order, also those in groups."""
    for item in items:
        if isinstance(item, Group):
            yield from calls(item.steps)
        elif isinstance(item, StepCall):
            yield item
