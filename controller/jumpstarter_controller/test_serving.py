"""What controller and router do for themselves as processes."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from jumpstarter_controller.serving import allow_many_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4000))
allow_many_connections()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_process_takes_all_connections_that_the_system_allows() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4000", "4000"]
