"""An external token issuer: found by its discovery document, tokens verified with its keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import trio
from jumpstarter_proto.https import FetchError, Reply, fetch_json
from jumpstarter_proto.remote import ReasonCode

from jumpstarter_controller.identity.oidc.keys import ALGORITHMS, KeyCache, KeyLookup
from jumpstarter_controller.identity.tokens import MAX_TOKEN_LENGTH, TokenError, expired, why_invalid

__all__ = ["Issuer", "IssuerSettings"]

CLOCK_LEEWAY_SECONDS = 30.0
"""The accepted difference between an issuer's clock and ours."""
MAX_USERNAME_LENGTH = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IssuerSettings:
    """The settings of an issuer."""

    url: str
    audiences: tuple[str, ...]
    claim: str = "sub"
    """The claim that names the user."""
    prefix: str = ""
    """The prefix of that name."""
    ca: str = ""
    """CA certificates in PEM; empty: those of the system."""
    required: Mapping[str, str] = field(default_factory=dict)
    """Claims that must have these values."""


class Issuer:
    """Verifies its tokens. Concurrent tasks that wait for its keys share one fetch."""

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        clock: Callable[[], float] = time.time,
        fetch: Callable[[str, str], Awaitable[Reply]] = fetch_json,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._fetch = fetch
        self._keys = KeyCache()
        self._lock = trio.Lock()
        self._has_failed = False
        """The last attempt to fetch the keys has failed, so an unknown key may be one of the issuer's."""

    @property
    def url(self) -> str:
        """Its `iss`."""
        return self.settings.url

    async def verify(self, token: str) -> tuple[str, float]:
        """Return the prefixed user name of a token, and its expiry in seconds since the epoch.

        Raises:
            TokenError: the token is invalid, or cannot be verified now.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenError(
                "oidc: the token is too long; have fewer claims put into it", ReasonCode.TOKEN_UNFIT
            )
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _failed(why_invalid(error)) from None
        if header.get("alg") not in ALGORITHMS:
            raise _failed("its signature algorithm is not supported")
        claims = await self._checked(token, header)
        for name, value in self.settings.required.items():
            if claims.get(name) != value:
                raise TokenError(
                    f"oidc: the token's claim {name!r} is not {value!r}; ask the lab's administrator",
                    ReasonCode.TOKEN_UNFIT,
                )
        return self._username(claims), float(claims["exp"])

    async def _checked(self, token: str, header: Mapping[str, Any]) -> dict[str, Any]:
        await self._have_keys(header)
        candidates = self._keys.candidates(header)
        for index, key in enumerate(candidates):
            try:
                return self._decode(token, key)
            except jwt.InvalidSignatureError as error:
                if index == len(candidates) - 1:
                    raise _failed(why_invalid(error)) from None
        raise _failed(f"{self.url} has no key that it is signed with")

    def _decode(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        # Times are compared with our own clock below.
        options: Any = {"require": ["exp", "iss", "aud"], "verify_exp": False, "verify_nbf": False}
        options["verify_iat"] = False
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=list(self.settings.audiences),
                issuer=self.url,
                options=options,
            )
            ends, begins = float(claims["exp"]), float(claims.get("nbf", claims.get("iat", 0.0)))
        except jwt.InvalidSignatureError:
            raise
        except jwt.InvalidAudienceError:
            raise TokenError(
                f"oidc: the token is for another audience, not for {' or '.join(self.settings.audiences)}; log in again"
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _failed(why_invalid(error)) from None
        now = self._clock()
        # Not a number is neither before nor behind anything.
        if not ends + CLOCK_LEEWAY_SECONDS > now:
            raise expired()
        if not begins - CLOCK_LEEWAY_SECONDS <= now:
            raise TokenError(
                "oidc: the token is from the future; set the clocks of both machines", ReasonCode.TOKEN_UNFIT
            )
        return claims

    def _username(self, claims: Mapping[str, Any]) -> str:
        claim = self.settings.claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name or len(name) > MAX_USERNAME_LENGTH:
            raise TokenError(f"oidc: the token has no user name in its claim {claim!r}; log in again")
        if claim == "email" and claims.get("email_verified", True) is not True:
            raise TokenError(
                f"oidc: {self.url} has not verified your email address; do that first", ReasonCode.TOKEN_UNFIT
            )
        return self.settings.prefix + name

    async def _have_keys(self, header: Mapping[str, Any]) -> None:
        known = self._keys.look(header, trio.current_time())
        if known is KeyLookup.YES or (known is KeyLookup.OLD and self._lock.locked()):
            return  # old keys are good enough while somebody fetches new ones
        async with self._lock:
            # Whoever held the lock may have fetched what we need.
            known = self._keys.look(header, trio.current_time())
            if known is KeyLookup.YES:
                return
            if known is KeyLookup.NO:
                if self._has_failed:
                    raise self._unchecked()
                return
            self._keys.trying(trio.current_time())
            try:
                await self._refresh()
            except FetchError as error:
                self._has_failed = True
                if known is KeyLookup.OLD:
                    _log.warning("issuer %s: %s; its keys as of before go on", self.url, error)
                    return
                _log.warning("issuer %s: %s", self.url, error)
                raise self._unchecked() from None
            self._has_failed = False

    def _unchecked(self) -> TokenError:
        return TokenError(
            f"oidc: the keys of {self.url} cannot be fetched, so the token cannot be checked; try again soon",
            ReasonCode.TOKEN_UNFIT,
        )

    async def _refresh(self) -> None:
        found = await self._document(f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.url:
            raise FetchError(f"its discovery document is that of {str(found.get('issuer'))[:200]!r}")
        ref = found.get("jwks_uri")
        if not isinstance(ref, str):
            raise FetchError("its discovery document names no keys (jwks_uri)")
        document = await self._document(ref)
        try:
            self._keys.fetched(document, trio.current_time())
        except ValueError as error:
            raise FetchError(f"{ref}: {error}") from None

    async def _document(self, url: str) -> dict[str, Any]:
        reply = await self._fetch(url, self.settings.ca)
        if reply.status != 200:
            raise FetchError(f"{url} answered {reply.status}")
        return reply.data


def _failed(why: str) -> TokenError:
    return TokenError(f"failed to authenticate token: {why}; log in again")
