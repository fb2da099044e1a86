"""What the ends of a flash of changes send each other, whole, in pieces, and from a peer that lies."""

from __future__ import annotations

import random

import pytest
from jumpstarter_proto.encoding import ContentError

from jumpstarter_drivers.storage.changes.layout import BlockHasher, Layout, WindowHashes
from jumpstarter_drivers.storage.changes.messages import (
    BeginMessage,
    Blocks,
    EndMessage,
    FlashMessageReader,
    Head,
    Message,
    MessageError,
    WantedMessage,
    encode_hashes,
)

LAYOUT = Layout(block_bytes=512, window_blocks=20)
HASHER = BlockHasher(b"k" * 16, LAYOUT)
DATA = random.Random(1).randbytes(LAYOUT.window_bytes)
ALL = WindowHashes(7, 5000, LAYOUT.everything(5000), HASHER.hash(DATA[:5000]))
SOME = WindowHashes(8, 10240, 0b1001, HASHER.hash(DATA[:1024]))
MESSAGES: list[Message] = [
    BeginMessage(LAYOUT, 8, b"k" * 16),
    Head(DATA[:3000]),
    ALL,
    SOME,
    WantedMessage(8, 0b1000),
    Blocks(8, False, DATA[:512]),
    EndMessage(12345, "ab" * 32),
]


def encoded() -> list[bytes]:
    found = []
    for message in MESSAGES:
        match message:
            case WindowHashes():
                found.append(encode_hashes(message, LAYOUT))
            case WantedMessage():
                found.append(message.encode(SOME.length, LAYOUT))
            case _:
                found.append(message.encode())
    return found


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_messages_arrive_as_they_were_sent_in_whatever_pieces(step: int) -> None:
    reader, stream = FlashMessageReader(), b"".join(encoded())
    found = [message for at in range(0, len(stream), step) for message in reader.feed(stream[at : at + step])]
    assert found == MESSAGES


def test_blocks_are_packed_where_that_makes_them_smaller() -> None:
    zeros, noise = Blocks.of(1, bytes(10_000)), Blocks.of(1, DATA)
    assert zeros.is_packed
    assert not noise.is_packed
    assert zeros.unpacked(10_000) == bytes(10_000)
    assert noise.unpacked(len(DATA)) == DATA


@pytest.mark.parametrize("length", [0, 9_999, 10_001])
@pytest.mark.parametrize("blocks", [Blocks.of(1, bytes(10_000)), Blocks(1, False, bytes(10_000))])
def test_blocks_of_another_length_are_refused(blocks: Blocks, length: int) -> None:
    with pytest.raises(MessageError, match=f"{length} bytes"):
        blocks.unpacked(length)


def test_blocks_that_grow_without_end_are_not_unpacked_to_the_end() -> None:
    bomb = Blocks.of(1, bytes(64 * 1024 * 1024))
    assert len(bomb.payload) < 10_000
    with pytest.raises(MessageError, match="1024 bytes"):
        bomb.unpacked(1024)


def test_packed_blocks_that_are_damaged_are_refused() -> None:
    packed = Blocks.of(1, bytes(10_000))
    for payload in (packed.payload[:-3], b"not zstd at all"):
        with pytest.raises(ContentError):
            Blocks(1, True, payload).unpacked(10_000)


def message(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(4, "big") + body


def begin(block: int = 4096, blocks: int = 1024, ahead: int = 8) -> bytes:
    return message(1, b"".join(number.to_bytes(4, "big") for number in (block, blocks, ahead)) + bytes(16))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (message(0, b""), "no message that is known"),
        (message(7, b""), "no message that is known"),
        (message(1, b"", length=1 << 31), "no message that is known"),
        (message(1, bytes(27)), "wrong length"),
        (message(2, b"head"), "does not begin"),
        (begin(block=511), "511 bytes"),
        (begin(block=1 << 21), "2097152 bytes"),
        (begin(block=1 << 20, blocks=17), "17 blocks"),
        (begin(blocks=0), "0 blocks"),
        (begin(ahead=0), "0 windows"),
        (begin(ahead=65), "65 windows"),
    ],
)
def test_an_exporter_that_asks_for_too_much_is_refused(sent: bytes, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        list(FlashMessageReader().feed(sent))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (message(2, b"", length=1 << 24), "no message that is known"),
        (message(2, bytes(0x10059)), "too long a head"),
        (message(3, bytes(8)), "wrong length"),
        (message(3, bytes(4) + (10241).to_bytes(4, "big") + b"\0"), "10241 bytes"),
        (message(3, bytes(9)), "0 bytes"),
        (message(3, bytes(4) + (512).to_bytes(4, "big") + b"\0" + bytes(15)), "another number"),
        (message(3, bytes(4) + (512).to_bytes(4, "big") + b"\1\3" + bytes(32)), "another number"),
        (message(4, bytes(4) + b"\1" * 4), "behind a window's end"),
        (message(5, bytes(3)), "wrong length"),
        (message(6, bytes(39)), "ends in no way"),
        (message(6, b"\xff" * 40), "ends in no way"),
    ],
)
def test_a_peer_that_lies_is_refused(sent: bytes, words: str) -> None:
    layout = Layout(block_bytes=512, window_blocks=20)
    with pytest.raises(MessageError, match=words):
        list(FlashMessageReader(layout).feed(sent))


def test_runs_are_those_of_the_mask() -> None:
    assert list(LAYOUT.runs(0b1101, 1800)) == [(0, 512), (1024, 776)]
    assert list(LAYOUT.runs(0, 1800)) == []
    assert LAYOUT.size_of(LAYOUT.everything(5001), 5001) == 5001
