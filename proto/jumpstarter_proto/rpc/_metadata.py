"""Headers on the wire: metadata, deadlines and status messages (the gRPC-over-HTTP/2 specification)."""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections.abc import Iterable

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc._headers import Header, plain
from jumpstarter_proto.rpc._types import Metadata

__all__ = [
    "decode_details",
    "decode_metadata",
    "decode_timeout",
    "encode_details",
    "encode_metadata",
    "encode_timeout",
]

_NAME = re.compile(r"[0-9a-z_.-]+\Z")
_VALUE = re.compile(r"[ -~]*\Z")
_RESERVED = frozenset({"te", "content-type", "user-agent", "connection", "host"})
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_TIMEOUT_VALUE = 99_999_999
_READABLE = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"


def encode_metadata(metadata: Metadata) -> list[Header]:
    """Ready for HTTP/2, and kept out of HPACK's tables: it may be secret, and may differ from call to call.

    Raises:
        JumpstarterUsageError: a name or value that gRPC does not allow.
    """
    encoded = []
    for name, value in metadata:
        if not _NAME.match(name) or name.startswith("grpc-") or name in _RESERVED:
            raise JumpstarterUsageError(
                f"{name!r} cannot be a metadata name; use lower-case letters, digits, _ . -"
            )
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise JumpstarterUsageError(f"the value of {name!r} must be bytes, as its name ends in -bin")
            encoded.append(plain(name, base64.b64encode(value).rstrip(b"=").decode("ascii")))
        else:
            if not isinstance(value, str) or not _VALUE.match(value):
                raise JumpstarterUsageError(
                    f"the value of {name!r} must be printable ASCII; end its name in -bin for bytes"
                )
            encoded.append(plain(name, value))
    return encoded


def decode_metadata(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str | bytes]]:
    """All but HTTP/2's and gRPC's own. Raises ValueError for a binary value that is not base64."""
    decoded: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name[:1] == ":" or name.startswith("grpc-") or name in _RESERVED:
            continue
        if name.endswith("-bin"):
            # Values of one name may arrive joined by commas, padded or not.
            decoded.extend((name, _from_base64(name, part)) for part in value.split(","))
        else:
            decoded.append((name, value))
    return decoded


def _from_base64(name: str, text: str) -> bytes:
    text = text.strip()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the value of {name} is not base64: {error}") from None


def encode_timeout(seconds: float) -> str:
    """`grpc-timeout`: at most eight digits and a unit, rounded so that it is never longer than asked."""
    for unit in ("n", "u", "m", "S", "M", "H"):
        count = int(max(seconds, 0) / _UNITS[unit])
        if count <= _MAX_TIMEOUT_VALUE:
            return f"{count}{unit}"
    return f"{_MAX_TIMEOUT_VALUE}H"


def decode_timeout(text: str) -> float:
    """Seconds. Raises ValueError for anything but digits and a unit."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not digits.isdecimal() or not digits.isascii() or len(digits) > 8:
        raise ValueError(f"grpc-timeout {text!r} is not up to eight digits and one of H M S m u n")
    return int(digits) * _UNITS[unit]


def encode_details(details: str, most: int = 1 << 30) -> str:
    """Return percent-encoded UTF-8, limited in bytes and cut between characters; printable ASCII stays readable."""
    encoded = _percent_encoded(details[:most])
    while len(encoded) > most:
        details = details[: len(details) * most // len(encoded) - 1]
        encoded = _percent_encoded(details)
    return encoded


def _percent_encoded(details: str) -> str:
    encoded = urllib.parse.quote(details, safe=_READABLE, errors="replace")
    # HTTP/2 allows no header with a blank at an end.
    if encoded.startswith(" "):
        encoded = f"%20{encoded[1:]}"
    return f"{encoded[:-1]}%20" if encoded.endswith(" ") else encoded


def decode_details(text: str) -> str:
    """What `encode_details` made; broken escapes stay as they are."""
    return urllib.parse.unquote(text, errors="replace") if "%" in text else text
