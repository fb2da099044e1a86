"""Names that sort by their time."""

from __future__ import annotations

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.identifiers import short_form, uuid7

TIMES = st.integers(0, 2**42).map(lambda milliseconds: milliseconds / 1000)


@given(TIMES, TIMES)
def test_a_name_has_its_time_in_milliseconds_and_later_ones_sort_behind(one: float, other: float) -> None:
    found = uuid.UUID(uuid7(one))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert abs((found.int >> 80) - one * 1000) <= 1
    if int(one * 1000) < int(other * 1000):
        assert uuid7(one) < uuid7(other)


def test_names_of_the_same_moment_differ() -> None:
    now = time.time()
    assert len({uuid7(now) for _ in range(1000)}) == 1000


def test_a_short_form_tells_leases_of_one_moment_apart() -> None:
    names = [uuid7(1e9) for _ in range(100)]
    assert len({short_form(name) for name in names}) == 100
    assert all(name.endswith(short_form(name)) for name in names)
    assert [short_form(name) for name in ("mine", "board-1", "")] == ["mine", "board-1", ""]
    assert short_form(f"x{uuid.uuid4()}") != ""
