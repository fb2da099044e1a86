from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab.example:8082", ("lab.example", 8082)),
        (" lab:1 \n", ("lab", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[2001:db8::1]:8082", ("2001:db8::1", 8082)),
        ("[fe80::1%eth0]:8082", ("fe80::1%eth0", 8082)),
        ("my_lab.:1", ("my_lab.", 1)),
        ("börd.example:1", ("börd.example", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lab.example", "it has no port"),
        ("[::1]", "it has no port"),
        ("lab:notaport", "'notaport' is not a port; a port is a number from 1 to 65535"),
        ("lab:", "'' is not a port"),
        ("lab:0", "'0' is not a port"),
        ("lab:65536", "'65536' is not a port"),
        ("lab:\u0661", "is not a port"),
        ("lab:+1", "is not a port"),
        ("lab:" + "1" * 5000, "is not a port"),
        ("http://lab:8082", "leave out http://"),
        ("lab:8082/", "it may hold only a host and a port"),
        ("user@lab:1", "it may hold only a host and a port"),
        (":1", "it has no host"),
        ("", "it has no host"),
        ("::1:8082", "an IPv6 address only, which has to stand in brackets"),
        ("lab:1:2", "more than one colon may be in an IPv6 address only"),
        ("[lab]:1", "only an IPv6 address may stand in brackets"),
        ("[::1:1", "its bracket is not closed"),
        ("[::1", "its bracket is not closed"),
        ("[::1]8082", "a colon and the port"),
        ("two words:1", "'two words' is not a host name"),
        ("a..b:1", "'a..b' is not a host name"),
        ("x" * 64 + ":1", "is not a host name"),
        ("a." * 127 + ":1", "is not a host name"),
        ("-lab:1", "is not a host name"),
        ("ä..b:1", "is not a host name"),
    ],
)
def test_what_is_not_an_address_is_told_why_and_how_one_is_written(text: str, reason: str) -> None:
    with pytest.raises(AddressSyntaxError) as caught:
        split_host_port(text)
    assert reason in str(caught.value)
    assert "write HOST:PORT such as lab.example:8082, or [2001:db8::1]:8082" in str(caught.value)


def test_an_address_to_listen_on_may_have_no_host_and_any_port() -> None:
    assert split_host_port(":0", to_listen=True) == ("", 0)
    assert split_host_port("[::]:8082", to_listen=True) == ("::", 8082)
    with pytest.raises(AddressSyntaxError, match=r"from 0 to 65535; write \[HOST\]:PORT"):
        split_host_port(":x", to_listen=True)


def test_a_port_may_be_left_out_where_there_is_one_to_take() -> None:
    assert split_host_port("lab", default_port=443) == ("lab", 443)
    assert split_host_port("[::1]", default_port=443) == ("::1", 443)
    with pytest.raises(AddressSyntaxError, match="'' is not a port"):
        split_host_port("lab:", default_port=443)


_parts = st.sampled_from(["lab", ".", ":", "[", "]", "::1", "80", "%", "ä", "-", "_", "\0", " ", "x" * 64])


@given(st.one_of(st.text(max_size=20), st.lists(_parts, max_size=6).map("".join)))
def test_any_text_is_an_address_that_can_be_looked_up_or_a_sentence(text: str) -> None:
    try:
        host, _ = split_host_port(text + ":80")
    except AddressSyntaxError:
        return
    if ":" not in host:
        host.encode("idna")  # as socket.getaddrinfo does, whose UnicodeError nobody expects


@pytest.mark.parametrize(
    "text", ["a." * 500_000, "ü" * 500_000, "x" * 500_000 + "://", "lab:" + "1" * 500_000]
)
def test_a_text_that_is_far_too_long_is_refused_in_a_short_sentence(text: str) -> None:
    with pytest.raises(AddressSyntaxError) as caught:
        split_host_port(text)
    assert len(str(caught.value)) < 1000
