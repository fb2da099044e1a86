"""A client with an open session that flashes what it is told: `python flashing_worker.py ours|theirs`.

`flash` takes an image and a block map (null where there is none to choose), and answers with its seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def connect(side: str) -> Any:
    if side == "ours":
        import jumpstarter_client

        return jumpstarter_client.env()
    from jumpstarter.utils.env import env

    return env()


def main(side: str) -> None:
    with connect(side) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            _, (image, options) = json.loads(line)
            start = time.perf_counter()
            result = client.storage.flash(image, **options)
            took = time.perf_counter() - start
            print(json.dumps([took, *_counts(result)]), flush=True)


def _counts(result: Any) -> list[int]:
    """Bytes that were read and written, where the library says it."""
    changes = getattr(result, "changes", None)
    return [changes["read"], changes["written"]] if changes else []


if __name__ == "__main__":
    main(*sys.argv[1:])
