"""Files behind URLs, which the exporter fetches or uploads itself, so that they do not pass through the user.

For users of a lease or of the network (`reach`), URLs of the exporter's own host are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal

from jumpstarter_proto import transfer
from jumpstarter_proto.transfer import MAX_REDIRECTS, TransferError, TransferLimits, TransferTimeout
from jumpstarter_proto.value import JSON

from jumpstarter_exporter.user_reach import current_reach

__all__ = ["MAX_REDIRECTS", "PresignedError", "PresignedRequest", "PresignedTimeout", "get", "put"]

TOTAL_SECONDS = 7200.0
"""Time limit for one file."""
IDLE_SECONDS = 60.0
"""A server that sends nothing for so long is considered gone."""

PresignedError = TransferError
PresignedTimeout = TransferTimeout


class PresignedRequest(transfer.TransferRequest):
    """What to do with which URL, as a handle says it."""

    @classmethod
    def of(cls, handle: Mapping[str, JSON], method: Literal["GET", "PUT"]) -> PresignedRequest:
        """Read a handle. ValueError for one that is not made for `method` or is no http(s) URL."""
        url, headers, wanted = handle.get("url"), handle.get("headers") or {}, handle.get("method")
        if wanted != method:
            raise ValueError(f"the resource is made for {wanted!r}; this call needs {method}")
        if not isinstance(url, str) or not isinstance(headers, Mapping):
            raise ValueError("a presigned resource has a `url` and a dict of `headers`")  # noqa: TRY004
        request = cls(method, url, {str(name): str(value) for name, value in headers.items()})
        request.check()
        return request


def get(
    request: PresignedRequest,
) -> AbstractAsyncContextManager[tuple[Callable[[], Awaitable[bytes]], int | None]]:
    """See `transfer.get`; for the user whose call this is."""
    return transfer.get(request, _limits())


def put(request: PresignedRequest) -> AbstractAsyncContextManager[Callable[[bytes], Awaitable[None]]]:
    """See `transfer.put`; the same."""
    return transfer.put(request, _limits())


def _limits() -> TransferLimits:
    # The text is Jumpstarter's own, which its clients know.
    return TransferLimits(current_reach(), TOTAL_SECONDS, IDLE_SECONDS, "Presigned HTTP")
