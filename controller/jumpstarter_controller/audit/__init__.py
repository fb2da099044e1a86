"""Who did what in the lab, and when: kept in a file of its own for as long as is set, and never in a lease's way."""

from __future__ import annotations

from jumpstarter_controller.audit.audit_file import JournalError, JournalQuery
from jumpstarter_controller.audit.audit_log import Journal, JournalLimits
from jumpstarter_controller.audit.entry import CallReport, JournalEntry, Source, ignore

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
