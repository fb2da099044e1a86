"""What a camera's server may send: the head of a response, a stream of pictures in it, and a challenge."""

from __future__ import annotations

from contextlib import suppress

from jumpstarter_drivers.http_digest import best_challenge
from jumpstarter_drivers.http_response import HttpError, ResponseParser
from jumpstarter_drivers.video.jpeg import JpegError, read_jpeg
from jumpstarter_drivers.video.multipart import MultipartError, MultipartParser, boundary_of

__all__ = ["camera", "cameras"]

MAX_BODY = 4096
PICTURE = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x20\x01\x01\x11\x00\xff\xda\x00\x02\x01\xff\xd9"


def camera(data: bytes) -> None:
    """A response, in pieces whose size is the first byte."""
    size = data[0] + 1 if data else 1
    response = ResponseParser()
    parts: MultipartParser | None = None
    with suppress(HttpError, MultipartError):
        for start in range(1, len(data), size):
            body = response.feed(data[start : start + size])
            if response.head is None:
                continue
            assert response.head.content_type == response.head.content_type.strip()
            _challenge(response.head.headers.get("www-authenticate", ""))
            if parts is None:
                boundary = boundary_of(response.head.headers.get("content-type", ""))
                parts = MultipartParser(boundary, max_body_bytes=MAX_BODY)
            for part in parts.feed(body):
                assert len(part.body) <= MAX_BODY + size
                with suppress(JpegError):
                    assert min(read_jpeg(part.body)[1:]) > 0
        response.end()


def _challenge(header: str) -> None:
    challenge = best_challenge([header])
    if challenge is not None:
        answer = challenge.answer("user", "password", "GET", "/")
        assert "\r" not in answer
        assert "\n" not in answer


def cameras() -> list[bytes]:
    """A stream with lengths and one in chunks without, and a server that asks who is there."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--cut\r\n"
    part = b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
    whole = part % (len(PICTURE), PICTURE) + part % (5, PICTURE) + part % (500, PICTURE) + b"--cut--\r\n"
    chunked = b"".join(
        b"%x\r\n%b\r\n" % (len(whole[at : at + 50]), whole[at : at + 50]) for at in range(0, len(whole), 50)
    )
    challenge = b'Digest realm="x \\" y", nonce="n", qop="auth,auth-int", algorithm=SHA-256, Basic realm="x"'
    return [
        b"\x10" + head + b"\r\n" + whole,
        b"\x40" + head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n",
        b"\x10" + b"HTTP/1.1 100 Continue\r\n\r\n\r\n\r\n" + head,
        b"\xff" + b"HTTP/1.1 401 No\r\nWWW-Authenticate: " + challenge + b"\r\nContent-Length: 0\r\n\r\n",
    ]
