"""Who did what in the lab, and when: kept in a file of its own for as long as is set, and never in a lease's way."""

from __future__ import annotations

from jumpstarter_controller.audit.audit_file import AuditError, AuditQuery
from jumpstarter_controller.audit.audit_log import AuditLimits, AuditLog
from jumpstarter_controller.audit.entry import AuditEntry, CallReport, Source, ignore

__all__ = [
    "AuditEntry",
    "AuditError",
    "AuditLimits",
    "AuditLog",
    "AuditQuery",
    "CallReport",
    "Source",
    "ignore",
]
