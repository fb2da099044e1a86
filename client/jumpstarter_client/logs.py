"""The log of an exporter's session: each entry once, also over several connections, and how it is printed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator
from typing import TypeAlias

import trio
from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError
from jumpstarter_proto.log_lines import NOTICE
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import LogStreamResponse

from jumpstarter_client.transport import ConnectionLostError, ReconnectingChannel

__all__ = [
    "MAX_REMEMBERED_ENTRIES",
    "LogDeduplicator",
    "entries",
    "entry_of",
    "is_notice",
    "is_of_hook",
    "line_of",
]

MAX_REMEMBERED_ENTRIES = 2048
"""Twice what an exporter keeps. The size of each entry is limited (`entry_of`)."""

_Key: TypeAlias = tuple[int, int, str, str]


class LogDeduplicator:
    """Recognises entries that were seen before the log was opened again. No I/O.

    A session's log starts from its beginning for each reader, as far back as the exporter keeps it.
    """

    def __init__(self) -> None:
        self._shown: deque[_Key] = deque(maxlen=MAX_REMEMBERED_ENTRIES)
        self._repeats: Counter[_Key] = Counter()

    def reopened(self) -> None:
        """The log was opened again and may repeat entries."""
        self._repeats = Counter(self._shown)

    def is_new(self, entry: LogStreamResponse) -> bool:
        """Whether the entry is new. Entries without a time cannot be recognised and count as new."""
        if not entry.HasField("timestamp"):
            return True
        key = entry.timestamp.seconds, entry.timestamp.nanos, entry.severity, entry.message
        if self._repeats[key]:
            self._repeats[key] -= 1
            return False
        self._shown.append(key)
        return True


MAX_SEVERITY_LENGTH = 16
MAX_MESSAGE_LENGTH = 16 * 1024
"""In characters; longer records are cut."""
REOPEN_SECONDS = 1.0
"""The pause before the log is opened again."""
_HOOKS = {
    common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK: "beforeLease",
    common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK: "afterLease",
}


async def entries(channel: Caller) -> AsyncGenerator[LogStreamResponse, None]:
    """Yield the entries of the log, each once, also after a reconnect. Ends at once with exporters before 0.8.

    Raises:
        RpcError: the connection was lost and the channel does not reconnect.
    """
    exporter = ExporterServiceStub(channel)
    deduplicator = LogDeduplicator()
    while True:
        try:
            async with exporter.LogStream(empty_pb2.Empty()) as call:
                while True:
                    entry = entry_of(await call.receive_data())
                    if deduplicator.is_new(entry):
                        yield entry
        except trio.EndOfChannel:
            return
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                return
            if not await _can_reopen(channel, error):
                raise
            deduplicator.reopened()


async def _can_reopen(channel: Caller, error: RpcError) -> bool:
    """Whether the log can be opened again after this error. Waits before a retry."""
    if not isinstance(channel, ReconnectingChannel) or channel.shutdown_reason is not None:
        return False
    if not isinstance(error, ConnectionLostError):
        if error.code is not StatusCode.UNAVAILABLE:
            return False
        await trio.sleep(REOPEN_SECONDS)
    return True


def entry_of(data: bytes) -> LogStreamResponse:
    """Parse a record, with long fields cut. An invalid record becomes an entry that says so."""
    try:
        found = LogStreamResponse.FromString(data)
    except DecodeError:
        return LogStreamResponse(severity="WARNING", message="a log record of the exporter cannot be read")
    entry = LogStreamResponse(
        severity=shown(found.severity, MAX_SEVERITY_LENGTH) or "INFO",
        message=found.message
        if len(found.message) <= MAX_MESSAGE_LENGTH
        else f"{found.message[:MAX_MESSAGE_LENGTH]}… ({len(found.message)} characters)",
        driver_type=found.driver_type[:MAX_MESSAGE_LENGTH],
        operation=found.operation[:MAX_MESSAGE_LENGTH],
        source=found.source,
    )
    if found.HasField("timestamp"):
        entry.timestamp.CopyFrom(found.timestamp)
    if found.structured_fields and found.ByteSize() <= MAX_MESSAGE_LENGTH:
        entry.structured_fields.update(found.structured_fields)
    return entry


def is_of_hook(entry: LogStreamResponse) -> bool:
    """Whether a hook printed the entry."""
    return entry.source in _HOOKS


def is_notice(entry: LogStreamResponse) -> bool:
    """Whether the entry is for the users of the session, such as that somebody else uses their lease."""
    return NOTICE in entry.structured_fields


def line_of(entry: LogStreamResponse) -> str:
    """Format an entry for users."""
    kind = _HOOKS.get(entry.source)
    return shown(
        f"{kind}: {entry.message}" if kind else f"{entry.severity:<8} {entry.message}", 2 * MAX_MESSAGE_LENGTH
    )
