"""Whatever a text is, it is read or refused with a ValueError."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.json_texts import decode_json, parse_json

DEEP = b"[" * 100_000
DEEP_BESIDE = b'{"name":"x","other":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001


class Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize("text", [DEEP, DEEP_BESIDE, b'{"name":"\xff"}', b"1" * 5000 + b"x", b""])
def test_a_text_that_is_none_is_refused(text: bytes) -> None:
    for read in (
        parse_json,
        lambda given: decode_json(given, Named),
        lambda given: decode_json(given, object),
    ):
        with pytest.raises(ValueError, match=r".+"):
            read(text)


def test_one_that_is_nested_too_deeply_says_so() -> None:
    for text in (DEEP, DEEP_BESIDE):
        with pytest.raises(ValueError, match="it is nested too deeply"):
            parse_json(text)
    with pytest.raises(ValueError, match="it is nested too deeply"):
        decode_json(DEEP_BESIDE, Named)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
@example({"name": "x"})
def test_what_was_written_comes_back(given_value: object) -> None:
    text = msgspec.json.encode(given_value)
    assert parse_json(text) == decode_json(text, object) == given_value
