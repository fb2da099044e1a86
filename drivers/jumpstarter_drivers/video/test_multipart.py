"""Parts of a stream as cameras send them, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.video.conftest import part
from jumpstarter_drivers.video.multipart import MultipartError, MultipartParser, boundary_of

END = b"--camera-boundary\r\n"


def bodies(
    data: bytes, boundary: str = "camera-boundary", size: int = 100_000, most: int = 1000
) -> list[bytes]:
    parser = MultipartParser(boundary, max_body_bytes=most)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [one.body for piece in pieces for one in parser.feed(piece)]


@given(
    pictures=st.lists(st.binary(max_size=60).filter(lambda one: b"--camera-boundary" not in one), max_size=4),
    size=st.integers(1, 50),
)
def test_parts_are_the_same_in_pieces_of_any_size(pictures: list[bytes], size: int) -> None:
    data = b"".join(map(part, pictures)) + END
    assert bodies(data, size=size) == pictures


@pytest.mark.parametrize(
    ("name", "on_the_wire"),
    [
        ("--camera-boundary", "--camera-boundary"),
        ("camera-boundary", "----camera-boundary"),
        ("", "--camera-boundary"),
    ],
)
def test_dashes_of_a_boundary_are_not_counted(name: str, on_the_wire: str) -> None:
    data = (part(b"one") + part(b"two") + END).replace(b"--camera-boundary", on_the_wire.encode())
    assert bodies(data, name) == [b"one", b"two"]


def test_lines_may_end_without_a_carriage_return() -> None:
    assert bodies((part(b"one", None) + part(b"two") + END).replace(b"\r\n", b"\n")) == [b"one", b"two"]


def test_part_of_the_right_length_does_not_wait_for_the_next_one() -> None:
    assert bodies(part(b"one").removesuffix(b"\r\n")) == [b"one"]


@pytest.mark.parametrize("lie", [1, 5, 300])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_wrong_length_costs_one_part_at_most(lie: int, size: int) -> None:
    found = bodies(
        part(b"picture one", lie) + part(b"picture two", lie) + part(b"picture three", lie) + END, size=size
    )
    assert found[-2:] == [b"picture two", b"picture three"]
    assert len(found) == 3


@pytest.mark.parametrize("size", range(1, 30))
def test_last_boundary_may_come_in_pieces(size: int) -> None:
    parser = MultipartParser("camera-boundary", max_body_bytes=100)
    data = part(b"one", None) + b"--camera-boundary--\r\n"
    found = [one.body for at in range(0, len(data), size) for one in parser.feed(data[at : at + size])]
    assert found == [b"one"]
    assert parser.has_ended


def test_last_boundary_ends_the_stream() -> None:
    parser = MultipartParser("camera-boundary", max_body_bytes=100)
    assert [one.body for one in parser.feed(part(b"one") + b"--camera-boundary--\r\n" + part(b"two"))] == [
        b"one"
    ]
    assert parser.has_ended
    assert parser.feed(part(b"three")) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (part(b"x" * 2000, None), "larger than"),
        (part(b"x" * 2000, 5000), "larger than"),
        (b"x" * 70_000, "no boundary"),
        (b"--camera-boundary\r\n" + b"X: y\r\n" * 4000, "header of a picture is too large"),
    ],
)
@pytest.mark.parametrize("size", [500, 100_000])
def test_what_has_no_end_is_refused(data: bytes, why: str, size: int) -> None:
    with pytest.raises(MultipartError, match=why):
        bodies(data, size=size)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=foo", "foo"),
        ('multipart/x-mixed-replace;boundary="--foo bar";x=y', "--foo bar"),
        ("multipart/x-mixed-replace", ""),
    ],
)
def test_boundary_of_a_content_type(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("between", ["", "\r\n" * 6, "\n" * 9])
def test_boundaries_with_many_dashes_and_blank_lines_before_them(between: str, size: int) -> None:
    boundary = "-" * 14 + "12345"
    one = f"--{boundary}\r\nContent-Length: 3\r\n\r\none\r\n{between}"
    data = (one * 20 + f"--{boundary}\r\n").encode()
    assert bodies(data, boundary, size=size) == [b"one"] * 20


def test_what_comes_behind_a_picture_in_the_place_of_a_boundary_is_bounded() -> None:
    with pytest.raises(MultipartError):
        bodies(part(b"one") + (b"--camera-boundarX" + b"x" * 10_000) * 100, size=10_017, most=100_000)


def test_a_line_of_dashes_costs_no_more_than_its_length() -> None:
    with pytest.raises(MultipartError, match="no boundary"):
        bodies(b"-" * 70_000, "", size=1000)
