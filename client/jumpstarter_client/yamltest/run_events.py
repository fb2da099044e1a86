"""The events of a test run, for reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from jumpstarter_proto.errors import ExitCode

from jumpstarter_client.yamltest.machine import RunOutcome, RunPhase
from jumpstarter_client.yamltest.model import BoardTest

__all__ = ["Event", "RunEnded", "RunStarted", "StepEnded", "StepSaid", "StepStarted"]


@dataclass(frozen=True)
class RunStarted:
    """A test starts."""

    test: BoardTest


@dataclass(frozen=True)
class StepStarted:
    """An attempt of a step starts."""

    title: str
    device: str
    phase: RunPhase
    attempt: int
    depth: int


@dataclass(frozen=True)
class StepSaid:
    """A line from the running step."""

    text: str


@dataclass(frozen=True)
class StepEnded:
    """An attempt of a step has ended."""

    title: str
    device: str
    phase: RunPhase
    attempt: int
    outcome: RunOutcome
    reason: str
    seconds: float
    result: Any = None
    said: tuple[str, ...] = ()
    line: int | None = None
    """Its line in the file."""


@dataclass(frozen=True)
class RunEnded:
    """A test has ended."""

    test: BoardTest
    outcome: RunOutcome
    reason: str
    seconds: float
    steps: tuple[StepEnded, ...] = ()
    consoles: tuple[str, ...] = ()
    """The console logs in the folder of the run."""
    exit_code: ExitCode = ExitCode.OK
    """The exit code of a command that runs only this test."""


Event: TypeAlias = RunStarted | StepStarted | StepSaid | StepEnded | RunEnded
