"""The claims of ServiceAccount tokens. No I/O.

The API server signs the audiences that were asked for: beside the endpoint one that names the subject. So a token names
the uid of its owner, as those that a controller signs by itself do, and a rotation ends it at once.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.remote.jwt_claims import SUBJECT_AUDIENCE

from jumpstarter_controller.identity import Subject

__all__ = ["AccountClaims", "account_name", "audiences_of", "claims_of"]

MAX_LENGTH = 16 * 1024


@dataclass(frozen=True)
class AccountClaims:
    """The claims of a token. They are untrusted until a review confirms the token."""

    subject: Subject
    expires: float
    issued: float
    account_uid: str
    audiences: tuple[str, ...]


def account_name(subject: Subject) -> str:
    """Of the ServiceAccount for a client, an exporter or a host."""
    return f"{subject.name}-{subject.kind.lower()}"


def audiences_of(subject: Subject, endpoint: str) -> list[str]:
    """The audiences of tokens of a subject."""
    return [endpoint, f"{SUBJECT_AUDIENCE}{subject}"]


def claims_of(token: str) -> AccountClaims | None:
    """Return the claims of an unverified token; None if it is not a ServiceAccount token of a lab."""
    if len(token) > MAX_LENGTH or token.count(".") != 2:
        return None
    text = token.split(".")[1]
    try:
        claims = parse_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(claims, dict):
            return None
        audiences = claims["aud"]
        subjects = [one for one in audiences if isinstance(one, str) and one.startswith(SUBJECT_AUDIENCE)]
        (subject,) = subjects
        account = claims["kubernetes.io"]["serviceaccount"]["uid"]
        return AccountClaims(
            Subject.parse(subject.removeprefix(SUBJECT_AUDIENCE)),
            float(claims["exp"]),
            float(claims["iat"]),
            str(account),
            tuple(one for one in audiences if isinstance(one, str)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
