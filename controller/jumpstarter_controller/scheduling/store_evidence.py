"""What an irreversible decision rests on has to be so now: the one place that says whether it is. No I/O.

That a record is not there proves nothing: it may be on its way. Nor do records that are there: they may have been
changed since they were heard of, and of a batch of policies some may be still to come. Who decides what cannot be taken
back asks here. Whoever has a store looks there, before the decision is written: when something is otherwise, or is not
known, it is decided again; but not for ever, where others change something all the time.
"""

from __future__ import annotations

from jumpstarter_controller.lab import Draft, Record
from jumpstarter_controller.lab.tables import RecordRef

__all__ = ["POLICY_SECONDS", "StoreEvidence"]

MAX_NEWER = 4
"""When so often in one turn something was newer, what rests on it waits for a later turn, and all else goes on."""
POLICY_SECONDS = 2.0
"""So long after somebody else has changed a policy nothing is decided that rests on policies."""


class StoreEvidence:
    """What is known of the store at this moment, and what has to be looked up."""

    def __init__(self, *, asks: bool = False) -> None:
        """Unless it `asks`, what is in a lab is so, and what is not in it is nowhere."""
        self._asks = asks
        self._gone: set[RecordRef] = set()
        self._unknown: set[RecordRef | type[Record]] = set()
        self.refs: set[RecordRef] = set()
        """Which have to be looked up before it can be decided: answer with `prove_gone` or `fail`."""
        self.kinds: set[type[Record]] = set()
        """What was decided rests on all records of these: if some have changed, or with `fail`, decide again."""
        self._newer = 0
        self._policies_changed = -POLICY_SECONDS
        self._has_new_policies = False

    @property
    def is_open(self) -> bool:
        """Whether something could not be found out."""
        return bool(self._unknown)

    def begin(self) -> None:
        """A moment later: what was known may be otherwise."""
        self._gone.clear()
        self._unknown.clear()
        self._newer = 0
        self.decide_anew()

    def decide_anew(self) -> None:
        """What was decided is undone, and nothing rests on anything."""
        self.refs.clear()
        self.kinds.clear()

    def is_gone(self, draft: Draft, ref: RecordRef) -> bool:
        """Whether that record, which the lab does not have, is nowhere."""
        if not self._asks or ref in self._gone or ref in draft.before():
            return True
        if ref not in self._unknown:
            self.refs.add(ref)
        return False

    def is_current(self, *kinds: type[Record]) -> bool:
        """Whether it can be decided as if the lab had all records of these kinds as they are now."""
        if not self._asks:
            return True
        if not self._unknown.isdisjoint(kinds):
            return False
        self.kinds.update(kinds)
        return True

    def note_time(self, now: float) -> None:
        """It is now; policies that were changed since this was noted last were changed now."""
        if self._has_new_policies:
            self._policies_changed, self._has_new_policies = now, False

    def policies_settle(self, now: float) -> float | None:
        """When it may be decided upon policies; None: now."""
        due = self._policies_changed + POLICY_SECONDS
        return due if self._policies_changed <= now < due else None  # a clock may have been set back

    def note_policies(self) -> None:
        """Somebody else has changed policies, or not all of a batch of ours were changed."""
        self._has_new_policies = True

    def prove_gone(self, ref: RecordRef) -> None:
        """The store does not have it."""
        self.refs.discard(ref)
        self._gone.add(ref)

    def note_newer(self, *kinds: type[Record]) -> None:
        """What was decided rests on these, and something of them is newer."""
        self._newer += 1
        if self._newer >= MAX_NEWER:
            self.fail(*kinds)

    def fail(self, *questions: RecordRef | type[Record]) -> None:
        """It cannot be found out at this moment."""
        self.refs.difference_update(questions)
        self.kinds.difference_update(questions)
        self._unknown.update(questions)
