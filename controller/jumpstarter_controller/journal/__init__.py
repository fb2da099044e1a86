"""Who did what in the lab, and when: kept in a file of its own for as long as is set, and never in a lease's way."""

from __future__ import annotations

from jumpstarter_controller.journal.entry import CallReport, JournalEntry, Source, ignore
from jumpstarter_controller.journal.journal import Journal, JournalLimits
from jumpstarter_controller.journal.journal_file import JournalError, JournalQuery

__all__ = [
    "CallReport",
    "Journal",
    "JournalEntry",
    "JournalError",
    "JournalLimits",
    "JournalQuery",
    "Source",
    "ignore",
]
