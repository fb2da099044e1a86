"""What both ends of a connection must agree on stands once: labels of reports, and keys of metadata."""

from __future__ import annotations

import ast
from pathlib import Path

from jumpstarter_proto import call_metadata, report_labels

ROOT = Path(__file__).parents[2]
ROOMS = (
    "client/jumpstarter_client",
    "exporter/jumpstarter_exporter",
    "controller/jumpstarter_controller",
    "drivers/jumpstarter_drivers",
    "proto/jumpstarter_proto",
)
KEYS = {getattr(module, name) for module in (call_metadata, report_labels) for name in module.__all__}
ALLOWED = {
    "proto/jumpstarter_proto/call_metadata.py",
    "proto/jumpstarter_proto/report_labels.py",
    "exporter/jumpstarter_exporter/hosting/child.py",  # runs in the environment of other software
}


def test_each_key_stands_once() -> None:
    found = [
        f"{place}:{node.lineno}: {node.value}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if (place := str(path.relative_to(ROOT))) not in ALLOWED
        and not path.name.startswith("test_")
        and path.name != "conftest.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in KEYS
    ]
    assert not found, "use jumpstarter_proto.call_metadata or jumpstarter_proto.report_labels"
