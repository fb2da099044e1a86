"""Long-lived processes that are measured from inside: they are told what to do and say how long it took."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

PATIENCE = 60.0


class Worker:
    """A process that says `ready` and answers each JSON line with a list of seconds, until its stdin ends."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        try:
            while self._line() != "ready\n":
                pass
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def do(self, operation: str, argument: Any, patience: float = PATIENCE) -> list[float]:
        """Run one operation of the worker and give back its seconds."""
        self.begin(operation, argument)
        return self.end(patience)

    def begin(self, operation: str, argument: Any) -> None:
        """Let it run one operation, while others do something, too."""
        assert self._process.stdin is not None
        print(json.dumps([operation, argument]), file=self._process.stdin, flush=True)

    def end(self, patience: float = PATIENCE) -> list[float]:
        """Wait for what was begun."""
        answer: list[float] = json.loads(self._line(patience))
        return answer

    def _line(self, patience: float = PATIENCE) -> str:
        assert self._process.stdout is not None
        too_late = threading.Timer(patience, self._process.kill)
        too_late.start()
        line = self._process.stdout.readline()
        too_late.cancel()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended, or said nothing for {patience:.0f} s")
        return line
