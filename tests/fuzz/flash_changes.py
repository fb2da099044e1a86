"""A flash of changes as a fuzzer's target: what a client says to an exporter, and an exporter to a client."""

from __future__ import annotations

from contextlib import suppress

from jumpstarter_drivers.storage.changes.knowledge import MediumKnowledge
from jumpstarter_drivers.storage.changes.layout import BlockHasher, Layout, WindowHashes
from jumpstarter_drivers.storage.changes.messages import (
    BeginMessage,
    Blocks,
    EndMessage,
    FlashMessageReader,
    Head,
    Message,
    WantedMessage,
    encode_hashes,
)
from jumpstarter_drivers.storage.changes.plan import FlashPlan, Read
from jumpstarter_proto.encoding import ContentError

__all__ = ["flash_messages", "flash_streams"]

_LAYOUT = Layout(block_bytes=512, window_blocks=10)
_HASHER = BlockHasher(b"k" * 16, _LAYOUT)
_DATA = bytes(1024) + b"\1" * 1000
_LIMIT = 40 * _LAYOUT.window_bytes


class _TooLargeError(ContentError):
    pass


def flash_messages(data: bytes) -> None:
    """The first byte says how long the pieces are, and whether they come from an exporter."""
    how, stream = (data[0] if data else 0), data[1:]
    step = 1 + how % 50
    reader = FlashMessageReader(None if how >= 200 else _LAYOUT)
    plan = FlashPlan(
        _HASHER, MediumKnowledge(), limit=_LIMIT, ahead=4, too_large=lambda _: _TooLargeError("too large")
    )
    with suppress(ContentError):
        for at in range(0, len(stream), step):
            for message in reader.feed(stream[at : at + step]):
                _take(message, plan)
    assert plan.open_windows <= 4
    assert plan.counts.done <= _LIMIT


def _take(message: Message, plan: FlashPlan) -> None:
    match message:
        case WindowHashes():
            plan.announce(message)
            step = plan.next_step()
            if isinstance(step, Read):
                answer = plan.read(step.window.index, step.window.digests[:16])
                if answer.zeros and not answer.wanted:
                    plan.written(answer.window.index)
        case Blocks():
            length = plan.asked_bytes(message.window)
            unpacked = message.unpacked(length)
            places = list(plan.arrived(message.window, _HASHER.hash(unpacked)))
            assert sum(count for _, _, count in places) == length
            assert all(place + count <= _LIMIT for place, _, count in places)
            plan.written(message.window)
        case EndMessage():
            plan.end(message.size)
        case _:
            return


def flash_streams() -> list[bytes]:
    """A whole flash from either end."""
    window = WindowHashes(0, len(_DATA), _LAYOUT.everything(len(_DATA)), _HASHER.hash(_DATA))
    some = WindowHashes(0, 5120, 0b1001, _HASHER.hash(_DATA[:1024]))
    last = Blocks.of(0, _DATA[1024:]).encode() + EndMessage(len(_DATA), "00" * 32).encode()
    client = Head(_DATA[:50]).encode() + encode_hashes(window, _LAYOUT) + last
    exporter = BeginMessage(_LAYOUT, 4, b"k" * 16).encode() + WantedMessage(0, 0b1100).encode(
        len(_DATA), _LAYOUT
    )
    return [
        b"\x31" + client,
        b"\x07" + client,
        b"\x31" + encode_hashes(some, _LAYOUT) + Blocks(0, False, _DATA[:1024]).encode(),
        b"\xff" + exporter,
    ]
