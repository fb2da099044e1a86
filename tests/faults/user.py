"""A user's program with a leased board, which does what its stdin says and answers each line with one.

Run with the client configuration and the lease's duration in seconds; ends, and gives the board back, with its stdin.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import trio
from jumpstarter_client.connections.connect import connect
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_proto.errors import JumpstarterError


def say(line: str) -> None:
    sys.stdout.write(" ".join(line.split()) + "\n")
    sys.stdout.flush()


def commands(root: Any) -> dict[str, Callable[[str], str]]:
    held: list[Any] = []

    def call(method: str) -> str:
        getattr(root.power, method)()
        return "done"

    def cycle(seconds: str) -> str:
        root.power.cycle(wait=float(seconds))
        return "done"

    def stream(_: str) -> str:
        held.append(root.echo.open_stream())
        return "open"

    def echo(text: str) -> str:
        held[-1].send(text.encode())
        return str(held[-1].receive().decode())

    def listen(_: str) -> str:
        return f"got {held[-1].receive()!r}"

    def uuid(_: str) -> str:
        return str(root.power.uuid)

    return {"call": call, "cycle": cycle, "stream": stream, "echo": echo, "listen": listen, "uuid": uuid}


def main() -> None:
    request = LeaseRequest(selector="board=rpi4", duration=float(sys.argv[2]), client=sys.argv[1])
    with connect(request=request) as root:
        known = commands(root)
        say("ready")
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            began = time.monotonic()
            try:
                said = known[word](rest)
            except (JumpstarterError, trio.BrokenResourceError) as error:
                said = f"error {type(error).__name__}: {error}"
            say(f"{said} [{time.monotonic() - began:.1f}]")


if __name__ == "__main__":
    try:
        main()
    except JumpstarterError as error:
        say(f"failed: {error}")
        sys.exit(error.exit_code)
