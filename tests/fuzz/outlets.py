"""What outlets with a web interface answer: HTTP, challenges, and whatever they say in it."""

from __future__ import annotations

from contextlib import suppress

from jumpstarter_drivers.http_power.device_table import DEVICES
from jumpstarter_drivers.http_power.http_credentials import HttpAuthenticator, HttpCredentials
from jumpstarter_drivers.http_power.templates import fill_path
from jumpstarter_drivers.http_response import HttpError, ResponseParser
from jumpstarter_drivers.power.answers import find_measures, find_text

__all__ = ["answer", "answers"]

NAMES = {"outlet": "1", "index": "0", "mask": "1", "session": "0", "user": "u", "password": "p"}
PATHS = [fill_path(row.state_at, NAMES) for row in DEVICES.values()]


def answer(data: bytes) -> None:
    """Of a device; and all that is done with it by all brands."""
    parser, body = ResponseParser(), data
    with suppress(HttpError):
        body = parser.feed(data)
        parser.end()
    text = (data if parser.head is None else body).decode("utf-8", "replace")
    for path in PATHS:
        find_text(text, path)
    for row in DEVICES.values():
        find_measures(text, row.measures)
    asked = HttpAuthenticator("digest", HttpCredentials("u", "p"))
    challenges = [text if parser.head is None else parser.head.headers.get("www-authenticate", "")]
    if asked.challenged(challenges):
        said = asked.header("GET", "/")["Authorization"]
        assert "\r" not in said
        assert "\n" not in said


def answers() -> list[bytes]:
    """Seeds."""
    return [
        b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"ison":true}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest qop="auth", realm="r", nonce="n", algorithm=SHA-256\r\n\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n{"Outputs":[{"ID":1,"State":1,"Load":12}],"StatusSNS":{"ENERGY":{"Power":[1,2]}}}',
        b"HTTP/1.1 100 Continue\r\n\r\n\r\n\r\n",
        b'Digest realm="a\\"b", nonce=abc, algorithm=MD5-sess, qop="auth,auth-int", Basic realm="x"',
    ]
