"""JSON is read in one place, which refuses what the parsers do not."""

from __future__ import annotations

import re

from tests.house.rooms import all_modules

READERS = re.compile(r"\bjson\.(loads|load)\(|msgspec\.json\.(decode|Decoder)\(")


def test_json_is_read_where_deep_nesting_is_refused() -> None:
    found = [one.name for one in all_modules() if not one.is_test and READERS.search(one.path.read_text())]
    # The program of a child reads what the exporter wrote, and can import nothing of ours.
    assert found == ["jumpstarter_proto.json_texts", "jumpstarter_exporter.hosting.child"]
