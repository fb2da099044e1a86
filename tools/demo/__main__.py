"""Run the demo: the work of a user on a virtual board, and the same in a lab with a controller.

With `--lab FOLDER` it runs only the lab's part, in an existing lab: FOLDER is the `--data` of a controller that runs
on this machine, with any store. `make demo DEMO_ARGS='--lab FOLDER --namespace NAME'`.

Every line that starts with $ can be typed, except a shortened fingerprint, which is shown completely once. The demo
checks every result, and fails with an error. It leaves no process and no file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from tools.demo.board import CONFIG, on_this_machine
from tools.demo.lab import ThereLab, in_a_lab
from tools.demo.stage import BIN, say


def main(arguments: list[str] | None = None) -> None:
    """Run the demo in a temporary folder."""
    there = _parse(arguments)
    started = time.monotonic()
    here = Path.cwd()
    for name in [name for name in os.environ if name.startswith(("JMP_", "JUMPSTARTER_"))]:
        del os.environ[name]  # do not use the boards and labs of the user who runs it
    folder = Path(tempfile.mkdtemp(prefix="jumpstarter-demo-"))
    try:
        if there is None:
            on_this_machine(folder)
        in_a_lab(folder, there)
    finally:
        os.chdir(here)
        shutil.rmtree(folder)
    say(f"All of that worked, in {time.monotonic() - started:.0f} s. What to try next:")
    config = os.path.relpath(CONFIG)
    activate = os.path.relpath(BIN / "activate")
    print(f"""
  . {activate}
  jumpstarter-exporter run --config {config} &
  jumpstarter devices
  jumpstarter serial start-console rpi4     # press Ctrl-B three times to leave, Ctrl-] h for help
  python -m jumpstarter_drivers.virtual.image hello.img --name hello && jumpstarter test docs/examples/boot.yaml
  jumpstarter shell                         # then: j rpi4 power on

  Your own board: connect it, run `jumpstarter-exporter init rpi4.yaml`, which writes what it finds, edit that file,
  and run `jumpstarter-exporter check rpi4.yaml`.
  Your own lab: read docs/controller.md.
""")


def _parse(arguments: list[str] | None) -> ThereLab | None:
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--lab", type=Path, help="the --data of a controller that runs on this machine")
    parser.add_argument("--namespace", default="default", help="of that lab")
    options = parser.parse_args(arguments)
    return ThereLab(options.lab.resolve(), options.namespace) if options.lab else None


if __name__ == "__main__":
    main()
