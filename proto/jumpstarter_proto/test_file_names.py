"""A file's name that a peer chose stays in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.file_names import MAX_NAME_BYTES, safe_name


@pytest.mark.parametrize("name", ["rpi4.serial", "a b", "Ü", "x" * 195, "$(id)", "a.b-c_d"])
def test_what_is_a_name_stays(name: str) -> None:
    assert safe_name(name) == name
    assert safe_name(name, ".log") == f"{name}.log"


TEXTS = st.text() | st.text(st.sampled_from("./\\-~\0\n ab\u202e"), max_size=12) | st.text(min_size=250)


@example("..")
@example("../../../tmp/x")
@example("/etc/x")
@example("")
@example("\ud800")
@given(TEXTS)
def test_it_is_one_visible_component(text: str) -> None:
    for suffix in ("", ".log"):
        name = safe_name(text, suffix)
        assert Path("folder", name).resolve().parent == Path("folder").resolve()
        assert name.isprintable()
        assert name[0] not in ".-~"
        assert name.endswith(suffix)
        assert len(name.encode()) <= MAX_NAME_BYTES


@given(st.lists(TEXTS, unique=True, max_size=8))
def test_different_texts_have_different_names(texts: list[str]) -> None:
    assert len({safe_name(text) for text in texts}) == len(texts)


@given(TEXTS)
def test_a_name_is_not_changed_again(text: str) -> None:
    assert safe_name(safe_name(text)) == safe_name(text)
