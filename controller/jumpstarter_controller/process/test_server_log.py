"""Lines that say whom they concern, stay one line, and keep secrets."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jumpstarter_controller.lab import Exporter, Lease
from jumpstarter_controller.process.server_log import JsonFormatter, RefusalLog, TextFormatter, about

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjbGllbnQ6YTpiOmMifQ.c2lnbmF0dXJl"
LEASE = Lease(namespace="lab", name="l1", client="ann", exporter="rpi4-1")


class Lines(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def attach(log: logging.Logger, formatter: logging.Formatter) -> Lines:
    lines = Lines(formatter)
    log.addHandler(lines)
    return lines


def test_a_line_has_its_fields_in_either_form(log: logging.Logger) -> None:
    text, machine = attach(log, TextFormatter()), attach(log, JsonFormatter())
    log.info("lease %s", "dialled", extra=about(LEASE, router="r:1"))
    assert text.lines == [
        "INFO test: lease dialled  namespace=lab lease=l1 client=ann exporter=rpi4-1 router=r:1"
    ]
    (line,) = machine.lines
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "info",
        "logger": "test",
        "message": "lease dialled",
        "namespace": "lab",
        "lease": "l1",
        "client": "ann",
        "exporter": "rpi4-1",
        "router": "r:1",
    }


def test_what_is_not_known_is_left_out() -> None:
    assert about(Exporter(namespace="lab", name="e"), peer="") == {"namespace": "lab", "exporter": "e"}
    assert "exporter" not in about(Lease(namespace="lab", name="l", client="ann"))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_token_and_no_second_line_from_a_peers_text(
    log: logging.Logger, formatter: logging.Formatter
) -> None:
    lines = attach(log, formatter)
    log.info(
        "exporter said: %s", f"x\nERROR fake: line\x1b[31m {TOKEN}\u2028", extra={"peer": f"a\nb{TOKEN}"}
    )
    try:
        int(f"bad token {TOKEN}")
    except ValueError:
        log.exception("failed")
    first, second = lines.lines
    assert "\n" not in first
    assert "\x1b" not in first
    for part in TOKEN.split(".")[1:]:
        assert part not in first + second
    assert "bad token [token]" in second


def test_refusals_are_all_counted_and_some_logged(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = attach(log, TextFormatter())
    now = 5.0
    monkeypatch.setattr("jumpstarter_proto.rpc._guards.time.monotonic", lambda: now)
    refusals = RefusalLog(log)
    for _ in range(1000):
        refusals.note(ValueError("no"), peer="ipv4:1")
    assert refusals.total == 1000
    assert len(lines.lines) == RefusalLog.BURST
    assert lines.lines[0] == "WARNING test: refused: no  peer=ipv4:1"
    now += 60 / RefusalLog.PER_MINUTE
    refusals.note(ValueError("no"))
    assert (
        lines.lines[-1]
        == f"WARNING test: refused: no ({1000 - RefusalLog.BURST} more before it were not logged)"
    )


@pytest.mark.parametrize("formatter", ["TextFormatter", "JsonFormatter"])
def test_an_error_without_a_free_descriptor_is_logged(formatter: str) -> None:
    program = f"""
from jumpstarter_proto.deferred_imports import defer_imports
defer_imports()
import logging, os, resource
from jumpstarter_controller.process.server_log import {formatter}
handler = logging.StreamHandler()
handler.setFormatter({formatter}())
logging.getLogger().addHandler(handler)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    os.open("/dev/null", os.O_RDONLY)
except OSError:
    logging.error("accept failed", exc_info=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "accept failed" in done.stderr
    assert "OSError: [Errno 24] Too many open files: '/dev/null' (without a traceback: " in done.stderr
