"""A scripted SNMP agent (version 2c): it answers with whatever a test wants, also with what no agent should say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["SnmpQuestion", "encode_integer", "scripted_agent"]

COUNTER64, INTEGER, OCTET_STRING, OID, SEQUENCE = 0x46, 0x02, 0x04, 0x06, 0x30
GET, RESPONSE = 0xA0, 0xA2


class SnmpQuestion(NamedTuple):
    """A request."""

    is_get: bool
    community: bytes
    request_id: bytes
    names: list[bytes]
    """The object identifiers, encoded."""

    def answer(self, bindings: list[tuple[bytes, bytes]], *, error: int = 0, index: int = 0) -> bytes:
        """A response with these names and encoded values."""
        pairs = b"".join(_encode(SEQUENCE, _encode(OID, name) + value) for name, value in bindings)
        pdu = (
            _encode(INTEGER, self.request_id)
            + encode_integer(error)
            + encode_integer(index)
            + _encode(SEQUENCE, pairs)
        )
        return _encode(
            SEQUENCE, encode_integer(1) + _encode(OCTET_STRING, self.community) + _encode(RESPONSE, pdu)
        )


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    """BER."""
    return _encode(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


@contextmanager
def scripted_agent(answer: Callable[[SnmpQuestion], bytes]) -> Iterator[int]:
    """Its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))

        def run() -> None:
            while True:
                data, peer = own.recvfrom(65536)
                if not data:
                    return
                own.sendto(answer(_parse(data)), peer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield own.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"", own.getsockname())
            thread.join()


def _encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def _parse(data: bytes) -> SnmpQuestion:
    message, _ = _take(data)
    _, rest = _take(message)
    community, rest = _take(rest)
    tag, (pdu, _) = rest[0], _take(rest)
    request_id, rest = _take(pdu)
    bindings = _take(_take(_take(rest)[1])[1])[0]
    names = []
    while bindings:
        binding, bindings = _take(bindings)
        names.append(_take(binding)[0])
    return SnmpQuestion(tag == GET, community, request_id, names)


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The first element's content, and what follows."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    return data[start : start + size], data[start + size :]
