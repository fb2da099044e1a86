"""Whom a transfer may connect to."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.reach import EVERYWHERE, AddressRefused, Reach

LIMITED = Reach.limited()


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Names lead to these addresses; the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (
                family,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port) if family == socket.AF_INET else (address, port, 0, 0),
            )
            for family, address in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


REFUSED = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "localhost",
    "LOCALHOST",
    "0.0.0.0",
    "0",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%lo",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "64:ff9b:1::7f00:1",
    "fd00:ec2::254",
    "FD00:0EC2:0::0254",
    "100.100.100.200",
    "64:ff9b::100.100.100.200",
    "::ffff:168.63.129.16",
    "192.0.0.192",
]


@pytest.mark.parametrize("host", REFUSED)
def test_a_remote_user_does_not_reach_the_host(host: str) -> None:
    with pytest.raises(AddressRefused, match=r"leads to .*`fetch: .*allow"):
        LIMITED.connect(host, 80, 1)


@given(st.ip_addresses(network="127.0.0.0/8") | st.ip_addresses(network="169.254.0.0/16"))
def test_no_way_to_write_an_address_gets_around(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for text in (str(address), str(number), hex(number), f"::ffff:{address}", f"64:ff9b::{address}"):
        with pytest.raises(AddressRefused):
            LIMITED.resolve(text, 80)


def test_hosts_own_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = own_address()
    with pytest.raises(AddressRefused, match="host itself"):
        LIMITED.resolve(own, 80)
    assert Reach.limited([own]).resolve(own, 80)


def own_address() -> str:
    """One that is not loopback, or skip."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    "address", ["192.0.2.7", "10.99.98.97", "93.184.216.34", "100.100.100.201", "2001:db8::7", "fd00::7"]
)
def test_other_hosts_are_reached(address: str) -> None:
    assert LIMITED.resolve(address, 80)[0][4][0] == address


def test_each_address_of_a_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "192.0.2.7", "127.0.0.1")
    with pytest.raises(AddressRefused, match=r"rebind\.example leads to"):
        LIMITED.connect("rebind.example", 80, 1)


def test_what_is_connected_to_is_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = resolves_to(monkeypatch, "127.0.0.1")
        with Reach.limited(["127.0.0.0/8"]).connect("images.lab", port, 5) as connection:
            assert connection.getpeername() == ("127.0.0.1", port)
            assert connection.gettimeout() == 5, "each wait for it has all of the time again"
    assert asked == ["images.lab"], "the name was resolved once more"


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "Images.lab"])
def test_what_is_allowed_is_reached(monkeypatch: pytest.MonkeyPatch, allow: str) -> None:
    resolves_to(monkeypatch, "127.0.0.1")
    assert Reach.limited([allow]).resolve("images.lab.", 80)
    with pytest.raises(AddressRefused):
        Reach.limited(["10.0.0.0/8", "other.lab"]).resolve("images.lab", 80)


def test_local_users_reach_everything() -> None:
    assert EVERYWHERE.resolve("127.0.0.1", 80)


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "\u2488.x"])
def test_what_is_not_a_host_name_is_not_resolved(host: str) -> None:
    with pytest.raises(OSError, match=r"not a host name|not known|resolution"):
        LIMITED.resolve(host, 80)


@pytest.mark.parametrize("entry", ["", "http://images.lab", "images.lab:80", "10.0.0.0/99"])
def test_entry_that_is_not_a_host_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="not an address, network or host name"):
        Reach.limited([entry])


def test_address_that_the_kernel_has_no_family_for_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        unknown = (10_000, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))  # as AF_INET6 without IPv6
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [unknown, *found])
        EVERYWHERE.connect("images.lab", port, 5).close()


def test_time_to_connect_is_that_of_all_addresses_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        held = [socket.socket() for _ in range(3)]
        for one in held:  # so that connections wait
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        resolves_to(monkeypatch, *["127.0.0.1"] * 50)
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            EVERYWHERE.connect("images.lab", port, 0.1)
        assert time.monotonic() - start < 2  # not 50 times as long
        for one in held:
            one.close()
