"""A log record of an exporter, whatever is in it, is a line."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.v1.jumpstarter_pb2 import LogStreamResponse

from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.logs import MAX_MESSAGE_LENGTH, entry_of, line_of

NOT_UTF8 = b"\x12\x02\xff\xfe\x1a\x01x"


class AsItIs:
    """A message that is these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self._data

    def ByteSize(self) -> int:  # noqa: N802
        return len(self._data)


def test_each_record_is_a_line_and_the_log_goes_on(
    blocking_root: DriverClient, exporter: FakeExporter, capfd: pytest.CaptureFixture[str]
) -> None:
    odd: list[Any] = [
        LogStreamResponse(message="without"),
        LogStreamResponse(severity="LOUD\x1b[2J\n", message="unknown"),
        AsItIs(NOT_UTF8),
        LogStreamResponse(severity="INFO", message="x" * 3_000_000),
        LogStreamResponse(severity="INFO", message="two\x1b]0;t\x07\nlines"),
        LogStreamResponse(severity="INFO", message="last"),
    ]
    exporter.log = odd
    with blocking_root.log_stream():
        blocking_root.portal.call(trio.testing.wait_all_tasks_blocked)
    lines = capfd.readouterr().err.split("\n")
    assert [line[:60] for line in lines[:3]] == [
        "INFO     without",
        "LOUD\\x1b[2J\\n unknown",
        "WARNING  a log record of the exporter cannot be read",
    ]
    assert len(lines[3]) < MAX_MESSAGE_LENGTH + 100
    assert lines[3].endswith("… (3000000 characters)")
    assert lines[4] == "INFO     two\\x1b]0;t\\x07\\nlines"
    assert lines[5:] == ["INFO     last", ""]


@given(
    st.binary()
    | st.builds(
        lambda severity, text: LogStreamResponse(severity=severity, message=text).SerializeToString(),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_any_bytes_are_a_line(data: bytes) -> None:
    line = line_of(entry_of(data))
    assert line.isprintable()
    assert len(line) < 12 * MAX_MESSAGE_LENGTH
