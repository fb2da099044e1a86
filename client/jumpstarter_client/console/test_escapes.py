"""Escape sequences are no text: whatever stands between the letters, and however it is cut, the text is the same."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_client.console.command import Command
from jumpstarter_client.console.escapes import EscapeFilter, strip_escapes
from jumpstarter_client.console.login import LoginMachine, LoginRefused, LoginState
from jumpstarter_client.console.matcher import Matcher, Pattern, plain

SYSTEMD = b"\x1b]3008;start=9d2c;user=root;hostname=rpi4;type=shell;cwd=/root\x1b\\"
SEQUENCES = [b"\x1b[0m", b"\x1b[K", b"\x1b[1;31m", b"\x1b[?2004h", b"\x1b[6n", b"\x1b(B", b"\x1b7", b"\x1b=",
             b"\x1b]0;title\x07", SYSTEMD, b"\x1bP1$r0m\x1b\\", b"\x1b]P7aaaaaa", b"\x1b]R"]  # fmt: skip
sequences = st.lists(st.tuples(st.integers(0, 80), st.sampled_from(SEQUENCES)), max_size=6)
cuts = st.lists(st.integers(0, 400), max_size=10)


def with_sequences(text: bytes, where: list[tuple[int, bytes]]) -> bytes:
    places = sorted(((place % (len(text) + 1), sequence) for place, sequence in where), reverse=True)
    for at, sequence in places:
        text = text[:at] + sequence + text[at:]
    return text


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.binary(max_size=60).map(lambda text: text.replace(b"\x1b", b"")), sequences, cuts)
def test_text_is_what_is_left_without_sequences(
    text: bytes, where: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = with_sequences(text, where)
    escapes = EscapeFilter()
    assert b"".join(escapes.feed(piece) for piece in pieces(data, cuts)) == text
    assert strip_escapes(data) == text


@given(
    st.lists(st.sampled_from([*SEQUENCES, b"\x1b", b"\x1b]", b"[", b"0", b"\\", b"\x07", b"\n", b"a"])), cuts
)
def test_how_it_is_cut_changes_nothing_and_what_is_held_back_comes_with_the_line(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts) + b"\r\n"
    escapes = EscapeFilter()
    text = b"".join(escapes.feed(piece) for piece in pieces(data, cuts))
    assert text == strip_escapes(data)
    assert text.endswith(b"\r\n")


def test_noise_that_looks_like_the_begin_of_a_sequence_hides_nothing_for_long() -> None:
    escapes = EscapeFilter()
    text = escapes.feed(b"\x1b]" + b"x" * 5000)
    assert text.count(b"x") == 5000
    assert escapes.feed(b"\x1b]\xf0\r\nlogin: ") == b"]\xf0\r\nlogin: "
    assert escapes.feed(b"\x1b[" + b"1;" * 100) == b"[" + b"1;" * 100


@pytest.mark.parametrize(
    "pattern",
    ["rpi4 lögin: ", re.compile(r"(\w+) lögin: "), re.compile("(?P<host>rpi4) lögin: ".encode())],
    ids=["text", "expression", "bytes"],
)
@given(before=st.text("aé\r\n", max_size=20), where=sequences, cuts=cuts)
@example(before="", where=[(5, SYSTEMD), (80, b"\x1b[K")], cuts=[8, 30])
def test_pattern_matches_as_in_the_bare_text(
    pattern: Pattern, before: str, where: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    text = f"{before}rpi4 lögin: rest".encode()
    plain = Matcher()
    plain.feed(text)
    matcher = Matcher()
    found = None
    for piece in pieces(with_sequences(text, where), cuts):
        matcher.feed(piece)
        found = found or matcher.match([pattern])
    assert found is not None
    assert found == plain.match([pattern])
    assert strip_escapes(matcher.take()) == b"rest"


@given(where=sequences, cuts=cuts)
def test_what_follows_a_match_is_left_for_the_next(where: list[tuple[int, bytes]], cuts: list[int]) -> None:
    matcher = Matcher()
    matcher.feed(with_sequences(b"one two one", where))
    for word, before in [("one", ""), ("two", " "), ("one", " ")]:
        found = matcher.match([word])
        assert found is not None
        assert (found.text, found.before) == (word, before)
    assert matcher.match(["one"]) is None


@pytest.mark.parametrize(
    "pattern",
    ["\x1b[2J", b"\x1b[2J", re.compile(r"\x1b\[\dJ"), re.compile(rb"\x1B\[2J"), re.compile("\x1b\\[2J")],
)
def test_a_pattern_that_names_escape_finds_it(pattern: Pattern) -> None:
    matcher = Matcher()
    matcher.feed(b"\x1b[0mmenu\x1b[2Jnext")
    found = matcher.match(["next", pattern])
    assert found is not None
    assert (found.index, found.text, found.before) == (1, "\x1b[2J", "menu")


def test_an_expression_that_matches_nothing_does_not_cut_a_sequence_in_two() -> None:
    matcher = Matcher()
    matcher.feed(b"a\x1b[3")
    assert matcher.match([re.compile("x?$")]) is not None
    matcher.feed(b"1mb")
    assert matcher.take() == b"\x1b[31mb"


@given(where=sequences, cuts=cuts)
@example(where=[(80, b"\x1b[0m"), (80, b"\x1b[K"), (80, SYSTEMD)], cuts=[])
def test_login_prompt_is_one_with_sequences_in_it(where: list[tuple[int, bytes]], cuts: list[int]) -> None:
    login = LoginMachine("root", "secret", "cafe")
    prompt = with_sequences(b"Debian GNU/Linux\r\nrpi4 login: ", where)
    assert b"".join(login.feed(piece) for piece in pieces(prompt, cuts)) == b"root\r"
    password = with_sequences(b"root\r\nPassword: ", where)
    assert b"".join(login.feed(piece) for piece in pieces(password, cuts)) == b"secret\r"
    login.feed(with_sequences(b"\r\nroot@rpi4:~# ", where))
    login.silence()
    login.feed(with_sequences(b"\r\nJScafe?\r\n# ", where))
    assert login.state is LoginState.LOGGED_IN


@given(where=sequences, cuts=cuts)
@example(where=[(20, b"\x1b[0m"), (36, b"\x1b[K")], cuts=[])
def test_boot_loader_and_refusal_are_known_with_sequences_in_their_words(
    where: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    login = LoginMachine("root", "secret", "cafe")
    login.silence()
    for piece in pieces(with_sequences(b"\r\nHit any key to stop autoboot:  0 ", where), cuts):
        assert login.feed(piece) == b""
    assert login.feed(b"\r\n=> ") == b"boot\r"
    login.feed(b"\r\nStarting kernel ...\r\nrpi4 login: ")
    login.feed(b"Password: ")
    with pytest.raises(LoginRefused, match="Login incorrect"):
        login.feed(with_sequences(b"\r\nLogin incorrect\r\nrpi4 login: ", where))


@given(where=sequences, cuts=cuts)
def test_command_is_known_by_its_words_with_sequences_in_them(
    where: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    start = with_sequences(b"JS0badcafe+\r\n", where)
    end = with_sequences(b"JS0badcafe=42;", [one for one in where if one[0] % 15 < 13])
    running = Command("make", "0badcafe")
    for piece in pieces(start + b"done\r\n" + end + b"\r\n# ", cuts):
        running.feed(piece)
    assert running.result is not None
    assert running.result.exit_code == 42
    assert strip_escapes(running.result.output.encode()) == b"done\n"


def test_text_for_people_has_no_rest_of_a_sequence() -> None:
    assert plain(b"one\x1b[0m\r\n" + SYSTEMD + b"two\x1b(B\x1b[3") == "one\ntwo"


def test_what_was_drawn_over_is_a_line_of_its_own() -> None:
    assert plain(b" 10%\r 20%\r\r\nready\n\rnext") == " 10%\n 20%\nready\nnext"
