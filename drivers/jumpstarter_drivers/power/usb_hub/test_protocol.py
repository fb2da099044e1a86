"""What hubs answer, decoded, also when it is nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.power.usb_hub.protocol import (
    MAX_PORTS,
    HubDescriptor,
    HubProtocolError,
    PortStatus,
    PowerSwitching,
    decode_container_id,
    decode_hub_descriptor,
    decode_port_status,
    port_power_request,
)

PER_PORT, GANGED, NONE = PowerSwitching.PER_PORT, PowerSwitching.GANGED, PowerSwitching.NONE


@pytest.mark.parametrize(
    ("answer", "superspeed", "decoded"),
    [
        ("0929 04 a900 32 64 00 ff", False, HubDescriptor(4, PER_PORT)),
        ("0929 04 0000 32 64 00 ff", False, HubDescriptor(4, GANGED)),
        ("0929 07 0a00 32 64 00 ff", False, HubDescriptor(7, NONE)),
        ("0929 01 0000 32 64 00 ff", False, HubDescriptor(1, PER_PORT)),
        ("0c2a 04 0900 32 00 04 0000 0000", True, HubDescriptor(4, PER_PORT)),
    ],
)
def test_hub_descriptor_says_how_power_is_switched(
    answer: str, superspeed: bool, decoded: HubDescriptor
) -> None:
    assert decode_hub_descriptor(bytes.fromhex(answer), is_superspeed=superspeed) == decoded


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("", "only 0 bytes"),
        ("092a 04 0900 32 64", "type 0x2a, not 0x29"),
        ("0929 00 0900 32 64", "names 0 ports"),
        ("0929 ff 0900 32 64", "names 255 ports"),
    ],
)
def test_hub_descriptor_that_cannot_be_is_refused(answer: str, complaint: str) -> None:
    with pytest.raises(HubProtocolError, match=complaint):
        decode_hub_descriptor(bytes.fromhex(answer), is_superspeed=False)


@given(st.binary(max_size=80), st.booleans())
def test_no_answer_is_decoded_to_what_cannot_be(answer: bytes, superspeed: bool) -> None:
    try:
        decoded = decode_hub_descriptor(answer, is_superspeed=superspeed)
    except HubProtocolError:
        pass
    else:
        assert 1 <= decoded.port_count <= MAX_PORTS
    container_id = decode_container_id(answer)
    assert container_id is None or (len(container_id) == 32 and bytes.fromhex(container_id) in answer)
    try:
        decode_port_status(answer, is_superspeed=superspeed)
    except HubProtocolError:
        assert len(answer) < 4


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_power_is_another_bit_for_each_speed_and_connection_is_the_same(status: int, change: int) -> None:
    answer = status.to_bytes(2, "little") + change.to_bytes(2, "little")
    is_connected = bool(status & 1)
    assert decode_port_status(answer, is_superspeed=False) == PortStatus(bool(status & 0x100), is_connected)
    assert decode_port_status(answer, is_superspeed=True) == PortStatus(bool(status & 0x200), is_connected)


def bos(*capabilities: bytes) -> bytes:
    body = b"".join(capabilities)
    return bytes([5, 0x0F, *(5 + len(body)).to_bytes(2, "little"), len(capabilities)]) + body


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.binary(max_size=20)).filter(lambda one: one[0] != 4), max_size=4
    ),
    st.binary(min_size=16, max_size=16).filter(any),
    st.data(),
)
def test_container_id_is_found_among_other_capabilities_and_in_nothing_that_is_cut(
    others: list[tuple[int, bytes]], container_id: bytes, data: st.DataObject
) -> None:
    capabilities = [bytes([3 + len(body), 0x10, kind]) + body for kind, body in others]
    place = data.draw(st.integers(0, len(capabilities)))
    capabilities.insert(place, bytes([20, 0x10, 4, 0]) + container_id)
    whole = bos(*capabilities)
    assert decode_container_id(whole) == container_id.hex()
    end = 5 + sum(len(one) for one in capabilities[: place + 1])
    assert decode_container_id(whole[: data.draw(st.integers(0, end - 1))]) is None


def test_container_id_of_zeros_is_none() -> None:
    assert decode_container_id(bos(bytes([20, 0x10, 4, 0]) + bytes(16))) is None


def test_power_is_set_and_cleared_as_a_feature() -> None:
    on, off = port_power_request(3, on=True), port_power_request(3, on=False)
    assert (on.request_type, on.request, on.value, on.index) == (0x23, 3, 8, 3)
    assert (off.request_type, off.request, off.value, off.index) == (0x23, 1, 8, 3)
