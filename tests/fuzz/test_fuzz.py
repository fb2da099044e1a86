"""Each parser of peers' bytes takes its corpus, and the fuzzer finds what it should find."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError
from jumpstarter_client import logs
from jumpstarter_exporter.recording import records
from jumpstarter_proto import value
from jumpstarter_proto.byte_streams import router_frames
from jumpstarter_proto.rpc._messages import HEADER_BYTES, MessageReader
from jumpstarter_proto.v1.jumpstarter_pb2 import LogStreamResponse
from jumpstarter_proto.v1.router_pb2 import StreamRequest

from tests.fuzz.engine import fuzz, run_one
from tests.fuzz.targets import CORPUS, TARGETS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_a_few_changes_of_it_show_no_fault(name: str) -> None:
    target = TARGETS[name]
    corpus = target.corpus(name)
    result = fuzz(target.run, corpus, count=len(corpus) + 100)
    assert result.finding is None, result.finding.what


def test_each_folder_of_the_corpus_is_a_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} <= set(TARGETS)


def unchecked_frame(frame: bytes) -> tuple[Any, bytes]:
    parsed = StreamRequest.FromString(frame)  # whose error is not the documented one
    return parsed.frame_type, parsed.payload


def unchecked_sum(data: bytes, start: int = 0) -> list[records.ConsoleRecord]:
    found = []
    while start + records._HEADER.size <= len(data):
        size, kind, time = records._HEADER.unpack_from(data, start)
        start += records._HEADER.size + size + records._SUM.size
        found.append(records.ConsoleRecord(time, records.RecordKind(kind), data[start - size : start]))
    return found


def unbounded_message(reader: MessageReader, data: bytes | bytearray, start: int) -> int:
    return int.from_bytes(data[start + 1 : start + HEADER_BYTES], "big")


def unbounded_text(text: str) -> Any:
    return yaml.load(text, yaml.SafeLoader)


def unread_record(data: bytes) -> LogStreamResponse:
    return LogStreamResponse.FromString(data)


DATE = b"a: 2001-01-01"


def endless_value(_value: struct_pb2.Value) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("name", "place", "attribute", "planted", "what"),
    [
        ("router-frames", router_frames, "unpack", unchecked_frame, "DecodeError"),
        ("recordings", records, "decode", unchecked_sum, "is not a valid Kind|AssertionError"),
        ("messages", MessageReader, "_parse", unbounded_message, "AssertionError"),
        ("yaml-files", "jumpstarter_proto.yaml_files", "load_text", unbounded_text, "ValueError"),
        ("log-records", logs, "entry_of", unread_record, DecodeError.__name__),
        ("values", value, "from_value", endless_value, "hangs"),
    ],
    ids=range(6),
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: Any,
    attribute: str,
    planted: Callable[..., Any],
    what: str,
) -> None:
    target = TARGETS[name]
    assert fuzz(target.run, target.seeds(), count=len(target.seeds())).finding is None
    monkeypatch.setattr(sys.modules[place] if isinstance(place, str) else place, attribute, planted)
    if "hangs" in what:
        monkeypatch.setattr("tests.fuzz.engine.HANG_SECONDS", 0.03)
    seeds = [DATE] if name == "yaml-files" else target.seeds()
    found = fuzz(target.run, seeds, count=5000, seed=1).finding
    assert found is not None
    again = run_one(target.run, found.data)
    assert again is not None
    assert any(word in again.what for word in what.split("|"))


GROWING = """
import itertools
from types import SimpleNamespace
from tests.fuzz import engine

kept = []
engine.MEMORY_KIB = 16 * 1024
engine.time = SimpleNamespace(monotonic=itertools.count(0, 0.05).__next__)  # thirty inputs, however busy the machine is
print(engine.fuzz(lambda data: kept.append(bytes(1_000_000) + data), [b"x"], seconds=3).finding.what)
"""


def test_memory_that_grows_is_found() -> None:
    """In a process of its own, as `make fuzz` does it: what is looked at is the most that a process ever had."""
    done = subprocess.run(
        [sys.executable, "-c", GROWING], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "memory grew" in done.stdout
