"""HTTP responses and challenges as cameras and outlets send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.http_digest import best_challenge
from jumpstarter_drivers.http_response import HttpError, ResponseParser
from jumpstarter_drivers.video.conftest import chunked

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Image/JPEG ; a=b\r\n"


def read(data: bytes, size: int = 100_000) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    return parser, b"".join(parser.feed(data[at : at + size]) for at in range(0, len(data), size))


@given(body=st.binary(max_size=100), size=st.integers(1, 60), cut=st.integers(1, 30))
def test_bodies_are_the_same_in_pieces_of_any_size(body: bytes, size: int, cut: int) -> None:
    chunks = b"".join(chunked(body[at : at + cut]) for at in range(0, len(body), cut))
    for head, data in [
        (HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode(), body + b"behind it"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks + b"0\r\nTrailer: x\r\n\r\nbehind it"),
    ]:
        parser, found = read(head + data, size)
        assert found == body
        assert parser.has_ended
        assert parser.head is not None
        assert parser.head.content_type == "image/jpeg"


@pytest.mark.parametrize("size", [1, 100_000])
def test_interim_response_is_skipped(size: int) -> None:
    parser, body = read(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok", size)
    assert (parser.head and parser.head.status, body) == (200, b"ok")


def test_answer_to_a_head_request_has_no_body() -> None:
    parser = ResponseParser("HEAD")
    assert parser.feed(HEAD + b"Content-Length: 9\r\n\r\n") == b""
    assert parser.has_ended


def test_body_without_a_length_ends_with_the_connection() -> None:
    parser, found = read(HEAD + b"\r\npicture")
    assert found == b"picture"
    assert not parser.has_ended
    parser.end()
    assert parser.has_ended


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 9\r\n\r\n12345678",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n1",
    ],
)
def test_connection_that_ends_in_the_middle_is_an_error(data: bytes) -> None:
    parser, _ = read(data)
    with pytest.raises(HttpError, match="the connection ended"):
        parser.end()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        HEAD + b"X: y\r\n" * 4000,
        b"HTTP/1.1 200" + b"O" * 20_000,
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1, 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
    ],
)
@pytest.mark.parametrize("size", [100, 100_000])
def test_what_is_not_a_response_is_rejected(data: bytes, size: int) -> None:
    with pytest.raises(HttpError):
        read(data, size)


PARTS = [
    b"\r\n",
    b"\n",
    b"HTTP/1.1 ",
    b"100 Continue",
    b"200 OK",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b"0",
    b"5;a",
    b"\x85",
    b":",
]
"""What heads and chunks are made of, and a character that ends a line for Python only."""


@given(
    parts=st.lists(st.sampled_from(PARTS) | st.binary(max_size=5), max_size=20),
    method=st.sampled_from(["GET", "HEAD"]),
    size=st.integers(1, 40),
)
def test_whatever_comes_raises_an_http_error_or_nothing(parts: list[bytes], method: str, size: int) -> None:
    parser, data = ResponseParser(method), b"".join(parts)
    try:
        found = b"".join(parser.feed(data[at : at + size]) for at in range(0, len(data), size))
        parser.end()
    except ValueError as error:
        assert type(error) is HttpError, error  # noqa: PT017 - an HttpError is a ValueError, too
        return
    assert parser.head is not None
    assert len(found) <= len(data)


def test_a_challenge_costs_no_more_than_its_length() -> None:
    for words in ("a" * 60_000, "a=" * 30_000, 'a="' + "\\" * 60_000, "a" + " " * 60_000):
        assert best_challenge([f"Digest {words}"]) is None
