"""Frames made and read by hand, against protobuf."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.byte_streams.router_frames import MAX_HEADER_BYTES, pack, unpack
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1.router_pb2 import FRAME_TYPE_DATA, FRAME_TYPE_GOAWAY, StreamRequest, StreamResponse

SIZES = [0, 1, 127, 128, 129, 16383, 16384, 65536, 2097151, 2097152]
PAYLOADS = st.one_of(st.binary(max_size=300), st.sampled_from(SIZES).map(bytes))


@given(PAYLOADS)
def test_a_payload_is_packed_as_protobuf_does(payload: bytes) -> None:
    packed = pack(payload)
    assert packed == StreamRequest(payload=payload).SerializeToString()
    assert packed == StreamResponse(payload=payload).SerializeToString()
    assert pack(memoryview(payload)) == pack(bytearray(payload)) == packed
    assert len(packed) <= len(payload) + MAX_HEADER_BYTES
    assert unpack(packed) == (FRAME_TYPE_DATA, payload)


@given(PAYLOADS, st.sampled_from([FRAME_TYPE_DATA, FRAME_TYPE_GOAWAY]))
def test_what_protobuf_packs_is_understood(payload: bytes, kind: int) -> None:
    message = StreamResponse(payload=payload, frame_type=kind)  # type: ignore[arg-type]
    assert unpack(message.SerializeToString()) == (kind, payload)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.binary(max_size=40).map(lambda rest: b"\x0a" + rest),
        # The same field twice, lengths written longer than they need to be, and such.
        st.lists(
            st.sampled_from([b"\x0a", b"\x00", b"\x01", b"\x80", b"\x81", b"\x10", b"x"]), max_size=12
        ).map(b"".join),
    )
)
def test_any_bytes_are_what_protobuf_takes_them_for(data: bytes) -> None:
    try:
        parsed = StreamRequest.FromString(data)
    except DecodeError:
        with pytest.raises(RpcError, match="not a frame"):
            unpack(data)
    else:
        assert unpack(data) == (parsed.frame_type, parsed.payload)
