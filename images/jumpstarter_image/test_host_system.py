"""Programs that do not end in time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from jumpstarter_image.host_system import Done, HostSystem


def test_what_a_program_leaves_behind_keeps_nobody_longer_than_its_time(tmp_path: Path) -> None:
    """As a package's script that starts a service in a session of its own, with the script's output."""
    done: list[Done] = []
    left = tmp_path / "left"
    os.mkfifo(left)
    held = os.open(left, os.O_RDWR)  # as long as this is open, it is read
    script = f"setsid cat {left} & echo said"

    def run() -> None:
        done.append(HostSystem(tmp_path).run("sh", "-c", script, timeout=0.5))

    runner = threading.Thread(target=run)
    runner.start()
    runner.join(30)
    is_stuck = runner.is_alive()
    os.close(held)
    runner.join()
    assert not is_stuck
    assert done == [Done(124, "", "sh did not end within 0.5 s")]
