from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc import Attempts, network_of
from jumpstarter_proto.rpc._attempts import MAX_PEERS


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 30)), max_size=80))
def test_in_no_minute_are_there_more_of_a_peer_or_of_those_who_were_wrong_before(
    steps: list[tuple[int, float]],
) -> None:
    attempts = Attempts(per_peer=5, overall=12)
    now, taken = 0.0, list[tuple[int, float]]()
    for peer, pause in steps:
        now += pause
        wait = attempts.take(str(peer), now)
        recent = [one for one, then in taken if then > now - 60]
        allowed = peer not in recent or (len(recent) < 12 and recent.count(peer) < 5)
        assert (wait == 0) == allowed
        assert 0 <= wait <= 60
        if wait:
            # It is right about when the peer may try again.
            assert attempts.take(str(peer), now + wait * 0.9) > 0
            now += wait + 1e-6
            assert attempts.take(str(peer), now) == 0
        taken.append((peer, now))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 20)), max_size=60))
def test_right_ones_leave_nothing_behind(steps: list[tuple[str, bool, float]]) -> None:
    attempts, without = Attempts(per_peer=2, overall=3), Attempts(per_peer=2, overall=3)
    now = 0.0
    for peer, is_right, pause in steps:
        now += pause + 1e-3
        wait = attempts.take(peer, now)
        if not is_right:
            assert wait == without.take(peer, now)
        elif not wait:
            attempts.give_back(peer, now)
    assert attempts._peers.keys() <= without._peers.keys()


def test_guesses_from_many_addresses_lock_out_nobody_else() -> None:
    attempts = Attempts()
    for number in range(600):
        assert attempts.take(f"guesser {number % 60}", number / 10) == 0
    assert attempts.take("guesser 1", 59.9) > 0
    for number in range(1000):
        assert attempts.take("user", 59.9) == 0
        attempts.give_back("user", 59.9)
        assert attempts.take(f"newcomer {number}", 59.9) == 0
    # Who was wrong once, long ago, is as new.
    assert attempts.take("newcomer 1", 120.0) == 0


def test_many_addresses_take_little_memory_and_only_for_a_minute() -> None:
    attempts = Attempts(per_peer=2, overall=10)
    for number in range(MAX_PEERS + 50):
        assert attempts.take(str(number), number / MAX_PEERS) == 0
    assert len(attempts._peers) == MAX_PEERS
    assert attempts.take(str(number), 1.5) > 0
    for number in range(MAX_PEERS):
        assert attempts.take("user", 120.0 + 60 * number) == 0
    assert list(attempts._peers) == ["user"]


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
