"""What happens in a test, for those who tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from jumpstarter_proto.errors import ExitCode

from jumpstarter_client.yamltest.machine import Outcome, Phase
from jumpstarter_client.yamltest.model import BoardTest

__all__ = ["Event", "RunEnded", "RunStarted", "StepEnded", "StepSaid", "StepStarted"]


@dataclass(frozen=True)
class RunStarted:
    """A test begins."""

    test: BoardTest


@dataclass(frozen=True)
class StepStarted:
    """A try of a step begins."""

    title: str
    device: str
    phase: Phase
    attempt: int
    depth: int


@dataclass(frozen=True)
class StepSaid:
    """A line from the running step."""

    text: str


@dataclass(frozen=True)
class StepEnded:
    """A try of a step is over."""

    title: str
    device: str
    phase: Phase
    attempt: int
    outcome: Outcome
    reason: str
    seconds: float
    result: Any = None
    said: tuple[str, ...] = ()
    line: int | None = None
    """Where it is in the file."""


@dataclass(frozen=True)
class RunEnded:
    """A test is over."""

    test: BoardTest
    outcome: Outcome
    reason: str
    seconds: float
    steps: tuple[StepEnded, ...] = ()
    consoles: tuple[str, ...] = ()
    """Files of the run's folder."""
    exit_code: ExitCode = ExitCode.OK
    """Of a command that runs this test alone."""


Event: TypeAlias = RunStarted | StepStarted | StepSaid | StepEnded | RunEnded
