"""Creates, rotates and deletes clients, exporters and hosts: functions over a draft, for `Reconciler.change`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.identity import new_code, redeem, redeemed, refused
from jumpstarter_controller.lab import (
    Client,
    Draft,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    PairingCode,
)
from jumpstarter_controller.selectors import check_labels
from jumpstarter_controller.selectors.labels import LabelError, check_name
from jumpstarter_controller.services.host_boards import USUAL_KEYS, boards_of

__all__ = [
    "NO_TOKEN",
    "TYPES",
    "check_names",
    "confirm",
    "create",
    "delete",
    "enrol",
    "existing",
    "offer",
    "renew",
    "renew_own",
]

R = TypeVar("R", bound=Client | Exporter | Host)
TYPES: dict[Kind, type[Client | Exporter | Host]] = {
    Kind.CLIENT: Client,
    Kind.EXPORTER: Exporter,
    Kind.HOST: Host,
}
MAX_USERNAME_LENGTH = 1024
MAX_PAIRING_CODES = 1000
"""The limit of unused pairing codes."""
NO_TOKEN = "its token is no longer valid; it has not connected with a new one yet"  # noqa: S105 - what an exporter lacks
OUTGOING_SECONDS = 86400.0
"""How long a client's old token stays valid after the client rotated it. Jumpstarter: until it expires."""


def check_names(key: Key, labels: Mapping[str, str]) -> None:
    """Check the name and labels of an object. RpcError: INVALID_ARGUMENT, they are invalid."""
    try:
        check_name(key.name)
        check_name(key.namespace)
        check_labels(labels)
    except LabelError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None


def existing(draft: Draft, kind: Kind, key: Key) -> Client | Exporter | Host:
    """The record. RpcError: NOT_FOUND, it does not exist."""
    record = draft.get(TYPES[kind], key)
    if record is None:
        raise RpcError(
            StatusCode.NOT_FOUND,
            f"there is no {kind.lower()} {key}; "
            f"see which there are: jumpstarter-controller admin {kind.lower()} list",
        )
    return record


def create(
    draft: Draft,
    now: float,
    kind: Kind,
    key: Key,
    labels: Mapping[str, str],
    *,
    username: str = "",
    may_label: tuple[str, ...] = USUAL_KEYS,
    uid: str = "",
) -> Client | Exporter | Host:
    """A new one. `may_label` is a host's; without a `uid` one is drawn.

    Raises:
        RpcError: ALREADY_EXISTS, there is one of that name; INVALID_ARGUMENT, a host cannot be an issuer's user, or
            the user's name is too long.
    """
    if draft.get(TYPES[kind], key) is not None:
        raise RpcError(
            StatusCode.ALREADY_EXISTS,
            f"the {kind.lower()} {key} exists already; rotate its token, or delete it first",
        )
    if kind is Kind.HOST and username:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, "a host uses a token of this controller; leave the user name out"
        )
    if len(username) > MAX_USERNAME_LENGTH:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, f"a user's name has at most {MAX_USERNAME_LENGTH} characters"
        )
    more: dict[str, Any] = {"may_label": may_label} if kind is Kind.HOST else {"username": username}
    record = TYPES[kind](
        namespace=key.namespace,
        name=key.name,
        uid=uid or str(uuid.uuid4()),
        created=now,
        labels=dict(labels),
        **more,
    )
    draft.put(record)
    return record


def renew(draft: Draft, record: R, *, uid: str = "") -> R:
    """Give it a new identity: all its previous tokens become invalid, and those of the boards of a host.

    Exporters are offline until they connect with a new token, so that no lease gets a board that cannot be reached.
    """
    renewed = replace(record, uid=uid or str(uuid.uuid4()))
    if isinstance(renewed, Client):
        renewed = replace(renewed, previous_uid="", previous_uid_until=0.0)
    elif isinstance(renewed, Exporter) and renewed.status is not ExporterStatus.OFFLINE:
        renewed = replace(renewed, status=ExporterStatus.OFFLINE, status_message=NO_TOKEN, reasons=())
    draft.put(renewed)
    if isinstance(record, Host):
        for board in boards_of(draft, record.key):
            renew(draft, board)
    return renewed


def renew_own(draft: Draft, now: float, client: Client, uid: str) -> Client:
    """Return the client as it is after a renewal of its token, which had that uid.

    The old token stays valid for `OUTGOING_SECONDS`, because the reply may be lost and shells may use the token. A
    renewal with the old token meanwhile gives another token of the new identity.
    """
    if uid != client.uid:
        return client
    renewed = replace(
        client, uid=str(uuid.uuid4()), previous_uid=uid, previous_uid_until=now + OUTGOING_SECONDS
    )
    draft.put(renewed)
    return renewed


def delete(draft: Draft, kind: Kind, key: Key) -> Client | Exporter | Host:
    """Delete an object, its pairing codes, and the boards of a host. RpcError: NOT_FOUND, it does not exist."""
    record = existing(draft, kind, key)
    if isinstance(record, Host):
        for board in boards_of(draft, key):
            delete(draft, Kind.EXPORTER, board.key)
    draft.remove(record)
    if isinstance(record, Exporter) and (devices := draft.get(ExporterDevices, key)) is not None:
        draft.remove(devices)
    _withdraw(draft, kind, key)
    return record


def offer(
    draft: Draft,
    now: float,
    kind: Kind,
    key: Key,
    labels: Mapping[str, str],
    *,
    seconds: float,
    again: bool,
    may_label: tuple[str, ...] = (),
) -> tuple[str, PairingCode]:
    """Create a pairing code for a new object, or with `again` for an existing one. Older codes for it become invalid.

    Raises:
        RpcError: ALREADY_EXISTS or NOT_FOUND, whichever `again` is not for; RESOURCE_EXHAUSTED, too many codes.
    """
    if again:
        existing(draft, kind, key)
    elif draft.get(TYPES[kind], key) is not None:
        others = ", or delete it first"
        if kind is Kind.HOST:
            others = f"; for other labels: jumpstarter-controller admin host change {key.name}"
        raise RpcError(
            StatusCode.ALREADY_EXISTS,
            f"the {kind.lower()} {key} exists already; add --renew to give it a new token{others}",
        )
    _withdraw(draft, kind, key)
    _forget_expired(draft, now)
    if draft.count(PairingCode) >= MAX_PAIRING_CODES:
        raise RpcError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"{MAX_PAIRING_CODES} pairing codes wait to be used; wait until some are used or expired",
        )
    text, record = new_code(
        kind, key.namespace, key.name, labels, now=now, seconds=seconds, renew=again, may_label=may_label
    )
    draft.put(record)
    return text, record


def enrol(draft: Draft, now: float, kind: Kind, text: str, nonce: str = "") -> Client | Exporter | Host:
    """Use a code: delete the code and create its object in one change.

    With a nonce the code is kept until it expires, so that the call can be repeated with the same nonce and result.
    `confirm` must be written before the reply: until then no token was issued, and a missing object is created again;
    after it, a missing object was deleted.

    Raises:
        RpcError: PERMISSION_DENIED, the code is invalid; ALREADY_EXISTS, its object exists already.
    """
    code = redeem(draft.all(PairingCode), text, kind, now, nonce)
    key = Key(code.namespace, code.subject)
    made = draft.get(TYPES[kind], key)
    if code.redeemer and made is not None and made.uid == code.made:
        return made
    if code.issued or (code.redeemer and (made.uid if made is not None else "") != code.replaced):
        raise refused(kind)  # it was made, and something has become of it since
    _forget_expired(draft, now)
    if code.renew:
        record = renew(draft, existing(draft, kind, key), uid=code.made)
    else:
        record = create(draft, now, kind, key, code.labels, may_label=code.may_label, uid=code.made)
    if not nonce:
        draft.remove(code)
    elif not code.redeemer:
        draft.put(redeemed(code, nonce, record.uid, made.uid if made is not None else ""))
    return record


def confirm(draft: Draft, now: float, kind: Kind, text: str, nonce: str) -> Client | Exporter | Host:
    """Mark an object of `enrol` as issued, before its token is sent. RpcError: PERMISSION_DENIED, it was deleted."""
    code = redeem(draft.all(PairingCode), text, kind, now, nonce)
    made = draft.get(TYPES[kind], Key(code.namespace, code.subject))
    if made is None or made.uid != code.made:
        raise refused(kind)
    if not code.issued:
        draft.put(replace(code, issued=True))
    return made


def _withdraw(draft: Draft, kind: Kind, key: Key) -> None:
    for code in list(draft.all(PairingCode)):
        if (code.kind, code.namespace, code.subject) == (kind.value, *key):
            draft.remove(code)


def _forget_expired(draft: Draft, now: float) -> None:
    for code in list(draft.all(PairingCode)):
        if code.expires <= now and (PairingCode, code.key) not in draft.damaged:
            draft.remove(code)
