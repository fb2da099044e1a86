"""Watches the Secret with the keys of a lab while a controller serves, and restores deleted content.

A controller that starts without the Secret creates new keys, which make all tokens and certificates of the lab invalid.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import trio

from jumpstarter_controller.replicas.shared_files import SharedSecret
from jumpstarter_controller.store import StoreError

__all__ = ["SharedFilesWatch"]

LOOK_SECONDS = 5.0
CERTIFICATES = ".crt"
"""Each controller renews these by itself, under the same keys."""

_log = logging.getLogger(__name__)


class SharedFilesWatch:
    """`run` has to run."""

    def __init__(self, secret: SharedSecret, files: Iterable[Path]) -> None:
        """Blocking: read the files with which this controller serves."""
        self._secret = secret
        self._files = {path.name: path.read_bytes() for path in files}
        self.warning = ""
        """A warning for the administrator of the lab; empty while all controllers have the same keys."""
        self._trouble = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Look at the Secret again and again, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                warning = await trio.to_thread.run_sync(self._check, abandon_on_cancel=True)
            except StoreError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.warning("the Secret %s cannot be checked: %s", self._secret.NAME, error)
                continue
            self._trouble = ""
            if warning and warning != self.warning:
                _log.warning("%s", warning)
            self.warning = warning

    def _check(self) -> str:
        """Put back what is missing; what is wrong with the rest."""
        name = self._secret.NAME
        found = self._secret.read()
        if found is None:
            if self._secret.make(self._files):
                _log.warning(
                    "the Secret %s was deleted; this controller has restored it with its keys, so tokens stay valid. "
                    "For new keys, stop all controllers of the lab before deleting it",
                    name,
                )
            return ""  # or another controller was first: the next look compares
        if missing := {one: data for one, data in self._files.items() if not found.get(one)}:
            self._secret.add(missing)
            _log.warning(
                "%s was removed from the Secret %s; this controller has restored it",
                ", ".join(sorted(missing)),
                name,
            )
        others = sorted(
            one
            for one, data in self._files.items()
            if found.get(one) and not one.endswith(CERTIFICATES) and not hmac.compare_digest(found[one], data)
        )
        if not others:
            return ""
        return (
            f"the Secret {name} has another {', '.join(others)} than this controller: tokens and certificates of "
            "controllers that started later are not valid here. Start this controller again to have it use what is in "
            "the Secret; or, to keep what this one has, stop the others, delete the Secret, and start them when it is "
            "there again"
        )
