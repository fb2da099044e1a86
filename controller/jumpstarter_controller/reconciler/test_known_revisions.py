"""What is kept of records that are gone has a bound."""

from __future__ import annotations

from jumpstarter_controller.lab import Client, Key
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.known_revisions import MAX_DELETED, KnownRevisions
from jumpstarter_controller.store import Stored, StoreEvent


def test_of_records_that_are_gone_the_last_ones_are_remembered_and_no_more() -> None:
    known = KnownRevisions({})
    refs: list[RecordRef] = [(Client, Key("lab", f"c{number}")) for number in range(MAX_DELETED + 10)]
    for number, ref in enumerate(refs):
        revision = 2 * number + 1
        made = StoreEvent(ref, revision, Stored(Client(namespace="lab", name=ref[1].name), revision))
        assert known.take([made]) == {ref: made.record}
        assert known.take([StoreEvent(ref, revision + 1, None)]) == {ref: None}
        assert not known.take([made]), "what was there before it was gone is nothing new"
    assert len(known._gone) == MAX_DELETED
