"""Nobody keeps others out of a public server, and all of it is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._admission import Admission, Limits

LIMITS = Limits(connections=20, strangers=10, strangers_of_peer=6, of_identity=3)


def test_the_greedy_peer_pays_for_a_newcomer() -> None:
    admission: Admission[int] = Admission(LIMITS)
    for number in range(6):
        assert admission.arrive(number, "bad", 0.0) is None
    for number in range(10, 14):
        assert admission.arrive(number, "good", 0.0) is None
    assert admission.arrive(20, "other", 1.0) == 5, "its newest: the oldest has not had its time"
    assert admission.arrive(21, "other", 6.0) == 0, "its oldest"


def test_where_nobody_is_greedy_those_who_came_first_are_let_in_first() -> None:
    admission: Admission[int] = Admission(LIMITS)
    for number in range(10):
        assert admission.arrive(number, f"peer {number}", float(number) / 10) is None
    assert admission.arrive(10, "late", 1.0) == 10, "the newcomer comes again"
    assert admission.trust(0, "one")
    assert admission.arrive(11, "late", 1.0) is None
    assert admission.arrive(12, "last", 5.2) == 1, "it is the oldest, and had its time"


def test_one_peer_has_a_bounded_number_and_keeps_the_first() -> None:
    admission: Admission[int] = Admission(LIMITS)
    for number in range(6):
        assert admission.arrive(number, "bad", 0.0) is None
    assert admission.arrive(6, "bad", 1.0) == 6, "the newcomer"
    assert admission.trust(0, "")
    assert admission.arrive(7, "bad", 1.0) is None
    assert admission.arrive(8, "bad", 9.0) == 1


def test_one_identity_has_a_bounded_number() -> None:
    admission: Admission[int] = Admission(LIMITS)
    for number in range(5):
        admission.arrive(number, "peer", 0.0)
    assert [admission.trust(number, "ann") for number in range(4)] == [True, True, True, False]
    assert admission.trust(0, "ann"), "it is trusted already"
    assert admission.trust(4, "bob")
    admission.leave(0)
    assert admission.trust(3, "ann")


def test_all_connections_together_are_bounded() -> None:
    admission: Admission[int] = Admission(
        Limits(connections=2, strangers=10, strangers_of_peer=6, of_identity=2)
    )
    for number in range(2):
        assert admission.arrive(number, "peer", 0.0) is None
        assert admission.trust(number, "ann")
    assert admission.arrive(2, "peer", 0.0) == 2, "the newcomer: those that are known stay"
    admission.leave(0)
    assert admission.arrive(3, "peer", 0.0) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "trust", "leave"]), st.integers(0, 40), st.sampled_from("abc")),
        max_size=200,
    )
)
def test_whatever_happens_it_is_bounded_and_forgets_nobody(events: list[tuple[str, int, str]]) -> None:
    admission: Admission[int] = Admission(LIMITS)
    here: set[int] = set()
    trusted: dict[int, str] = {}
    now = 0.0
    for what, number, word in events:
        now += 0.7
        if what == "arrive" and number not in here:
            here.add(number)
            victim = admission.arrive(number, word, now)
            if victim is not None:
                assert victim in here
                assert victim not in trusted
                here.remove(victim)
        elif what == "trust" and number in here:
            if admission.trust(number, word):
                trusted.setdefault(number, word)
            else:
                assert list(trusted.values()).count(word) == LIMITS.of_identity
        elif what == "leave":
            admission.leave(number)
            here.discard(number)
            trusted.pop(number, None)
        assert len(admission) == len(here)
        assert admission.strangers == len(here) - len(trusted) <= LIMITS.strangers
        assert len(here) <= max(LIMITS.connections, len(trusted))
    for number in list(here):
        admission.leave(number)
    assert len(admission) == 0
    assert not admission._peers
    assert not admission._identities
