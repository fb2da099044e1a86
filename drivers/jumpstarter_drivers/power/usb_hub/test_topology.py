"""Names of ports, and which two of them are one socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.power.usb_hub.topology import (
    PortLocation,
    UsbHub,
    find_peer,
    pair_hubs,
    parse_port,
)


@pytest.mark.parametrize(
    ("port", "hub", "location"),
    [
        ("1-1.3", None, PortLocation("1-1", 3)),
        ("12-1.4.2", None, PortLocation("12-1.4", 2)),
        ("1-2", None, PortLocation("usb1", 2)),
        (3, "1-1", PortLocation("1-1", 3)),
        ("3", "usb2", PortLocation("usb2", 3)),
        (3, "2-0", PortLocation("usb2", 3)),
    ],
)
def test_port_is_named_as_in_sysfs(port: str | int, hub: str | None, location: PortLocation) -> None:
    assert parse_port(port, hub) == location


@pytest.mark.parametrize(
    ("port", "hub", "complaint"),
    [
        (3, None, "such as 1-1.3"),
        ("1-1.3\n", None, "such as 1-1.3"),
        ("../1-1", None, "such as 1-1.3"),
        ("1-1:1.0", None, "such as 1-1.3"),
        ("1-0", None, "such as 1-1.3"),
        ("1-1.٣", None, "such as 1-1.3"),
        ("1-1.3", "1-1", "takes a number"),
        (3, "../..", "such as 1-1 or usb1"),
        (0, "1-1", "ports 1 to 31"),
        (32, "1-1", "ports 1 to 31"),
        ("1-1.2.3.4.5.6.7.8.9", None, "too many hubs"),
    ],
)
def test_what_names_no_port_is_refused(port: str | int, hub: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_port(port, hub)


paths = st.lists(st.integers(1, 31), min_size=1, max_size=6)


@given(st.integers(1, 99), paths)
def test_name_of_a_port_leads_back_to_it(bus: int, path: list[int]) -> None:
    location = parse_port(f"{bus}-{'.'.join(map(str, path))}")
    assert parse_port(location.name) == location
    assert parse_port(location.number, location.hub) == location


IDS = [None, "aa" * 16, "bb" * 16]


@st.composite
def hosts(draw: st.DrawFn) -> Sequence[UsbHub]:
    """Hubs at any places, with ids that makers repeat and links as a kernel would guess them."""
    names = draw(
        st.lists(
            st.tuples(st.integers(1, 4), st.lists(st.integers(1, 3), max_size=3)),
            unique_by=repr,
            min_size=1,
            max_size=8,
        )
    )
    hubs = [
        UsbHub(
            f"{bus}-{'.'.join(map(str, path))}" if path else f"usb{bus}",
            is_superspeed=bus % 2 == 0,
            port_count=draw(st.integers(1, 4)),
            vendor_id=draw(st.sampled_from(["0451", "2109"])),
            serial=draw(st.sampled_from(["", "", "A", "B"])),
            container_id=draw(st.sampled_from(IDS)),
            is_built_in=not path,
        )
        for bus, path in names
    ]
    locations = [location for hub in hubs for location in hub.ports]
    return [
        replace(
            hub,
            peers={location.number: draw(st.sampled_from(locations)) for location in hub.ports}
            if draw(st.booleans())
            else {},
        )
        for hub in hubs
    ]


@given(hosts())
def test_the_peer_of_a_peer_is_the_port_itself_and_of_the_other_speed(hubs: Sequence[UsbHub]) -> None:
    known = {hub.name: hub for hub in hubs}
    for hub in hubs:
        for location in hub.ports:
            peer = find_peer(location, hubs)
            if peer is None:
                continue
            other = known[peer.hub]
            assert find_peer(peer, hubs) == location
            assert peer in other.ports
            assert other.is_superspeed != hub.is_superspeed
            assert other.is_built_in == hub.is_built_in
            assert not hub.container_id or other.container_id in (None, hub.container_id)


@given(hosts())
def test_each_hub_has_one_other_half_at_most(hubs: Sequence[UsbHub]) -> None:
    pairs = pair_hubs(hubs)
    assert all(pairs[pairs[name]] == name for name in pairs)


@given(hosts(), st.randoms())
def test_pairs_do_not_depend_on_the_order_in_which_hubs_are_found(
    hubs: Sequence[UsbHub], random: object
) -> None:
    shuffled = list(hubs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert pair_hubs(shuffled) == pair_hubs(hubs)


def hub(name: str, ports: int = 4, vendor: str = "0451", **fields: object) -> UsbHub:
    bus = int(name.removeprefix("usb").partition("-")[0])
    return UsbHub(
        name,
        is_superspeed=bus % 2 == 0,
        port_count=ports,
        vendor_id=vendor,
        is_built_in=name.startswith("usb"),
        **fields,  # type: ignore[arg-type]
    )


def linked(one: UsbHub, other: UsbHub) -> list[UsbHub]:
    """As the kernel links them."""
    numbers = range(1, min(one.port_count, other.port_count) + 1)
    return [
        replace(one, peers={number: PortLocation(other.name, number) for number in numbers}),
        replace(other, peers={number: PortLocation(one.name, number) for number in numbers}),
    ]


def test_the_kernels_link_is_the_peer() -> None:
    hubs = linked(hub("1-1"), hub("2-3", vendor="05e3"))
    assert find_peer(PortLocation("1-1", 3), hubs) == PortLocation("2-3", 3)


def test_a_usb_2_hub_has_no_peer() -> None:
    assert find_peer(PortLocation("1-1", 3), [hub("1-1"), hub("2-2", vendor="05e3"), hub("usb2")]) is None


def test_equal_container_ids_are_told_apart_by_place() -> None:
    same = "cc" * 16
    hubs = [hub(name, container_id=same) for name in ("1-1", "1-2", "2-1", "2-2")]
    assert pair_hubs(hubs) == {"1-1": "2-1", "1-2": "2-2", "2-1": "1-1", "2-2": "1-2"}


def test_hubs_of_different_containers_are_none_wherever_they_are() -> None:
    assert pair_hubs([hub("1-1", container_id="aa"), hub("2-1", container_id="bb")]) == {}


def test_hubs_that_say_nothing_are_paired_only_at_the_same_place_and_of_the_same_maker() -> None:
    assert pair_hubs([hub("1-1"), hub("2-1")]) == {"1-1": "2-1", "2-1": "1-1"}
    assert pair_hubs([hub("1-1"), hub("2-1", vendor="05e3")]) == {}
    assert pair_hubs([hub("1-1.4"), hub("2-2.3")]) == {}


def raspberry_pi_4(external: int) -> list[UsbHub]:
    """A USB 3 hub in a socket of a Raspberry Pi 4, whose USB 2 ports are behind one hub more than its USB 3 ports."""
    roots = linked(hub("usb1", 1), hub("usb2", 4))
    board = replace(hub("1-1", vendor="2109"), is_built_in=True)
    slow, fast = hub(f"1-1.{external}", vendor="05e3"), hub(f"2-{external}", vendor="05e3")
    if external == 1:
        # The kernel takes what is in the first fast socket for the other half of the hub on the board.
        board, fast = linked(board, fast)
    return [*roots, board, slow, fast]


@pytest.mark.parametrize("external", [1, 2, 3, 4])
def test_a_hub_in_a_raspberry_pi_4_is_not_taken_for_the_boards_own(external: int) -> None:
    hubs = raspberry_pi_4(external)
    assert find_peer(PortLocation(f"1-1.{external}", 2), hubs) == PortLocation(f"2-{external}", 2)
    assert find_peer(PortLocation("1-1", 2), hubs) is None
