"""Frames of a byte stream as bytes: `StreamRequest` and `StreamResponse`, which have the same fields.

Nearly all are a payload and nothing else. protobuf would copy that twice each way; here it is once.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1.router_pb2 import FRAME_TYPE_DATA, FrameType, StreamRequest

__all__ = ["MAX_HEADER_BYTES", "pack", "unpack"]

MAX_HEADER_BYTES = 16
"""The size limit of the header that `pack` adds to a payload."""
_PAYLOAD = 0x0A
"""Field 1, of any length."""


def pack(payload: bytes | bytearray | memoryview) -> bytes:
    """The frame of that payload."""
    size = len(payload)
    if not size:
        return b""
    head = bytearray((_PAYLOAD,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return b"".join((head, payload))


def unpack(frame: bytes) -> tuple[FrameType, bytes]:
    """Return the type of a frame and its payload.

    Raises:
        RpcError: INTERNAL, it is not a frame.
    """
    if frame[:1] == b"\x0a":
        size = shift = 0
        for position in range(1, min(6, len(frame))):
            byte = frame[position]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if position + 1 + size == len(frame):
                    return FRAME_TYPE_DATA, frame[position + 1 :]
                break
    try:
        parsed = StreamRequest.FromString(frame)
    except DecodeError as error:
        raise RpcError(StatusCode.INTERNAL, f"the peer's message is not a frame: {error}") from None
    return parsed.frame_type, parsed.payload
