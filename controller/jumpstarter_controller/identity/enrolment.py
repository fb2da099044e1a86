"""Pairing codes: short-lived, good for one enrolment, kept as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable, Mapping

from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.lab import PairingCode

__all__ = ["CODE_SECONDS", "new_code", "normal", "redeem"]

CODE_SECONDS = 600.0
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Nothing that is read as something else."""
LENGTH = 12
LONGEST = 64
"""Of what is typed in, with dashes and spaces."""
"""60 bits: with the attempts that a minute allows, hopeless to guess."""


def new_code(
    kind: Kind,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    *,
    now: float,
    seconds: float = CODE_SECONDS,
    renew: bool = False,
) -> tuple[str, PairingCode]:
    """A code to type in, and the record to keep of it."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    record = PairingCode(
        namespace=namespace,
        name=str(uuid.uuid4()),
        created=now,
        kind=kind.value,
        subject=name,
        digest=_digest(text),
        expires=now + seconds,
        labels=dict(labels),
        renew=renew,
    )
    return "-".join(text[start : start + 4] for start in range(0, LENGTH, 4)), record


def redeem(codes: Iterable[PairingCode], text: str, kind: Kind, now: float) -> PairingCode:
    """The record of a code that was typed in; the caller removes it in the same change.

    Raises:
        RpcError: PERMISSION_DENIED, unknown, used, expired or for something else; never says which.
    """
    digest = _digest(normal(text[:LONGEST]))
    found = None
    for record in codes:
        # All are compared, so that the time says nothing about which was near.
        if hmac.compare_digest(record.digest, digest):
            found = record
    if found is None or found.expires <= now or found.kind != kind.value:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            "this pairing code is wrong, used, expired or for something else; "
            "make a new one: jumpstarter-controller admin pair",
        )
    return found


def normal(text: str) -> str:
    """As it was made: without dashes and spaces, in capitals."""
    return "".join(text.split()).replace("-", "").upper()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
