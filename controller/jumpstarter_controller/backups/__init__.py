"""Backups: a lab in one file, made while the controller runs, and restored while it does not."""

from jumpstarter_controller.backups.archive import BackupError, Contents, read_backup, write_backup
from jumpstarter_controller.backups.restore import Restored, restore

__all__ = ["BackupError", "Contents", "Restored", "read_backup", "restore", "write_backup"]
