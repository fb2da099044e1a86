"""What is suggested to somebody who mistyped a name."""

from __future__ import annotations

import pytest

from jumpstarter_proto.similar_names import most_similar

VERBS = ("set-rts", "set-dtr", "start-console", "log", "pipe")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("start", "start-console"),  # set-rts has more letters in common
        ("set", "set-rts"),
        ("st", ""),
        ("pip", "pipe"),
        ("lgo", "log"),
        ("start-consol", "start-console"),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_a_beginning_counts_before_letters_in_common(name: str, meant: str) -> None:
    assert most_similar(name, VERBS) == meant


def test_half_of_the_letters_in_common_say_nothing() -> None:
    assert most_similar("kind", ("uuid", "board"), cutoff=0.51) == ""


def test_without_names_nothing_is_meant() -> None:
    assert most_similar("start", ()) == ""
