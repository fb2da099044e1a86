"""An entry of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec
from jumpstarter_proto.texts import shown

from jumpstarter_controller.process.server_log import without_tokens

__all__ = ["AuditEntry", "Board", "CallReport", "Source", "entry_of", "ignore", "stranger_refused"]

MAX_NAME_LENGTH = 255
"""Characters of a name."""
MAX_SENTENCE_LENGTH = 500

Board: TypeAlias = tuple[str, str]
"""Namespace and name of a board's exporter."""
Source: TypeAlias = tuple[str, ...]
"""The source of entries, for rate limiting: kind and name."""


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry. Names and texts are single lines, whatever their source."""

    time: float
    """Seconds since the epoch, by the controller's clock."""
    namespace: str = ""
    board: str = ""
    """Its exporter's name."""
    client: str = ""
    lease: str = ""
    what: str = ""
    """What happened, as text; empty for a driver call."""
    more: int = 0
    """The number of dropped entries that it stands for."""
    is_call: bool = False
    """Whether an exporter reported it. The fields below are then untrusted."""
    user: str = ""
    """The user of the exporter's host, if it was not the lease's client."""
    session: str = ""
    device: str = ""
    method: str = ""
    status: str = ""
    """The gRPC status; empty for the begin of a call."""
    seconds: float = 0.0
    """How long it took."""
    received: int = 0
    """Bytes from the user to the device."""
    sent: int = 0
    """Bytes from the device to the user."""


class CallReport(NamedTuple):
    """How many calls an exporter has reported, so that a repeated report is not counted twice."""

    uid: str
    """The exporter's."""
    reporter: str
    """The process of the exporter that reports, by its own name."""
    next: int
    """The number of the first call that was not reported yet."""
    time: float
    """When it was reported, in seconds since the epoch."""


def entry_of(time: float, sentence: str, fields: Mapping[str, str]) -> tuple[AuditEntry, Source]:
    """The entry for a log line, and its source."""
    for kind in ("host", "policy"):
        if kind in fields and "exporter" not in fields:
            sentence = f"{sentence}: {fields[kind]}"
    entry = AuditEntry(
        time=time,
        namespace=_name(fields.get("namespace", "")),
        board=_name(fields.get("exporter", "")),
        client=_name(fields.get("client", "")),
        lease=_name(fields.get("lease", "")),
        what=without_tokens(shown(sentence, MAX_SENTENCE_LENGTH)),
    )
    if entry.client:
        return entry, ("client", entry.namespace, entry.client)
    return entry, ("exporter", entry.namespace, entry.board) if entry.board else ("lab",)


def stranger_refused(time: float, error: Exception, fields: Mapping[str, str]) -> tuple[AuditEntry, Source]:
    """The entry for a rejected caller, with the identity that it claimed. All of these are one source."""
    entry, _ = entry_of(time, f"was refused, at {fields.get('peer', '')}: {error}", fields)
    return entry, ("strangers",)


def ignore(_entry: AuditEntry, _source: Source) -> None:
    """Drop the entry."""


def _name(text: str) -> str:
    return shown(text, MAX_NAME_LENGTH)
