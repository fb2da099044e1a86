"""Which headers are allowed, with h2, which purerpc brings, as the second opinion."""

from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_proto.rpc._header_rules import HeaderBlockKind, HeaderFault, check_headers

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"a")]
NAMES = [
    b":method",
    b":scheme",
    b":path",
    b":authority",
    b":status",
    b":protocol",
    b":new",
    b"host",
    b"te",
    b"x",
]
NAMES += [b"connection", b"upgrade", b"Upper", b" x", b"x "]
VALUES = (b"", b"a", b"CONNECT", b"trailers", b"Trailers", b" a", b"a\t")
headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)
KINDS = {
    HeaderBlockKind.REQUEST: HeaderValidationFlags(False, False, False, False),
    HeaderBlockKind.RESPONSE: HeaderValidationFlags(True, False, True, False),
    HeaderBlockKind.TRAILERS: HeaderValidationFlags(True, True, False, False),
}


def is_allowed(block: list[tuple[bytes, bytes]], kind: HeaderBlockKind) -> bool:
    try:
        check_headers(block, kind)
    except HeaderFault:
        return False
    return True


def h2_allows(block: list[tuple[bytes, bytes]], kind: HeaderBlockKind) -> bool:
    try:
        list(validate_headers(block, KINDS[kind]))
    except ProtocolError:
        return False
    return True


@settings(max_examples=300)
@given(
    st.sampled_from([[], REQUEST, REQUEST[:3], [(b":status", b"200")]]), headers, st.sampled_from(list(KINDS))
)
def test_blocks_are_allowed_where_h2_allows_them(
    beginning: list[tuple[bytes, bytes]], more: list[tuple[bytes, bytes]], kind: HeaderBlockKind
) -> None:
    block = [*beginning, *more]
    assert is_allowed(block, kind) == h2_allows(block, kind)


@pytest.mark.parametrize(
    ("block", "kind", "reason"),
    [
        ([*REQUEST, (b"Upper", b"x")], HeaderBlockKind.REQUEST, "capital letters"),
        ([*REQUEST, (b"x y", b"")], HeaderBlockKind.REQUEST, "characters"),
        ([*REQUEST, (b"x\x7f", b"")], HeaderBlockKind.REQUEST, "characters"),
        ([*REQUEST, (b"\xc3\xa4", b"")], HeaderBlockKind.REQUEST, "characters"),
        ([*REQUEST, (b"x:y", b"")], HeaderBlockKind.REQUEST, "characters"),
        ([(b"x", b"a\0b")], HeaderBlockKind.TRAILERS, "NUL or a line's end"),
        ([(b"x", b"a\rb")], HeaderBlockKind.TRAILERS, "NUL or a line's end"),
        ([(b"x", b"a\nb")], HeaderBlockKind.TRAILERS, "NUL or a line's end"),
        ([*REQUEST, (b"connection", b"close")], HeaderBlockKind.REQUEST, "not allowed in HTTP/2"),
        ([*REQUEST, (b"host", b"b")], HeaderBlockKind.REQUEST, "differ"),
        (REQUEST[:3], HeaderBlockKind.REQUEST, "neither :authority nor host"),
        (REQUEST[1:], HeaderBlockKind.REQUEST, "missing"),
        ([(b"x", b"")], HeaderBlockKind.RESPONSE, "missing"),
        ([(b":status", b"200")], HeaderBlockKind.TRAILERS, "do not belong there"),
    ],
)
def test_fault_says_what_is_wrong(
    block: list[tuple[bytes, bytes]], kind: HeaderBlockKind, reason: str
) -> None:
    with pytest.raises(HeaderFault, match=reason):
        check_headers(block, kind)


def test_all_other_characters_are_allowed() -> None:
    name = bytes(sorted({*range(0x21, 0x7F)} - {*b":ABCDEFGHIJKLMNOPQRSTUVWXYZ"}))
    value = bytes(sorted({*range(256)} - {*b"\0\r\n"}))
    check_headers([(name, b"a" + value + b"z")], HeaderBlockKind.TRAILERS)


@pytest.mark.parametrize("kind", [HeaderBlockKind.TRAILERS, HeaderBlockKind.RESPONSE])
def test_the_text_of_an_error_may_have_blanks_at_its_ends(kind: HeaderBlockKind) -> None:
    """grpcio and grpc-go send it so."""
    status = [(b":status", b"200")] if kind is HeaderBlockKind.RESPONSE else []
    check_headers([*status, (b"grpc-message", b" it broke: ")], kind)
    with pytest.raises(HeaderFault, match="white space"):
        check_headers([*status, (b"other", b"it broke: ")], kind)
