"""The log of an exporter's session: its entries, each once, and how they are printed."""

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

__all__ = ["REMEMBERED", "LogNews", "entries", "entry_of", "is_notice", "is_of_hook", "line_of"]

REMEMBERED = 2048
"""Entries; twice what an exporter keeps. Each has a bound of its own (`logs.entry_of`)."""

_Key: TypeAlias = tuple[int, int, str, str]


class LogNews:
    """Remembers the last entries."""

    def __init__(self) -> None:
        self._shown: deque[_Key] = deque(maxlen=REMEMBERED)
        self._repeats: Counter[_Key] = Counter()

    def reopened(self) -> None:
        """From here on the log may say again what it has said."""
        self._repeats = Counter(self._shown)

    def is_new(self, entry: LogStreamResponse) -> bool:
        """Whether to show it. An entry without a time cannot be told from its like, and is shown."""
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
"""Characters of a record; who writes more than that does not want it to be read."""
READER_PAUSE = 1.0
"""Seconds between tries of somebody who only reads."""
_HOOKS = {
    common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK: "beforeLease",
    common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK: "afterLease",
}


async def entries(channel: Caller) -> AsyncGenerator[LogStreamResponse, None]:
    """The log, until the iteration is left; each entry once, whatever breaks meanwhile. None before 0.8.

    Raises:
        RpcError: the connection broke, and is not one that comes back.
    """
    exporter = ExporterServiceStub(channel)
    news = LogNews()
    while True:
        try:
            async with exporter.LogStream(empty_pb2.Empty()) as call:
                while True:
                    entry = entry_of(await call.receive_data())
                    if news.is_new(entry):
                        yield entry
        except trio.EndOfChannel:
            return
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                return
            if not await _comes_back(channel, error):
                raise
            news.reopened()


async def _comes_back(channel: Caller, error: RpcError) -> bool:
    """Whether a reader that ended with this error may begin again now."""
    if not isinstance(channel, ReconnectingChannel) or channel.shutdown_reason is not None:
        return False
    if not isinstance(error, ConnectionLostError):
        if error.code is not StatusCode.UNAVAILABLE:
            return False
        await trio.sleep(READER_PAUSE)
    return True


def entry_of(data: bytes) -> LogStreamResponse:
    """A record as an exporter sent it, with no more in it than is shown. What is no record is one that says so."""
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
    """Whether a hook printed it."""
    return entry.source in _HOOKS


def is_notice(entry: LogStreamResponse) -> bool:
    """Whether the session's users are to read it, as that somebody else takes part in their lease."""
    return NOTICE in entry.structured_fields


def line_of(entry: LogStreamResponse) -> str:
    """As users read it."""
    kind = _HOOKS.get(entry.source)
    return shown(
        f"{kind}: {entry.message}" if kind else f"{entry.severity:<8} {entry.message}", 2 * MAX_MESSAGE_LENGTH
    )
