"""Pairing codes: short-lived, for one enrolment, stored as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable, Mapping

from jumpstarter_proto.remote import Kind
from jumpstarter_proto.remote.enrolment import HOST_PREFIX
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import PairingCode

__all__ = ["CODE_SECONDS", "new_code", "normal", "redeem", "redeemed", "refused"]

CODE_SECONDS = 600.0
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without characters that are easily confused."""
CODE_LENGTH = 12
MAX_CODE_LENGTH = 64
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
    may_label: Iterable[str] = (),
) -> tuple[str, PairingCode]:
    """A code to type in, and the record to keep of it. A host's says that it is one."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    groups = [text[start : start + 4] for start in range(0, CODE_LENGTH, 4)]
    if kind is Kind.HOST:
        groups.insert(0, HOST_PREFIX)
    record = PairingCode(
        namespace=namespace,
        name=str(uuid.uuid4()),
        created=now,
        kind=kind.value,
        subject=name,
        digest=_digest("".join(groups)),
        expires=now + seconds,
        labels=dict(labels),
        may_label=tuple(may_label),
        renew=renew,
    )
    return "-".join(groups), record


def redeem(codes: Iterable[PairingCode], text: str, kind: Kind, now: float, nonce: str = "") -> PairingCode:
    """Return the record of a pairing code. A used code is accepted only with the `nonce` that it was used with.

    Raises:
        RpcError: PERMISSION_DENIED, the code is unknown, used, expired or of another kind (not told which).
    """
    digest = _digest(normal(text[:MAX_CODE_LENGTH]))
    found = None
    for record in codes:
        # All are compared, so that the time says nothing about which was near.
        if hmac.compare_digest(record.digest, digest):
            found = record
    is_good = found is not None and found.expires > now and found.kind == kind.value
    if found is None or not is_good or (found.redeemer and not _is_redeemer(found, nonce)):
        raise refused(kind)
    return found


def redeemed(code: PairingCode, nonce: str, uid: str, replaced: str) -> PairingCode:
    """Return the code as used with that nonce: `uid` is the new uid, `replaced` the previous one."""
    return replace(code, redeemer=_digest(nonce), made=uid, replaced=replaced)


def refused(kind: Kind) -> RpcError:
    """The error for an invalid code. It does not say what is wrong with it."""
    return RpcError(
        StatusCode.PERMISSION_DENIED,
        "this pairing code is wrong, used, expired or for something else; "
        f"the lab's administrator makes a new one: jumpstarter-controller admin pair {kind.lower()} NAME, with "
        "--renew for one that exists",
    )


def _is_redeemer(code: PairingCode, nonce: str) -> bool:
    return hmac.compare_digest(code.redeemer, _digest(nonce))


def normal(text: str) -> str:
    """The canonical form of a code: upper case, without dashes and spaces."""
    return "".join(text.split()).replace("-", "").upper()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
