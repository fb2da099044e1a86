"""TFTP without I/O: a board behind a network that loses, repeats and delays packets gets the file, or an error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.file_server.tftp import (
    MAX_TRIES,
    Phase,
    ReadTransfer,
    TftpError,
    error_packet,
    parse_request,
)


class Board:
    """A board that reads, as RFC 1350 wants it."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self.data = bytearray()
        self.block = 0
        self.options: list[bytes] = []
        self.has_all = False

    def receive(self, packet: bytes) -> bytes:
        code, number = struct.unpack_from("!HH", packet)
        if code == 6:
            self.options = packet[2:-1].split(b"\0")
            return struct.pack("!HH", 4, 0)
        assert code == 3
        if number == (self.block + 1) & 0xFFFF and not self.has_all:
            self.block += 1
            self.data += packet[4:]
            self.has_all = len(packet) - 4 < self.block_bytes
        return struct.pack("!HH", 4, self.block & 0xFFFF)


def send(state: ReadTransfer, file: bytes) -> bytes:
    offset, length = state.wanted
    return state.packet(file[offset : offset + length])


@given(
    file=st.binary(max_size=200),
    block_bytes=st.integers(8, 64),
    has_options=st.booleans(),
    fates=st.lists(
        st.sampled_from(["arrives", "arrives", "lost", "answer lost", "twice", "old"]), max_size=80
    ),
)
def test_a_board_gets_the_file_whatever_the_network_does(
    file: bytes, block_bytes: int, has_options: bool, fates: list[str]
) -> None:
    options = {"blksize": str(block_bytes), "tsize": "0"} if has_options else {}
    state, board = ReadTransfer(len(file), options), Board(block_bytes if has_options else 512)
    tried, fate = 0, iter(fates)
    while not state.is_over:
        packet, what = send(state, file), next(fate, "arrives")
        answers = [board.receive(packet)] if what != "lost" else []
        answers += [board.receive(packet)] if what == "twice" else []
        answers = [] if what == "answer lost" else answers
        if what == "old":
            answers.insert(0, struct.pack("!HH", 4, (board.block - 2) & 0xFFFF))
        moved = [state.received(answer) for answer in answers]
        assert sum(moved) <= 1  # a repeated answer never sends the next block twice
        if answers:
            tried = 0
        else:
            tried += 1
            assert state.timed_out() == (tried < MAX_TRIES)
    if state.phase is Phase.DONE:
        assert (bytes(board.data), board.has_all) == (file, True)
        assert not has_options or board.options == [
            b"blksize",
            str(block_bytes).encode(),
            b"tsize",
            b"%d" % len(file),
        ]
    else:
        assert tried == MAX_TRIES
        assert "does not acknowledge" in state.reason


def test_block_numbers_begin_again() -> None:
    file = bytes(range(256)) * 2200  # 70,400 blocks
    state, board = ReadTransfer(len(file), {"blksize": "8"}), Board(8)
    while not state.is_over:
        state.received(board.receive(send(state, file)))
    assert state.phase is Phase.DONE
    assert len(board.data) == len(file)


def test_a_board_that_refuses_is_not_asked_again() -> None:
    state = ReadTransfer(10, {"tsize": "0"})
    assert not state.received(error_packet(8, "no options"))
    assert (state.phase, state.reason) == (Phase.FAILED, "the board says error 8 (no options)")
    assert not state.timed_out()
    assert not state.received(struct.pack("!HH", 4, 0))


@pytest.mark.parametrize(
    ("options", "block_bytes", "seconds"),
    [
        ({"blksize": "7"}, 512, 1.0),
        ({"blksize": "99999"}, 65464, 1.0),
        ({"timeout": "0", "windowsize": "4"}, 512, 1.0),
        ({"timeout": "255", "blksize": "1468"}, 1468, 255.0),
        ({"timeout": "256", "blksize": "²"}, 512, 1.0),
    ],
)
def test_options_out_of_their_range_are_left_out(
    options: dict[str, str], block_bytes: int, seconds: float
) -> None:
    state = ReadTransfer(10, options)
    assert (state.block_bytes, state.timeout_seconds) == (block_bytes, seconds)
    assert (state.phase is Phase.OPTIONS) == (seconds != 1.0 or block_bytes != 512)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"", 4),
        (b"\0\2name\0octet\0", 2),
        (b"\0\1name\0octet", 4),
        (b"\0\1name\0", 4),
        (b"\0\1\0octet\0", 4),
        (b"\0\1name\0mail\0", 4),
        (b"\0\1\xff\0octet\0", 4),
        (b"\0\1" + b"n" * 3000 + b"\0octet\0", 4),
    ],
)
def test_a_wrong_request_is_an_error_for_the_board(packet: bytes, code: int) -> None:
    with pytest.raises(TftpError) as error:
        parse_request(packet)
    assert error.value.code == code


def test_a_request_has_a_name_and_options() -> None:
    request = parse_request(b"\0\1boot/zImage\0OCTET\0BlkSize\x001468\0tsize\0")
    assert (request.name, request.options) == ("boot/zImage", {"blksize": "1468"})
