"""The log of an exporter's session: its entries, each once, and how they are printed."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.texts import printable
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import LogStreamResponse

from jumpstarter_client.lasting import ConnectionLostError, LastingChannel
from jumpstarter_client.lasting.log_news import LogNews

__all__ = ["entries", "is_of_hook", "line_of"]

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
                async for entry in call:
                    if news.is_new(entry):
                        yield entry
            return
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                return
            if not await _comes_back(channel, error):
                raise
            news.reopened()


async def _comes_back(channel: Caller, error: RpcError) -> bool:
    """Whether a reader that ended with this error may begin again now."""
    if not isinstance(channel, LastingChannel) or channel.over is not None:
        return False
    if not isinstance(error, ConnectionLostError):
        if error.code is not StatusCode.UNAVAILABLE:
            return False
        await trio.sleep(READER_PAUSE)
    return True


def is_of_hook(entry: LogStreamResponse) -> bool:
    """Whether a hook printed it."""
    return entry.source in _HOOKS


def line_of(entry: LogStreamResponse) -> str:
    """As users read it."""
    kind = _HOOKS.get(entry.source)
    return printable(f"{kind}: {entry.message}" if kind else f"{entry.severity:<8} {entry.message}")
