"""Tokens of clients and exporters: JWTs that this controller signs and verifies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.remote import REASON, Kind, ReasonCode
from jumpstarter_proto.rpc import RpcError, StatusCode

__all__ = [
    "ISSUER",
    "TOKEN_LIFETIME_SECONDS",
    "Subject",
    "TokenError",
    "TokenIssuer",
    "expired",
    "why_invalid",
]

ISSUER = "https://localhost:8085"
"""Jumpstarter's name for a controller's own tokens."""
TOKEN_LIFETIME_SECONDS = 365 * 86400.0
MAX_TOKEN_LENGTH = 16 * 1024
MAX_VERIFIED_TOKENS = 8192
"""Tokens with a verified signature that are remembered."""


class TokenError(RpcError):
    """An invalid token. On the wire UNKNOWN, with the text that Jumpstarter's clients match."""

    def __init__(self, sentence: str, reason: ReasonCode = ReasonCode.BAD_TOKEN) -> None:
        super().__init__(StatusCode.UNKNOWN, sentence, [(REASON, reason.value)])
        self.exit_code = ExitCode.DENIED


_NEW_TOKEN = {
    Kind.CLIENT: "(jumpstarter-controller admin client rotate), or log in again",
    Kind.EXPORTER: "(jumpstarter-controller admin pair exporter NAME --renew), and enrol again",
    Kind.HOST: "(jumpstarter-controller admin pair host NAME --renew), and enrol again",
}


def expired(kind: Kind = Kind.CLIENT) -> TokenError:
    """The error for an expired token. Clients match its text."""
    return TokenError(
        f"oidc: verify token: token is expired; ask the lab's administrator for a new one {_NEW_TOKEN[kind]}",
        ReasonCode.TOKEN_EXPIRED,
    )


@dataclass(frozen=True)
class Subject:
    """The subject of a token. The uid identifies the object: a new object with the same name has another uid."""

    kind: Kind
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}:{self.namespace}:{self.name}:{self.uid}"

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Parse `client:NAMESPACE:NAME:UID`. ValueError: it is invalid."""
        kind, namespace, name, uid = text.split(":")
        return cls(Kind(kind.capitalize()), namespace, name, uid)


def why_invalid(error: Exception) -> str:
    """Why a token is invalid, from what PyJWT or our own parsing has raised for it."""
    if isinstance(error, jwt.InvalidSignatureError):
        return "another key has signed it"
    if isinstance(error, jwt.InvalidIssuerError):
        return "it is another issuer's"
    if isinstance(error, jwt.DecodeError):
        return "it is damaged"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no {error.claim}"
    return "a part of it is invalid"


class TokenIssuer:
    """Signs and verifies tokens with ES256. The audience is the endpoint that the token is for."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        endpoint: str,
        *,
        lifetime: float = TOKEN_LIFETIME_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._endpoint = endpoint
        self.lifetime = lifetime
        self._clock = clock
        self._known: dict[bytes, tuple[Subject, float]] = {}

    def issue(self, subject: Subject, lifetime: float | None = None) -> tuple[str, float]:
        """A new token, and its expiry in seconds since the epoch."""
        now = int(self._clock())
        expiry = now + int(self.lifetime if lifetime is None else lifetime)
        claims = {"iss": ISSUER, "aud": [self._endpoint], "sub": str(subject), "iat": now, "exp": expiry}
        return jwt.encode(claims, self._key, algorithm="ES256"), float(expiry)

    def verify(self, token: str) -> tuple[Subject, float]:
        """Return the subject of a token, and its expiry in seconds since the epoch.

        The time of issue is not checked, so tokens stay valid if the clock is set back.

        Raises:
            TokenError: forged, expired, or for another endpoint.
        """
        subject, expiry = self.signed(token)
        if expiry <= self._clock():
            raise expired(subject.kind)
        return subject, expiry

    def signed(self, token: str) -> tuple[Subject, float]:
        """Return the subject and the expiry of a token with a valid signature; results are cached.

        The expiry is not checked. TokenError: the signature or the endpoint is wrong.
        """
        digest = hashlib.sha256(token.encode()).digest()
        found = self._known.get(digest)
        if found is None:
            found = self._verified(token)
            if len(self._known) >= MAX_VERIFIED_TOKENS:
                self._known.clear()
            self._known[digest] = found
        return found

    def _verified(self, token: str) -> tuple[Subject, float]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenError("oidc: the token is too long")
        options = {"require": ["iss", "aud", "sub", "iat", "exp"], "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["ES256"],
                audience=[self._endpoint],
                issuer=ISSUER,
                options=options,  # type: ignore[arg-type] # the library's own type for it is not public
            )
            expiry = float(claims["exp"])
            subject = Subject.parse(claims["sub"])
        except jwt.InvalidAudienceError:
            raise TokenError(
                f"oidc: the token is for another controller, not {self._endpoint}; "
                "use the configuration that this one wrote",
                ReasonCode.TOKEN_UNFIT,
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenError(f"failed to authenticate token: {why_invalid(error)}; log in again") from None
        return subject, expiry
