"""Sends requests to one device: with credentials, one at a time, and with a sentence for each error."""

from __future__ import annotations

import re
import ssl
import urllib.parse
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.http_power.exchange import HttpAnswer, HttpOrigin, HttpRequest, exchange
from jumpstarter_drivers.http_power.http_credentials import HttpAuthenticator, HttpCredentials, Scheme
from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable

__all__ = ["Conversation"]

MAX_MESSAGE_LENGTH = 120
_LOGOUT_SECONDS = 2.0
_locks: weakref.WeakValueDictionary[HttpOrigin, trio.Lock] = weakref.WeakValueDictionary()
"""By device: outlets of one power strip may be those of several boards, and small devices serve one user at a time."""


class Conversation:
    """The requests of one open driver to one device. No connection is kept between them."""

    def __init__(
        self,
        origin: HttpOrigin,
        scheme: Scheme,
        credentials: HttpCredentials | None,
        *,
        seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._credentials = credentials
        self._authenticator = HttpAuthenticator(scheme, credentials)
        self._seconds = seconds
        self._tls = tls
        self._lock = _locks.setdefault(origin, trio.Lock())

    async def ask(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer. Its status is 200 to 299.

        Raises:
            OutletUnreachable: there is none; or the device says that it cannot answer now.
            OutletRefused: it is a refusal, or leads elsewhere.
        """
        async with self._lock:
            return await self._ask(request)

    @asynccontextmanager
    async def logged_in(self, login: HttpRequest, logout: HttpRequest) -> AsyncIterator[None]:
        """A block in which `ask_inside` may be used, for devices that let one address in at a time."""
        async with self._lock:
            try:
                await self._ask(login, may_redirect=True)
                yield
            finally:
                # The device ends it by itself in the end; what went wrong before is said, and not this.
                with (
                    trio.move_on_after(_LOGOUT_SECONDS, shield=True),
                    suppress(OutletUnreachable, OutletRefused),
                ):
                    await self._ask(logout, may_redirect=True)

    async def ask_inside(self, request: HttpRequest) -> HttpAnswer:
        """`ask`, inside of `logged_in`."""
        return await self._ask(request)

    async def _ask(self, request: HttpRequest, *, may_redirect: bool = False) -> HttpAnswer:
        answer = await self._send(request)
        if answer.status == 401 and self._authenticator.challenged(
            [answer.headers.get("www-authenticate", "")]
        ):
            answer = await self._send(request)
        if 200 <= answer.status <= 299 or (may_redirect and 300 <= answer.status <= 399):
            return answer
        raise self._refusal(request, answer)

    async def _send(self, request: HttpRequest) -> HttpAnswer:
        headers = self._authenticator.header(request.method, request.target)
        return await exchange(self._origin, request, headers, seconds=self._seconds, tls=self._tls)

    def _refusal(self, request: HttpRequest, answer: HttpAnswer) -> OutletRefused | OutletUnreachable:
        status, where = answer.status, self._origin
        said = self._quotable(_message(answer), request)
        quoted = f" ({said})" if said else ""
        if status == 401:
            if reason := self._authenticator.refusal(answer.headers.get("www-authenticate", "")):
                return OutletRefused(f"{where} {reason}")
            if self._credentials is not None:
                return OutletRefused(
                    f"{where} does not accept the user and the password; correct them in the configuration"
                )
            return OutletRefused(f"{where} asks for a password; add `password_file` to the configuration")
        if status == 403:
            return OutletRefused(
                f"{where} forbids {request}{quoted}; see what its web interface allows this user"
            )
        if 300 <= status <= 399:
            location = self._quotable(_without_secrets(answer.headers.get("location", "nowhere")), request)
            return OutletRefused(
                f"{where} redirects {request} to {location}, which is not followed; configure the address that answers"
            )
        if status == 404:
            return OutletRefused(
                f"{where} has no {request}{quoted}; check what kind of device it is, and the outlet"
            )
        if status >= 500 and not said:
            return OutletUnreachable(f"{where} answers {request} with the error {status}; restart it")
        return OutletRefused(f"{where} refuses {request} with the status {status}{quoted}; check the outlet")

    def _quotable(self, said: str, request: HttpRequest) -> str:
        """What a device says, without the password and without the query and the body that it was sent."""
        if self._credentials is not None:
            said = self._credentials.hide(said)
        for sent in (request.target.partition("?")[2], (request.body or b"").decode("utf-8", "replace")):
            if sent:
                said = said.replace(sent, "...").replace(urllib.parse.unquote_plus(sent), "...")
        return shown(said, MAX_MESSAGE_LENGTH)


def _without_secrets(location: str) -> str:
    """Return a URL without its user and password, and without its query."""
    return re.sub(r"^([^/?#]*//)[^/?#]*@", r"\1", location.partition("?")[0].partition("#")[0])


def _message(answer: HttpAnswer) -> str:
    """Return the message in a JSON error, as Shelly devices send it."""
    try:
        data = parse_json(answer.body)
    except ValueError:
        return ""
    message = data.get("message") if isinstance(data, dict) else None
    return message if isinstance(message, str) else ""
