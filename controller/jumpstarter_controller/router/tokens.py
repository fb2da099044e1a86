"""Router tokens: short-lived, one for each connection, with the same key at controller and routers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jwt
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.process.server_log import FIELDS

__all__ = ["ROUTER_TOKEN_SECONDS", "RouterClaims", "RouterTokens"]

ISSUER = "https://jumpstarter.dev/stream"
AUDIENCE = "https://jumpstarter.dev/router"
ROUTER_TOKEN_SECONDS = 30 * 60
"""A router token is checked only when a stream starts. A stream waits for its peer this long at most."""
CLOCK_LEEWAY_SECONDS = 30.0
"""The accepted difference between the clocks of controller and router."""
MAX_TOKEN_LENGTH = 8 * 1024


@dataclass(frozen=True)
class RouterClaims:
    """What a good token says."""

    stream: str
    """Both sides of a connection have the same."""
    seconds: float
    """How many seconds it is still valid."""
    about: Mapping[str, str]
    """Whose connection it is, as far as the controller has said."""


class RouterTokens:
    """Makes and checks tokens with one key of 32 bytes or more."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def issue(self, lifetime: float = ROUTER_TOKEN_SECONDS, about: Mapping[str, str] | None = None) -> str:
        """Create a token for one new connection, valid for `lifetime` seconds, at most `ROUTER_TOKEN_SECONDS`.

        `about` describes the stream in the router's log.
        """
        now = int(self._clock())
        return jwt.encode(
            {
                **{key: value for key, value in (about or {}).items() if key in FIELDS},
                "iss": ISSUER,
                "aud": [AUDIENCE],
                "sub": str(uuid.uuid4()),
                "exp": now + max(1, int(min(ROUTER_TOKEN_SECONDS, lifetime))),
                "nbf": now,
                "iat": now,
                "jti": str(uuid.uuid4()),
            },
            self._key,
            algorithm="HS256",
        )

    def admit(self, token: str) -> RouterClaims:
        """What a token is for.

        Raises:
            RpcError: UNAUTHENTICATED, forged, expired or for something else.
        """
        try:
            if len(token) > MAX_TOKEN_LENGTH:
                raise jwt.InvalidTokenError("too long")
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256", "HS384", "HS512"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["iss", "aud", "sub", "exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            now = self._clock()
            left = float(claims["exp"]) + CLOCK_LEEWAY_SECONDS - now
            if left <= 0 or float(claims.get("nbf", 0)) - CLOCK_LEEWAY_SECONDS > now:
                raise jwt.ExpiredSignatureError("outside of its time; dial again")
            stream = claims["sub"]
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise RpcError(StatusCode.UNAUTHENTICATED, f"invalid jwt token: {error}") from None
        if not isinstance(stream, str) or not stream:
            raise RpcError(StatusCode.UNAUTHENTICATED, "invalid jwt token: it names no stream")
        about = {key: value for key in FIELDS if isinstance(value := claims.get(key), str)}
        return RouterClaims(stream, left, about)
