"""Authenticates a caller from a call's metadata, with the order of checks and the texts of Jumpstarter's controller."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import jwt
from jumpstarter_proto.call_metadata import KIND, NAME, NAMESPACE
from jumpstarter_proto.remote import Kind, ReasonCode, reason_of, refused
from jumpstarter_proto.rpc import Metadata, RpcError, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_controller.identity.tokens import Subject, TokenError, TokenIssuer

__all__ = [
    "AccountTokens",
    "Authenticator",
    "ExternalIssuer",
    "VerifiedCaller",
    "authorise",
    "bearer",
    "name_from_username",
]

PREFIX = "internal:"


@dataclass(frozen=True)
class VerifiedCaller:
    """A caller with a valid token. It is not yet known whether the object that it names exists."""

    kind: Kind
    namespace: str
    name: str
    subject: Subject | None
    """Of one of our own tokens."""
    username: str
    """As policies and objects know it; with `internal:` in front for our own tokens."""
    expires: float
    """When the token ends, in seconds since the epoch."""
    is_nobody: bool = False
    """No object has this name, so the token was not verified."""


class ExternalIssuer(Protocol):
    """An external issuer whose tokens are accepted."""

    @property
    def url(self) -> str:
        """Its `iss`."""

    async def verify(self, token: str) -> tuple[str, float]:
        """The user that a token names, and its expiry in seconds since the epoch. TokenError: it is invalid."""


class AccountTokens(Protocol):
    """Tokens of subjects of this lab that another issuer signs."""

    def claimed_subject(self, token: str) -> Subject | None:
        """Return the subject that the unverified token names; None if it is not such a token."""

    async def verify(self, token: str) -> tuple[Subject, float]:
        """Return the subject of a token, and its expiry in seconds since the epoch.

        Raises:
            TokenError: the token is invalid.
            RpcError: UNAVAILABLE, the token cannot be verified now.
        """


async def _is_somebody(_: Subject) -> bool:
    return True


class Authenticator:
    """Verifies our own tokens, and those of external issuers."""

    def __init__(
        self,
        issuer: TokenIssuer,
        external: tuple[ExternalIssuer, ...] = (),
        accounts: AccountTokens | None = None,
        *,
        former: TokenIssuer | None = None,
        exists: Callable[[Subject], Awaitable[bool]] = _is_somebody,
    ) -> None:
        """Tokens that `former` has issued stay valid.

        `exists` returns whether a subject exists. Tokens of unknown subjects are rejected without verification, so
        that invented tokens cause no work.
        """
        self._exists = exists
        self._issuer = issuer
        self._former = former
        self._accounts = accounts
        self._external = {one.url: one for one in external}

    async def caller(self, metadata: Metadata, wanted: Kind) -> VerifiedCaller:
        """Return the caller of a request.

        Raises:
            RpcError: a header is missing, repeated or malformed, or the call is for another kind of object.
            TokenError: the token is invalid or expired.
        """
        token = bearer(metadata)
        external = self._external.get(_issuer_of(token)) if self._external else None
        subject: Subject | None = None
        is_nobody = False
        claimed = None if self._accounts is None else self._accounts.claimed_subject(token)
        if self._accounts is not None and claimed is not None:
            is_nobody = not await self._exists(claimed)
            subject, expires = (claimed, 0.0) if is_nobody else await self._accounts.verify(token)
            username = PREFIX + str(subject)
        elif external is not None:
            username, expires = await external.verify(token)
            if username.startswith(PREFIX):
                raise TokenError(
                    f"oidc: users of another issuer cannot be named {PREFIX}…; ask the lab's administrator",
                    ReasonCode.TOKEN_UNFIT,
                )
        else:
            subject, expires = self._own(token)
            username = PREFIX + str(subject)
        namespace = _single(metadata, NAMESPACE)
        kind = _single(metadata, KIND)
        name = _name(metadata, username)
        if kind != wanted.value:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT, f"object kind mismatch: this call is for a {wanted.value}"
            )
        return VerifiedCaller(wanted, namespace, name, subject, username, expires, is_nobody)

    def _own(self, token: str) -> tuple[Subject, float]:
        try:
            return self._issuer.verify(token)
        except TokenError as error:
            if self._former is None or reason_of(error) == ReasonCode.TOKEN_EXPIRED:
                raise
            try:
                return self._former.verify(token)
            except TokenError as other:
                raise (other if reason_of(other) == ReasonCode.TOKEN_EXPIRED else error) from None


def authorise(caller: VerifiedCaller, found: tuple[Callable[[str], bool], str] | None) -> None:
    """Check that the token belongs to the object.

    `found` returns whether a uid is the one of the object, and its username; None if there is no such object.

    Raises:
        RpcError: UNKNOWN, no such object; PERMISSION_DENIED, the token belongs to another object.
    """
    kind = caller.kind.lower()
    where = f"{shown(caller.namespace)}/{shown(caller.name)}"
    if found is None:
        raise refused(
            StatusCode.UNKNOWN,
            f'{kind} {where}: {kind}s.jumpstarter.dev "{shown(caller.name)}" not found; it was deleted',
            ReasonCode.CALLER_GONE,
        )
    knows, username = found
    if caller.subject is not None:
        uid = caller.subject.uid
        allowed = caller.subject == Subject(caller.kind, caller.namespace, caller.name, uid) and knows(uid)
    else:
        allowed = bool(username) and username == caller.username
    if not allowed:
        raise refused(
            StatusCode.PERMISSION_DENIED, f"permission denied for {kind} {where}", ReasonCode.CALLER_DENIED
        )


def bearer(metadata: Metadata) -> str:
    """The bearer token of a call. RpcError: UNAUTHENTICATED or INVALID_ARGUMENT, there is not exactly one."""
    values = _values(metadata, "authorization")
    if not values:
        raise RpcError(StatusCode.UNAUTHENTICATED, "missing authorization header")
    if len(values) > 1:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "multiple authorization headers")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RpcError(StatusCode.INVALID_ARGUMENT, "malformed authorization header")
    return token.strip()


def name_from_username(username: str) -> str:
    """The object's name of an external user: lower case, other characters than [-a-z0-9] as dashes, at most 63."""
    name = username.partition(":")[2] if ":" in username else username
    name = re.sub(r"[^-a-z0-9]", "-", name.lower())
    return re.sub(r"-+", "-", name).strip("-")[:63].strip("-")


def _name(metadata: Metadata, username: str) -> str:
    values = _values(metadata, NAME)
    if len(values) > 1:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "multiple metadata: jumpstarter-name")
    given = values[0] if values else ""
    if username.startswith(PREFIX):
        if not given:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "missing metadata: jumpstarter-name")
        return given
    derived = name_from_username(username)
    if not derived:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            "this user's name cannot be converted to a client name; ask the lab's administrator",
        )
    if given and given != derived:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"resource name mismatch: {given[:80]!r} was given, {derived!r} is this user's",
        )
    return derived


def _single(metadata: Metadata, key: str) -> str:
    values = _values(metadata, key)
    if not values:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"missing metadata: {key}")
    if len(values) > 1:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"multiple metadata: {key}")
    return values[0]


def _values(metadata: Metadata, key: str) -> list[str]:
    return [value for name, value in metadata if name == key and isinstance(value, str)]


def _issuer_of(token: str) -> str:
    """The claimed issuer, unverified. Use it only to select the verifier."""
    try:
        return str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
    except jwt.PyJWTError:
        return ""
