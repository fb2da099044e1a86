"""An error is in the log, also where nothing can be loaded any more."""

from __future__ import annotations

import re
import subprocess
import sys

PROGRAM = """
from jumpstarter_proto.deferred_imports import defer_imports
defer_imports()
import logging, os, resource
from jumpstarter_proto.log_lines import LineFormatter
handler = logging.StreamHandler()
handler.setFormatter(LineFormatter())
logging.getLogger().addHandler(handler)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for limit in (3, most):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
        raise ValueError("later")
    except (OSError, ValueError):
        logging.error("accept failed", exc_info=True)
"""


def test_an_error_without_a_free_descriptor_is_logged_and_the_next_one_has_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    first, what, *others = done.stderr.splitlines()
    assert first == "ERROR root: accept failed"
    many = r"\[Errno 24\] Too many open files: "
    assert re.fullmatch(rf"OSError: {many}'/dev/null' \(without a traceback: {many}.*\)", what)
    assert others[:2] == ["ERROR root: accept failed", "Traceback (most recent call last):"]
    assert others[-1] == "ValueError: later"
    assert done.returncode == 0
