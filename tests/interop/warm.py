"""0.9.0's `jmp` with its modules imported once, which takes most of a command's time: `python warm.py`.

For each line of JSON on stdin (arguments, environment, folder and the files of the three standard streams) it forks a
process that is `jmp` with them, and prints its exit code. Runs where 0.9.0 is installed; imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until stdin ends."""
    from jumpstarter_cli.jmp import jmp

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(order["cwd"])
            os.environ.clear()
            os.environ.update(order["env"])
            for number, name in enumerate(order["files"]):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(name, flags, 0o600), number)
            sys.stdin = os.fdopen(0)
            sys.argv = ["jmp", *order["arguments"]]
            jmp()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
