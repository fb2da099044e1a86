"""What a child sends is read within bounds."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.hosting.child_messages import LineSplitter, LogMessage, Ready, decode_message


def device(**values: object) -> dict[str, object]:
    return {"path": "can", "uuid": str(uuid4()), "client": "lab.CanClient", **values}


def ready(*devices: dict[str, object]) -> bytes:
    return msgspec.json.encode({"kind": "ready", "devices": devices})


def test_messages_are_read() -> None:
    report = decode_message(ready(device(labels={"a": "b", "jumpstarter.dev/state": "ready"})))
    assert isinstance(report, Ready)
    assert report.devices[0].own_labels == {"a": "b"}
    log = decode_message(b'{"kind": "log", "level": "INFO", "logger": "driver.Can", "text": "up", "time": 1}')
    assert isinstance(log, LogMessage)
    assert log.text == "up"


SAME = str(uuid4())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"kind": "other"}',
        b"[" * 100_000,
        b"\xff",
        ready(device(path="")),
        ready(device(path="a..b")),
        ready(device(path="a\n")),
        ready(device(path="x" * 513)),
        ready(device(uuid="none")),
        ready(device(client="no path")),
        ready(device(client="a.b; import os")),
        ready(device(labels={"x" * 254: ""})),
        ready(device(labels={"x": "y" * 4097})),
        ready(device(labels={str(one): "" for one in range(65)})),
        ready(device(methods=[{"name": "a b", "kind": "call"}])),
        ready(device(methods=[{"name": "a", "kind": "none"}])),
        ready(device(methods=[{"name": f"m{one}", "kind": "call"} for one in range(257)])),
        ready(device(), device()),
        ready(device(uuid=SAME), device(path="b", uuid=SAME)),
        ready(*(device(path=str(one)) for one in range(257))),
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_message(line)


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_are_whole_however_they_arrive(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(8)
    found: list[bytes] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += splitter.feed(text[:size])
        text = text[size:]
    assert found == [line for line in lines if len(line) <= 8]
    assert splitter.skipped == sum(len(line) > 8 for line in lines)


def test_a_line_without_end_is_not_kept() -> None:
    splitter = LineSplitter(8)
    for _ in range(100):
        assert list(splitter.feed(b"xxx")) == []
    assert splitter.skipped == 1
    assert list(splitter.feed(b"\nok\n")) == [b"ok"]
