from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.numbers import MAX_DIGITS, find_number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1_0", "0x1", "1.0", "\u00b2", "\u0663", "9" * 19, "9" * 5000]
)
def test_what_is_no_number_of_the_kernels_is_none(text: str) -> None:
    assert find_number(text) is None


@given(st.integers(0, 10**MAX_DIGITS - 1))
def test_a_number_is_read(number: int) -> None:
    assert find_number(str(number)) == number


@given(st.text())
def test_any_text_is_a_number_of_64_bits_or_none(text: str) -> None:
    number = find_number(text)
    assert number is None or 0 <= number < 2**63
