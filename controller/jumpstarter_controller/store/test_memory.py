"""What the store in memory has beside the contract: several who use the same records."""

from __future__ import annotations

import pytest

from jumpstarter_controller.lab import Client
from jumpstarter_controller.store.memory import MemoryStore
from jumpstarter_controller.store.whole import fill

ANN = Client(namespace="lab", name="ann", uid="1")


@pytest.mark.timeout(20)
def test_each_who_uses_it_is_woken_by_a_wake_of_their_own() -> None:
    one = MemoryStore()
    other = one.another()
    one.wake()
    other.wake()
    cursor = one.snapshot().cursor
    assert one.watch(cursor, 600.0).events == ()
    assert other.watch(cursor, 600.0).events == ()


def test_they_see_each_others_changes_also_behind_what_was_forgotten() -> None:
    one = MemoryStore(most_events=2)
    other = one.another()
    for number in range(3):
        fill(one, Client(namespace="lab", name=f"c{number}", uid=str(number)))
    cursor = other.snapshot().cursor
    fill(one, ANN)
    assert {event.ref for event in other.watch(cursor, 600.0).events} == {(Client, ANN.key)}
