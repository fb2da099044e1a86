"""A client with an open session that does what it is told: `python worker.py ours|theirs` in its environment.

Reads one JSON request a line and answers with how long it took, in seconds. The program is the same for both
libraries, apart from where it gets the client from.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CHUNK = 65536


def connect(side: str) -> Any:
    if side == "ours":
        import jumpstarter_client

        return jumpstarter_client.env()
    from jumpstarter.utils.env import env

    return env()


def calls(client: Any, count: int) -> list[float]:
    """Each of `count` driver calls by itself."""
    call, clock = client.power.call, time.perf_counter
    times = []
    for _ in range(count):
        start = clock()
        call("on")
        times.append(clock() - start)
    return times


def echo(client: Any, count: int) -> list[float]:
    """`count` times 64 KiB there and back, as one figure."""
    data = bytes(CHUNK)
    with client.echo.stream() as stream:
        start = time.perf_counter()
        for _ in range(count):
            stream.send(data)
            missing = CHUNK
            while missing:
                missing -= len(stream.receive())
        return [time.perf_counter() - start]


def pump(client: Any, count: int) -> list[float]:
    """`count` times 64 KiB, sent without waiting for what comes back, until all of it has come back."""
    data = bytes(CHUNK)

    def send() -> None:
        for _ in range(count):
            stream.send(data)

    with client.echo.stream() as stream, ThreadPoolExecutor(1) as sender:
        start = time.perf_counter()
        sent = sender.submit(send)
        missing = count * CHUNK
        while missing:
            missing -= len(stream.receive())
        took = time.perf_counter() - start
        sent.result()
    return [took]


def flash(client: Any, path: str) -> list[float]:
    """One image file onto the device, until the call says it is there."""
    start = time.perf_counter()
    client.flasher.flash(path)
    return [time.perf_counter() - start]


def main(side: str) -> None:
    with connect(side) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            operation, argument = json.loads(line)
            print(json.dumps(globals()[operation](client, argument)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
