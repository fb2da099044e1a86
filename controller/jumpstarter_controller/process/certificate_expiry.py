"""The expiry of the server's certificate: a warning long before, and renewal of our own certificates.

A certificate that the controller created is replaced by one with the same key, name and hosts. Clients that pinned the
old certificate trust the new one, because they compare the key. Clients of Jumpstarter 0.9 also check the expiry of the
pinned certificate, so they need a new configuration before; a warning says so.
"""

from __future__ import annotations

import logging
import time
from typing import NoReturn

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import ServerTls

from jumpstarter_controller.process.certificates import Certificate, CertificateError, renew

__all__ = ["CertificateExpiry", "expiry_warning"]

WARN_SECONDS = 30 * 86400.0
LOOK_SECONDS = 3600.0
SAY_SECONDS = 86400.0
"""The warning is logged once a day."""

_log = logging.getLogger(__name__)


def expiry_warning(ends: float, now: float) -> str:
    """The warning about a certificate that expires at `ends` (seconds since the epoch); empty: not needed yet."""
    left = ends - now
    if not ends or left >= WARN_SECONDS:
        return ""
    if left <= 0:
        return f"the TLS certificate ended {-left / 86400:.0f} days ago; replace it and its key"
    return f"the TLS certificate ends in {left / 86400:.0f} days; replace it and its key until then"


class CertificateExpiry:
    """Monitors the expiry of the served certificate."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._said = ("", 0.0)
        self._trouble = ""
        self.last_warning = ""
        """What `say` has found: at most an hour old, while `watch` runs."""

    def warning(self) -> str:
        """Return a warning for the administrator of the lab; usually empty. Blocking."""
        try:
            return self._warning(time.time())
        except CertificateError as error:  # others may be replacing it in this moment
            return str(error)

    def _warning(self, now: float) -> str:
        if found := expiry_warning(self._certificate.ends(), now):
            return f"{found} ({self._certificate.chain}{self._trouble})"
        before = self._certificate.before
        if before is not None and before.chain.exists() and now < before.ends() < now + WARN_SECONDS:
            return (
                f"the certificate that was made here first ends in {(before.ends() - now) / 86400:.0f} days, and has "
                "been renewed under its key; clients and exporters of Jumpstarter's own that were configured "
                "before need a new configuration until then: jumpstarter-controller admin client rotate NAME"
            )
        return ""

    def renew_in_time(self) -> bool:
        """Blocking: whether there is a new certificate now, as the one before is near its end, or has not begun.

        One that cannot be written is tried again with the next look.
        """
        own, now = self._certificate, time.time()
        if not own.self_signed or (own.ends() - now >= WARN_SECONDS and own.begins() <= now):
            return False
        try:
            renew(own)
        except (OSError, JumpstarterError) as error:
            self._trouble = f"; it cannot be renewed: {error}"
            return False
        self._trouble = ""
        _log.warning(
            "the certificate in %s was near its end, or not valid yet, and is renewed under the same key",
            own.chain,
        )
        return True

    def say(self) -> None:
        """Blocking: log what is to be known, once a day."""
        said, when = self._said
        sentence, now = self.warning(), time.monotonic()
        self.last_warning = sentence
        if sentence and (sentence != said or now >= when + SAY_SECONDS):
            _log.warning("%s", sentence)
            self._said = (sentence, now)

    async def watch(
        self, tls: ServerTls, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Renew, and say what is to be known, until cancelled; what it writes in that moment is written to its end."""
        task_status.started()
        while True:
            try:
                if await trio.to_thread.run_sync(self.renew_in_time):
                    await tls.look()
                await trio.to_thread.run_sync(self.say)
            except JumpstarterError as error:  # others are replacing it in this moment
                _log.info("%s", error)
            await trio.sleep(LOOK_SECONDS)
