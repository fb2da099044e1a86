"""The audit log (for users: the journal): who did what and when. Its separate file never delays a lease."""

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
