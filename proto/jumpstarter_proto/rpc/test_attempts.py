from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc import Attempts, network_of
from jumpstarter_proto.rpc._attempts import PEERS


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30)), max_size=80))
def test_never_more_than_twice_a_minutes_budget_in_any_minute(steps: list[tuple[int, float]]) -> None:
    attempts = Attempts(per_peer=5, overall=12)
    now, taken = 0.0, list[tuple[int, float]]()
    for peer, pause in steps:
        now += pause
        wait = attempts.take(str(peer), now)
        assert 0 <= wait <= 60
        if not wait:
            taken.append((peer, now))
        recent = [one for one, then in taken if then > now - 60]
        assert len(recent) <= 24
        assert recent.count(peer) <= 10
        if wait:
            # It is right about when the peer may try again.
            assert attempts.take(str(peer), now + wait * 0.9) > 0
            now += wait + 1e-6
            assert attempts.take(str(peer), now) == 0
            taken.append((peer, now))


def test_right_ones_cost_nothing() -> None:
    attempts = Attempts(per_peer=2, overall=3)
    for _ in range(50):
        assert attempts.take("a", 1.0) == 0
        attempts.give_back("a", 1.0)
    assert [attempts.take("a", 1.0) > 0 for _ in range(3)] == [False, False, True]


def test_many_addresses_share_one_budget_and_little_memory() -> None:
    attempts = Attempts(per_peer=2, overall=PEERS + 10)
    free = sum(attempts.take(str(number), 0.0) == 0 for number in range(PEERS + 50))
    assert free == PEERS + 10
    assert len(attempts._peers) == PEERS


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::/64"),
        ("ipv6:[2001:db8::2:3]:1", "2001:db8::/64"),
        ("ipv6:[::ffff:192.0.2.1]:5000", "192.0.2.1"),
        ("ipv6:[fe80::1%eth0]:5000", "fe80::/64"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_who_counts_as_one(peer: str, network: str) -> None:
    assert network_of(peer) == network
