"""Nobody keeps others out of a public server, and all of it is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._connection_policy import ConnectionLimits, ConnectionPolicy

LIMITS = ConnectionLimits(
    connections=20, unauthenticated=6, unauthenticated_of_peer=3, waiting=8, of_identity=3
)


def policy(limits: ConnectionLimits = LIMITS) -> ConnectionPolicy[str]:
    return ConnectionPolicy(limits)


def arrive(limiter: ConnectionPolicy[str], *connections: str) -> list[str]:
    """Connections called `PEER NUMBER`; who is let in, and `-NAME` of who is closed."""
    seen = []
    for one in connections:
        evicted = limiter.arrive(one, one.split()[0])
        seen += [] if evicted is None else ["-" + evicted]
        seen += limiter.let_in()
    return seen


def test_an_address_has_a_bounded_number_in_and_the_others_wait_in_order() -> None:
    limiter = policy()
    assert arrive(limiter, "a 1", "a 2", "a 3", "a 4", "a 5") == ["a 1", "a 2", "a 3"]
    assert limiter.waiting == 2
    assert arrive(limiter, "b 1") == ["b 1"], "another address does not wait for that"
    assert limiter.set_authenticated("a 2", "ann")
    assert limiter.let_in() == ["a 4"]
    limiter.leave("a 1")
    assert limiter.let_in() == ["a 5"]


def test_a_site_that_comes_back_at_once_is_let_in_to_the_last_one() -> None:
    limiter: ConnectionPolicy[str] = ConnectionPolicy(ConnectionLimits())
    everybody = [f"site {number}" for number in range(2000)]
    came = arrive(limiter, *everybody)
    done = []
    while came:
        done += came
        assert all(limiter.set_authenticated(one, one) for one in came)
        came = limiter.let_in()
    assert done == everybody


def test_an_address_that_has_none_in_gets_one_at_once() -> None:
    limiter = policy()
    assert len(arrive(limiter, *(f"{peer} {number}" for peer in "ab" for number in range(5)))) == 6
    assert arrive(limiter, "c 1") == ["-a 2", "c 1"], "the newest of an address that has most"
    assert arrive(limiter, "c 2") == [], "a second one waits"


def test_addresses_take_turns() -> None:
    limiter = policy()
    arrive(limiter, *(f"{peer} {number}" for peer in "ab" for number in range(5)))
    for one in ("a 0", "b 0", "a 1", "b 1"):
        limiter.leave(one)
    assert limiter.let_in() == ["a 3", "b 3", "a 4", "b 4"]


def test_when_too_many_wait_the_newest_of_the_longest_line_goes() -> None:
    limiter = policy()
    arrive(limiter, *(f"a {number}" for number in range(11)))
    assert limiter.waiting == LIMITS.waiting
    assert arrive(limiter, "a 11") == ["-a 11"]
    assert arrive(limiter, "b 0", "b 1", "b 2", "b 3") == ["b 0", "b 1", "b 2", "-a 10"]


def test_places_are_contested_when_somebody_waits_for_them() -> None:
    limiter = policy()
    arrive(limiter, "a 1", "a 2", "a 3", "b 1")
    assert limiter.contested("a") == []
    arrive(limiter, "a 4")
    assert limiter.contested("a") == ["a 1", "a 2", "a 3"]
    assert limiter.is_contested("a 1")
    assert not limiter.is_contested("b 1")
    arrive(limiter, "b 2", "b 3", "d 1", "d 2")
    assert len(limiter.contested("d")) == LIMITS.unauthenticated, "all places together are taken"
    assert limiter.is_contested("b 1")


def test_one_identity_has_a_bounded_number() -> None:
    limiter: ConnectionPolicy[str] = ConnectionPolicy(ConnectionLimits(of_identity=3))
    arrive(limiter, *(f"a {number}" for number in range(5)))
    assert [limiter.set_authenticated(f"a {number}", "ann") for number in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    assert limiter.set_authenticated("a 0", "ann"), "it is trusted already"
    assert limiter.set_authenticated("a 4", "bob")
    limiter.leave("a 0")
    assert limiter.set_authenticated("a 3", "ann")


def test_all_connections_together_are_bounded() -> None:
    limiter = policy(ConnectionLimits(connections=2))
    assert arrive(limiter, "a 1", "a 2") == ["a 1", "a 2"]
    assert limiter.set_authenticated("a 1", "ann")
    assert limiter.set_authenticated("a 2", "ann")
    assert arrive(limiter, "a 3") == ["-a 3"], "those that are known stay"
    limiter.leave("a 1")
    assert arrive(limiter, "a 4") == ["a 4"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "trust", "leave"]), st.integers(0, 40), st.sampled_from("abc")),
        max_size=200,
    )
)
def test_whatever_happens_it_is_bounded_and_forgets_nobody(events: list[tuple[str, int, str]]) -> None:
    limiter: ConnectionPolicy[int] = ConnectionPolicy(LIMITS)
    waiting: dict[int, str] = {}
    known: dict[int, str] = {}
    trusted: dict[int, str] = {}

    def let_in() -> None:
        for one in limiter.let_in():
            known[one] = waiting.pop(one)

    for what, number, word in events:
        if what == "arrive" and number not in waiting | known | trusted:
            waiting[number] = word
            evicted = limiter.arrive(number, word)
            assert evicted is None or evicted in waiting | known
            waiting.pop(evicted, None)  # type: ignore[arg-type]
            known.pop(evicted, None)  # type: ignore[arg-type]
        elif what == "trust" and number in known:
            if limiter.set_authenticated(number, word):
                trusted[number] = word
                del known[number]
            else:
                assert list(trusted.values()).count(word) == LIMITS.of_identity
        elif what == "leave":
            limiter.leave(number)
            for group in (waiting, known, trusted):
                group.pop(number, None)
        let_in()
        assert len(limiter) == len(waiting) + len(known) + len(trusted) <= LIMITS.connections
        assert limiter.waiting == len(waiting) <= LIMITS.waiting
        assert limiter.unauthenticated == len(known) <= LIMITS.unauthenticated
        for peer in "abc":
            inside = list(known.values()).count(peer)
            assert inside <= LIMITS.unauthenticated_of_peer
            if peer in waiting.values():
                assert inside == LIMITS.unauthenticated_of_peer or len(known) == LIMITS.unauthenticated
    for number in list(waiting | known | trusted):
        limiter.leave(number)
    assert len(limiter) == 0
    assert not limiter._peers
    assert not limiter._waiting
    assert not limiter._identities
