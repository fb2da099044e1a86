"""Nobody keeps others out of a public server, and all of it is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._admission import Admission, Limits

LIMITS = Limits(connections=20, unauthenticated=6, unauthenticated_of_peer=3, waiting=8, of_identity=3)


def admission(limits: Limits = LIMITS) -> Admission[str]:
    return Admission(limits)


def arrive(gate: Admission[str], *connections: str) -> list[str]:
    """Connections called `PEER NUMBER`; who is let in, and `-NAME` of who is closed."""
    seen = []
    for one in connections:
        victim = gate.arrive(one, one.split()[0])
        seen += [] if victim is None else ["-" + victim]
        seen += gate.let_in()
    return seen


def test_an_address_has_a_bounded_number_in_and_the_others_wait_in_order() -> None:
    gate = admission()
    assert arrive(gate, "a 1", "a 2", "a 3", "a 4", "a 5") == ["a 1", "a 2", "a 3"]
    assert gate.waiting == 2
    assert arrive(gate, "b 1") == ["b 1"], "another address does not wait for that"
    assert gate.trust("a 2", "ann")
    assert gate.let_in() == ["a 4"]
    gate.leave("a 1")
    assert gate.let_in() == ["a 5"]


def test_a_site_that_comes_back_at_once_is_let_in_to_the_last_one() -> None:
    gate: Admission[str] = Admission(Limits())
    everybody = [f"site {number}" for number in range(2000)]
    came = arrive(gate, *everybody)
    done = []
    while came:
        done += came
        assert all(gate.trust(one, one) for one in came)
        came = gate.let_in()
    assert done == everybody


def test_an_address_that_has_none_in_gets_one_at_once() -> None:
    gate = admission()
    assert len(arrive(gate, *(f"{peer} {number}" for peer in "ab" for number in range(5)))) == 6
    assert arrive(gate, "c 1") == ["-a 2", "c 1"], "the newest of an address that has most"
    assert arrive(gate, "c 2") == [], "a second one waits"


def test_addresses_take_turns() -> None:
    gate = admission()
    arrive(gate, *(f"{peer} {number}" for peer in "ab" for number in range(5)))
    for one in ("a 0", "b 0", "a 1", "b 1"):
        gate.leave(one)
    assert gate.let_in() == ["a 3", "b 3", "a 4", "b 4"]


def test_when_too_many_wait_the_newest_of_the_longest_line_goes() -> None:
    gate = admission()
    arrive(gate, *(f"a {number}" for number in range(11)))
    assert gate.waiting == LIMITS.waiting
    assert arrive(gate, "a 11") == ["-a 11"]
    assert arrive(gate, "b 0", "b 1", "b 2", "b 3") == ["b 0", "b 1", "b 2", "-a 10"]


def test_places_are_contested_when_somebody_waits_for_them() -> None:
    gate = admission()
    arrive(gate, "a 1", "a 2", "a 3", "b 1")
    assert gate.contested("a") == []
    arrive(gate, "a 4")
    assert gate.contested("a") == ["a 1", "a 2", "a 3"]
    assert gate.is_contested("a 1")
    assert not gate.is_contested("b 1")
    arrive(gate, "b 2", "b 3", "d 1", "d 2")
    assert len(gate.contested("d")) == LIMITS.unauthenticated, "all places together are taken"
    assert gate.is_contested("b 1")


def test_one_identity_has_a_bounded_number() -> None:
    gate: Admission[str] = Admission(Limits(of_identity=3))
    arrive(gate, *(f"a {number}" for number in range(5)))
    assert [gate.trust(f"a {number}", "ann") for number in range(4)] == [True, True, True, False]
    assert gate.trust("a 0", "ann"), "it is trusted already"
    assert gate.trust("a 4", "bob")
    gate.leave("a 0")
    assert gate.trust("a 3", "ann")


def test_all_connections_together_are_bounded() -> None:
    gate = admission(Limits(connections=2))
    assert arrive(gate, "a 1", "a 2") == ["a 1", "a 2"]
    assert gate.trust("a 1", "ann")
    assert gate.trust("a 2", "ann")
    assert arrive(gate, "a 3") == ["-a 3"], "those that are known stay"
    gate.leave("a 1")
    assert arrive(gate, "a 4") == ["a 4"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "trust", "leave"]), st.integers(0, 40), st.sampled_from("abc")),
        max_size=200,
    )
)
def test_whatever_happens_it_is_bounded_and_forgets_nobody(events: list[tuple[str, int, str]]) -> None:
    gate: Admission[int] = Admission(LIMITS)
    waiting: dict[int, str] = {}
    known: dict[int, str] = {}
    trusted: dict[int, str] = {}

    def let_in() -> None:
        for one in gate.let_in():
            known[one] = waiting.pop(one)

    for what, number, word in events:
        if what == "arrive" and number not in waiting | known | trusted:
            waiting[number] = word
            victim = gate.arrive(number, word)
            assert victim is None or victim in waiting | known
            waiting.pop(victim, None)  # type: ignore[arg-type]
            known.pop(victim, None)  # type: ignore[arg-type]
        elif what == "trust" and number in known:
            if gate.trust(number, word):
                trusted[number] = word
                del known[number]
            else:
                assert list(trusted.values()).count(word) == LIMITS.of_identity
        elif what == "leave":
            gate.leave(number)
            for group in (waiting, known, trusted):
                group.pop(number, None)
        let_in()
        assert len(gate) == len(waiting) + len(known) + len(trusted) <= LIMITS.connections
        assert gate.waiting == len(waiting) <= LIMITS.waiting
        assert gate.unauthenticated == len(known) <= LIMITS.unauthenticated
        for peer in "abc":
            inside = list(known.values()).count(peer)
            assert inside <= LIMITS.unauthenticated_of_peer
            if peer in waiting.values():
                assert inside == LIMITS.unauthenticated_of_peer or len(known) == LIMITS.unauthenticated
    for number in list(waiting | known | trusted):
        gate.leave(number)
    assert len(gate) == 0
    assert not gate._peers
    assert not gate._waiting
    assert not gate._identities
