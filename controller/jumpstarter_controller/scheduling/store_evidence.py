"""Checks irreversible decisions against the store. No I/O.

A missing record proves nothing: its watch event may still be on the way. A known record may have changed since, and of
a batch of policies some may still be missing. So an irreversible decision asks here which records it depends on. The
owner of the store reads them before the decision is written; if one is different or unknown, the decision is made
again. The number of attempts per turn is limited, because other writers may change records all the time.
"""

from __future__ import annotations

from jumpstarter_controller.lab import Draft, Record
from jumpstarter_controller.lab.tables import RecordRef

__all__ = ["POLICY_SECONDS", "StoreEvidence"]

MAX_NEWER = 4
"""After this many newer records in one turn, decisions that depend on them wait for a later turn."""
POLICY_SECONDS = 2.0
"""For this time after another writer changed a policy, nothing irreversible is decided that depends on policies."""


class StoreEvidence:
    """What is known about the store in this turn, and what has to be looked up."""

    def __init__(self, *, asks: bool = False) -> None:
        """Without `asks`, the draft is taken as complete and current."""
        self._asks = asks
        self._gone: set[RecordRef] = set()
        self._unknown: set[RecordRef | type[Record]] = set()
        self.refs: set[RecordRef] = set()
        """Records to look up before the decision can be made. Answer with `prove_gone` or `fail`."""
        self.kinds: set[type[Record]] = set()
        """Kinds that the decisions depend on: if some records have changed, or after `fail`, decide again."""
        self._newer = 0
        self._policies_changed = -POLICY_SECONDS
        self._has_new_policies = False

    @property
    def is_open(self) -> bool:
        """Whether something could not be looked up."""
        return bool(self._unknown)

    def begin(self) -> None:
        """Begin a turn: forget everything that was looked up."""
        self._gone.clear()
        self._unknown.clear()
        self._newer = 0
        self.decide_anew()

    def decide_anew(self) -> None:
        """The decisions were undone: forget what they depended on."""
        self.refs.clear()
        self.kinds.clear()

    def is_gone(self, draft: Draft, ref: RecordRef) -> bool:
        """Whether that record, which is missing in the draft, does not exist in the store either."""
        if not self._asks or ref in self._gone or ref in draft.before():
            return True
        if ref not in self._unknown:
            self.refs.add(ref)
        return False

    def is_current(self, *kinds: type[Record]) -> bool:
        """Whether a decision may rely on all records of these kinds in the draft."""
        if not self._asks:
            return True
        if not self._unknown.isdisjoint(kinds):
            return False
        self.kinds.update(kinds)
        return True

    def note_time(self, now: float) -> None:
        """Set the time; policy changes since the last call count as changed now."""
        if self._has_new_policies:
            self._policies_changed, self._has_new_policies = now, False

    def policies_settle(self, now: float) -> float | None:
        """When decisions may depend on policies again; None: now."""
        due = self._policies_changed + POLICY_SECONDS
        return due if self._policies_changed <= now < due else None  # a clock may have been set back

    def note_policies(self) -> None:
        """Another writer changed policies, or a batch of policy changes was cut."""
        self._has_new_policies = True

    def prove_gone(self, ref: RecordRef) -> None:
        """The store does not have that record."""
        self.refs.discard(ref)
        self._gone.add(ref)

    def note_newer(self, *kinds: type[Record]) -> None:
        """Records of these kinds, which the decisions depend on, are newer in the store."""
        self._newer += 1
        if self._newer >= MAX_NEWER:
            self.fail(*kinds)

    def fail(self, *questions: RecordRef | type[Record]) -> None:
        """These cannot be looked up at this moment."""
        self.refs.difference_update(questions)
        self.kinds.difference_update(questions)
        self._unknown.update(questions)
