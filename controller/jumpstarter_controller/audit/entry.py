"""One thing that somebody did, as it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec
from jumpstarter_proto.texts import shown

from jumpstarter_controller.process.logs import without_tokens

__all__ = ["AuditEntry", "Board", "CallReport", "Source", "entry_of", "ignore", "stranger_refused"]

MAX_NAME_LENGTH = 255
"""Characters of a name."""
MAX_SENTENCE_LENGTH = 500

Board: TypeAlias = tuple[str, str]
"""The namespace and the name of its exporter."""
Source: TypeAlias = tuple[str, ...]
"""Who causes entries, as far as they are counted together: what kind of one, and the name."""


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names and texts are on one line each, whoever said them."""

    time: float
    """Seconds since the epoch, by the controller's clock."""
    namespace: str = ""
    board: str = ""
    """Its exporter's name."""
    client: str = ""
    lease: str = ""
    what: str = ""
    """In words; empty for a call of a driver."""
    more: int = 0
    """It stands for so many that were left out."""
    is_call: bool = False
    """An exporter reported it; the fields below are its own words."""
    user: str = ""
    """Of the exporter's host, where it was not the lease's client."""
    session: str = ""
    device: str = ""
    method: str = ""
    status: str = ""
    """What came of it, as gRPC calls it; empty when it begins."""
    seconds: float = 0.0
    """How long it took."""
    received: int = 0
    """Bytes from the user to the device."""
    sent: int = 0
    """Bytes from the device to the user."""


class CallReport(NamedTuple):
    """How many calls an exporter has reported, so that none counts twice whose answer got lost."""

    uid: str
    """The exporter's."""
    reporter: str
    """Which of its processes counts, as it calls itself."""
    next: int
    """The number of the first call that was not reported yet."""
    time: float
    """When it was reported, in seconds since the epoch."""


def entry_of(time: float, sentence: str, fields: Mapping[str, str]) -> tuple[AuditEntry, Source]:
    """What a line of the log tells, and who caused it."""
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
    """That somebody was refused who says that they are the one in the fields. All of them are one source."""
    entry, _ = entry_of(time, f"was refused, at {fields.get('peer', '')}: {error}", fields)
    return entry, ("strangers",)


def ignore(_entry: AuditEntry, _source: Source) -> None:
    """Keep nothing."""


def _name(text: str) -> str:
    return shown(text, MAX_NAME_LENGTH)
