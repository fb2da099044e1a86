"""One lease at a time, the one that the controller wants, and none twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.registration.tenancy import Tenancy, Tenant

A, B = Tenant("a", "ann"), Tenant("b", "bob")


def test_a_lease_from_its_begin_to_its_end() -> None:
    tenancy = Tenancy()
    tenancy.told(A)
    begun = [tenancy.begin() for _ in range(2)]
    assert begun == [A, None], "one at a time"
    carl = Tenant("a", "carl")
    tenancy.told(carl)
    assert (tenancy.served, tenancy.is_over) == (carl, False)
    tenancy.told(None)
    assert tenancy.is_over
    tenancy.done()
    assert tenancy.begin() is None


def test_a_lease_that_we_ended_is_not_begun_again() -> None:
    tenancy = Tenancy()
    tenancy.told(A)
    tenancy.begin()
    tenancy.done()
    tenancy.told(A)
    assert tenancy.begin() is None
    tenancy.told(None)
    tenancy.told(A)
    assert tenancy.begin() == A, "said anew, it is meant"


def test_a_direct_switch_ends_the_first_before_the_second_begins() -> None:
    tenancy = Tenancy()
    tenancy.told(A)
    tenancy.begin()
    tenancy.told(B)
    assert tenancy.is_over
    assert tenancy.begin() is None
    tenancy.done()
    assert tenancy.begin() == B


@given(st.lists(st.sampled_from(["a", "b", "none", "begin", "done"]), max_size=40))
def test_whatever_comes_the_last_word_is_served_in_the_end(events: list[str]) -> None:
    tenancy = Tenancy()
    for event in events:
        match event:
            case "begin":
                tenancy.begin()
            case "done":
                tenancy.done()
            case word:
                tenancy.told(None if word == "none" else Tenant(word, "x"))
    tenancy.told(None)
    assert tenancy.served is None or tenancy.is_over
    tenancy.done()
    tenancy.told(B)
    assert tenancy.begin() == B
    assert not tenancy.is_over
