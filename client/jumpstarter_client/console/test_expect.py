"""Matching and waiting, with consoles that cut, flood, break and say nothing."""

from __future__ import annotations

import itertools
import re

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.console.expect import ConsoleClosed, Expect, ExpectTimeout
from jumpstarter_client.console.matcher import Match, Matcher, Pattern, plain


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def console() -> tuple[
    Expect, trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
]:
    ours, board = trio.testing.memory_stream_pair()
    return Expect(ours), board


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("login: ", Match(0, "login: ", "Grüße\r\nrpi4 ")),
        ("ü".encode(), Match(0, "ü", "Gr")),
        (re.compile(r"(\w+) login: (x)?"), Match(0, "rpi4 login: ", "Grüße\r\n", ("rpi4", None))),
        (re.compile(r"^(?P<word>\w+)\r"), Match(0, "Grüße\r", "", ("Grüße",), {"word": "Grüße"})),
        (re.compile(rb"(?P<host>rpi\d) "), Match(0, "rpi4 ", "Grüße\r\n", ("rpi4",), {"host": "rpi4"})),
    ],
)
def test_kinds_of_patterns(pattern: Pattern, expected: Match) -> None:
    matcher = Matcher()
    matcher.feed("Grüße\r\nrpi4 login: ".encode())
    assert matcher.match([pattern]) == expected


def test_match_uses_what_came_up_to_its_end() -> None:
    matcher = Matcher()
    matcher.feed(b"one two one")
    assert matcher.match(["one"]) == Match(0, "one", "")
    assert matcher.match(["one"]) == Match(0, "one", " two ")
    assert matcher.match(["one"]) is None


def test_pattern_furthest_to_the_front_wins_then_the_one_named_first() -> None:
    matcher = Matcher()
    matcher.feed(b"panic, then login: ")
    match = matcher.match(["login: ", "panic", re.compile("pan")])
    assert match is not None
    assert match.index == 1


@given(
    before=st.binary(max_size=40).map(lambda data: data.replace(b"\x1b", b"")),
    after=st.binary(max_size=10),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_literal_is_found_at_the_same_place_however_the_bytes_are_cut(
    before: bytes, after: bytes, cuts: list[int]
) -> None:
    literal = "lögin: "
    data = before + literal.encode() + after
    whole = Matcher()
    whole.feed(data)
    expected = whole.match([literal])
    matcher = Matcher()
    found = None
    for piece in pieces(data, cuts):
        matcher.feed(piece)
        found = found or matcher.match([literal])
    assert found == expected
    assert expected is not None
    assert matcher.take() == whole.take()


@given(
    data=st.binary(max_size=60).map(lambda data: data.replace(b"\x1b", b"")),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_text_expression_leads_back_to_the_bytes_that_it_matched(data: bytes, cuts: list[int]) -> None:
    """Invalid UTF-8 and characters that are cut in two neither raise nor shift what is left."""
    matcher = Matcher()
    for piece in pieces(data, cuts):
        matcher.feed(piece)
        matcher.match([re.compile("no such text")])
    matcher.feed(b"|end|rest")
    match = matcher.match([re.compile(r"\|e(n)d\|")])
    assert match is not None
    assert match.before == data.decode("utf-8", "replace")
    assert matcher.take() == b"rest"


@pytest.mark.parametrize(
    "pattern", [re.compile(r"<(\w{3})>"), re.compile(rb"<(\w{3})>")], ids=["str", "bytes"]
)
@given(before=st.text("<>ab\xfc", max_size=20), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_expression_is_found_at_the_same_place_however_the_bytes_are_cut(
    pattern: Pattern, before: str, cuts: list[int]
) -> None:
    data = (before + "<abc>").encode()
    whole = Matcher()
    whole.feed(data)
    matcher = Matcher()
    found = None
    for piece in pieces(data, cuts):
        matcher.feed(piece)
        found = found or matcher.match([pattern])
    assert found is not None
    assert found == whole.match([pattern])


def test_long_output_is_not_searched_again_and_again() -> None:
    """What was searched is looked at again no further back than a match can be long."""
    matcher = Matcher()
    matcher.feed(b"<a" + b"a" * (1 << 16))
    assert matcher.match([re.compile(r"<(a+)>")]) is None
    matcher.feed(b">")
    assert matcher.match([re.compile(r"<(a+)>")]) is None
    matcher.feed(b"<" + b"a" * ((1 << 16) - 2))
    assert matcher.match([re.compile(r"<(a+)>")]) is None
    matcher.feed(b">")
    assert matcher.match([re.compile(r"<(a+)>")]) is not None


def test_memory_is_bounded_and_a_match_says_what_is_missing() -> None:
    matcher = Matcher(keep=10)
    for _ in range(100):
        matcher.feed(b"0123456789")
    matcher.feed(b"end")
    assert matcher.match(["end"]) == Match(0, "end", "3456789", dropped=993)
    matcher.feed(b"end")
    assert matcher.match(["end"]) == Match(0, "end", "")


def test_what_was_put_back_is_seen_first() -> None:
    matcher = Matcher()
    matcher.feed(b"login: ")
    assert matcher.match([re.compile("nothing")]) is None
    taken = matcher.take()
    matcher.feed(b"x")
    matcher.unread(taken)
    assert matcher.take() == b"login: x"


def test_plain_text_for_people() -> None:
    assert plain(b"\x1b[?2004h\x1b[1;32mroot\x1b[0m\r\n\x07\x00# \xff") == "root\n# "


@pytest.mark.parametrize("patterns", [[], [""], [b""]])
def test_nothing_to_wait_for_is_the_programs_mistake(patterns: list[Pattern]) -> None:
    with pytest.raises(JumpstarterUsageError):
        Matcher().match(patterns)


async def test_expect_sends_and_waits() -> None:
    expect, board = console()
    seen = bytearray()
    expect.on_data = seen.extend
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            assert await board.receive_some() == b"root\r"
            await board.send_all(b"Pass")
            await board.send_all(b"word: ")

        nursery.start_soon(answer)
        await expect.send_line("root")
        assert (await expect.expect("Password: ", "# ", timeout=5)).index == 0
    assert seen == b"Password: "


async def test_timeout_names_pattern_seconds_and_last_lines(autojump_clock: trio.testing.MockClock) -> None:
    expect, board = console()
    await board.send_all(b"one\r\n\x1b[31mtwo\x1b[0m\r\nthree")
    with pytest.raises(ExpectTimeout) as caught:
        await expect.expect("login: ", re.compile("^#"), timeout=30)
    assert str(caught.value) == (
        "'login: ' or /^#/ did not come within 30 s; the console's last lines:\n  | one\n  | two\n  | three"
    )
    assert trio.current_time() >= 30
    # It has used nothing.
    assert (await expect.expect("two", timeout=0)).before == "one\r\n"


async def test_timeout_of_a_silent_console(autojump_clock: trio.testing.MockClock) -> None:
    expect, _ = console()
    with pytest.raises(ExpectTimeout, match="the console printed nothing"):
        await expect.expect("login: ", timeout=1)


async def test_end_of_the_console_is_told_with_its_last_lines() -> None:
    expect, board = console()
    await board.send_all(b"Kernel panic")
    await board.aclose()
    with pytest.raises(ConsoleClosed, match=r"the exporter closed it(.|\n)*Kernel panic"):
        await expect.expect("login: ", timeout=5)
    with pytest.raises(ConsoleClosed):
        await expect.send("x")


async def test_cancelled_wait_loses_nothing() -> None:
    expect, board = console()
    await board.send_all(b"log")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: expect.expect("login: ", timeout=60))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    await board.send_all(b"in: ")
    assert (await expect.expect("login: ", timeout=5)).before == ""


async def test_receive_gives_what_no_match_has_used() -> None:
    expect, board = console()
    await board.send_all(b"login: rest")
    await expect.expect("login: ", timeout=5)
    assert await expect.receive() == b"rest"
    expect.unread(b"rest")
    await board.send_all(b" more")
    assert await expect.receive() == b"rest"
    assert await expect.receive() == b" more"
