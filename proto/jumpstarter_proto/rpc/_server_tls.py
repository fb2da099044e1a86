"""A server's certificate and key in files, which others replace while it runs: certbot, cert-manager, an admin."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import trio

from jumpstarter_proto.rpc._transport import server_ssl_context

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerTls"]

LOOK_SECONDS = 10.0
"""Files that have changed are noticed so soon."""

_NOT_YET_VALID = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID."""

_log = logging.getLogger(__name__)

_State = tuple[object, ...]


class ServerTls:
    """The certificate and key for new connections: the newest valid pair of the files.

    A pair that does not match, for example while one file is being replaced, is not used and logged once; open
    connections are not affected. A certificate that is not valid yet is used from its begin, because clients reject it
    before.
    Blocking work is done in threads, which `look` can leave behind when cancelled.
    """

    def __init__(self, certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
        """OSError, ssl.SSLError: the files cannot be read, or are not a certificate and its key."""
        self._files = (certificate, key)
        self._state = self._look()
        self._early: _State | None = None
        """Of the pair that was said to begin later."""
        self.context: ssl.SSLContext = server_ssl_context(certificate, key)
        """Of the next connection."""
        if self._begins_later(self.context):
            _log.warning(
                "%s is not valid yet, so clients refuse it; check it and this host's clock", certificate
            )
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is a new one."""
        self.trouble = ""
        """Why the files are not what is served, in a sentence; empty if they are."""

    def _look(self) -> _State:
        """What tells the files from others in their places."""
        found = [os.stat(file) for file in self._files]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _read(self, before: _State | None) -> tuple[_State, ssl.SSLContext | None, bool]:
        """The files' state; what to serve if it is another than before; and whether that begins later."""
        state = self._look()
        if state == before:
            return state, None, False
        context = server_ssl_context(*self._files)
        return state, context, self._begins_later(context)

    def _begins_later(self, served: ssl.SSLContext) -> bool:
        """Whether a client that trusts this very certificate would say that it is not valid yet."""
        import ssl  # noqa: PLC0415 - as in client_ssl_context

        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(self._files[0])
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = client.wrap_bio(one, other)
        far = served.wrap_bio(other, one, server_side=True)
        for side in (near, far, near):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code == _NOT_YET_VALID
            except ssl.SSLError:
                return False
        return False

    async def look(self, *, always: bool = False) -> None:
        """Read the files if they are others than before, or `always`."""
        before = None if always else self._state
        try:
            state, context, begins_later = await trio.to_thread.run_sync(
                self._read, before, abandon_on_cancel=True
            )
        except OSError as error:  # ssl.SSLError is one
            await self._keep(error, always=always)
            return
        if begins_later:
            self.trouble = (
                f"{self._files[0]} is not valid yet, so the one before is kept until it is; check its begin and this "
                "host's clock"
            )
            if state != self._early or always:
                _log.warning("%s", self.trouble)
            self._early = state
            return
        self._state = state
        if (
            self._early is not None or context is not None
        ):  # one that begins later may have been taken away again
            self._early, self.trouble = None, ""
        if context is not None:
            self.context = context
            _log.info("%s and its key were read again; connections from now on get them", self._files[0])
            self.on_change()

    async def _keep(self, error: OSError, *, always: bool) -> None:
        """Say why the pair before is kept, once for each state of the files."""
        try:
            state: _State = await trio.to_thread.run_sync(self._look, abandon_on_cancel=True)
        except OSError:
            state = ("gone",)
        chain, key = self._files
        self.trouble = (
            f"{chain} and {key} cannot be used ({error.strerror or error}), the pair before is kept; put a PEM chain "
            "and its own key there"
        )
        if state != self._state or always:
            _log.error("%s", self.trouble)
        self._state = state

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Look now and then, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_SECONDS)
            await self.look()
