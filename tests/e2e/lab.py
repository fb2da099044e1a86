"""A lab with a virtual board on its exporters, and what a command that still runs has said."""

from __future__ import annotations

import json
import math
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tests.support import lab as support

LIMIT = support.LIMIT
EXPORT = "export:\n  rpi4:\n    type: virtual.VirtualBoard\n    config: {boot_seconds: 0}\n"


class Lab(support.Lab):
    """A controller, and the clients and exporters that join it."""

    export = EXPORT

    def leases(self, client: Path, *words: str) -> dict[str, dict[str, Any]]:
        """The leases of everybody, by name."""
        data = json.loads(self.ok("lease", "list", "-A", *words, "-o", "json", "--client", client))
        return {one["name"]: one for one in data["leases"]}

    def expire(self, client: Path) -> None:
        """Have the time of the client's lease run out, a moment from now."""
        (lease,) = [one for one in self.leases(client).values() if one["client"] == client.stem]
        age = (datetime.now(UTC) - datetime.fromisoformat(lease["effective_begin_time"])).total_seconds()
        # For the command has to come before that end, on a busy machine, too.
        total = str(math.ceil(age) + 2)
        self.ok("lease", "extend", lease["name"], "--total", total, "--client", client)


class Reader:
    """What a process has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = {"out": "", "err": ""}
        self._threads: list[threading.Thread] = []
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None
            thread = threading.Thread(target=self._read, args=(name, stream), daemon=True)
            thread.start()
            self._threads.append(thread)
        process.stdout = process.stderr = None  # the threads' own from here on

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.text[name] += line

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: the exit code, and all that it said."""
        code = self.process.wait(timeout=LIMIT)
        for thread in self._threads:
            thread.join(timeout=LIMIT)
        return code, self.text["out"], self.text["err"]
