"""Run `pip install`, and show that it goes on: on a terminal one line that changes, elsewhere a line now and then.

`python tools/pip_install.py ARGUMENT ...`. It runs before anything is installed. What pip says is printed if it fails.
"""

from __future__ import annotations

import subprocess
import sys
import time

SECONDS_BETWEEN_LINES = 10.0
"""Where there is no terminal, so that a log stays short."""
STEPS = ("Collecting ", "Processing ", "Installing collected packages: ")


def main(arguments: list[str]) -> int:
    """Run pip with the arguments, and return its exit code."""
    pip = [sys.executable, "-u", "-m", "pip", "install", "--progress-bar", "off", "--no-color", *arguments]
    is_terminal = sys.stdout.isatty()
    said: list[str] = []
    collected = 0
    shown = time.monotonic() - SECONDS_BETWEEN_LINES
    with subprocess.Popen(pip, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if not line.startswith(STEPS):
                continue
            step, _, rest = line.partition(" ")
            if step != "Installing":
                collected += 1
                text = f"packages so far: {collected}, {rest.split()[0].rpartition('/')[2]}"
            else:
                text = f"packages to write: {rest.count(',') + 1}"
            if is_terminal:
                print(f"\r\x1b[K  {text[:70]}", end="", flush=True)
            elif step == "Installing" or time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
                print(f"  {text}", flush=True)
                shown = time.monotonic()
    if is_terminal:
        print("\r\x1b[K", end="", flush=True)
    if process.returncode:
        sys.stderr.write("".join(said))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
