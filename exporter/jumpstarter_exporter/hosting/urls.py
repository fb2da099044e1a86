"""URLs in the arguments of a call, which the driver in the child would fetch: the limits of the user apply to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import trio
from google.protobuf.struct_pb2 import Value

from jumpstarter_exporter.user_reach import current_reach

__all__ = ["check_urls"]

PRESIGNED = "presigned_request"
"""The kind of a handle with a URL."""
_PORTS = {"http": 80, "https": 443}


async def check_urls(arguments: Iterable[Value]) -> None:
    """Check the URLs of all handles for the user whose call this is. Where a server redirects to is not known.

    Raises:
        AddressRefused: the user must not reach one of them through the exporter.
        ValueError: one is no http(s) URL.
        OSError: its host is not found.
    """
    reach = current_reach()
    if not reach.is_limited:
        return
    for url in _urls(arguments):
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("the URL of a resource begins with http:// or https:// and has a host")
        await trio.to_thread.run_sync(
            reach.resolve, parts.hostname, parts.port or _PORTS[parts.scheme], abandon_on_cancel=True
        )


def _urls(values: Iterable[Value]) -> Iterator[str]:
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if value.HasField("list_value"):
            waiting += value.list_value.values
        elif value.HasField("struct_value"):
            fields = value.struct_value.fields
            if "url" in fields and "kind" in fields and fields["kind"].string_value == PRESIGNED:
                yield fields["url"].string_value
            waiting += fields.values()
