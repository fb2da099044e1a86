"""Small JSON documents over HTTPS, bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import parse_json

__all__ = ["FetchError", "Reply", "fetch_json"]

MAX_BODY_BYTES = 512 * 1024
FETCH_SECONDS = 10.0
_limiter = trio.CapacityLimiter(4)
"""Of its own: a server that hangs must not take the threads that others need."""


class FetchError(JumpstarterError):
    """Nothing usable came; says why."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True)
class Reply:
    """What came: HTTP's status and a JSON object."""

    status: int
    data: dict[str, Any]


async def fetch_json(url: str, ca: str = "", fields: Mapping[str, str] | None = None) -> Reply:
    """Get a JSON object, or post the fields of a form and get one.

    `ca` are the trusted CA certificates in PEM; empty for those of the system. The thread may be abandoned: it holds
    only a socket, and ends soon after the time limit.

    Raises:
        FetchError: not reachable, not trusted, too slow, too large, redirected, or not a JSON object.
    """
    try:
        with trio.fail_after(FETCH_SECONDS + 2):
            status, data = await trio.to_thread.run_sync(
                _fetch, url, ca, fields, abandon_on_cancel=True, limiter=_limiter
            )
    except trio.TooSlowError:
        raise FetchError(f"{url} does not answer within {FETCH_SECONDS:g} s") from None
    try:
        found = parse_json(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FetchError(f"{url} answered {status}, and no JSON object")
    return Reply(status, found)


def _fetch(url: str, ca: str, fields: Mapping[str, str] | None) -> tuple[int, bytes]:
    # Commands that a user waits for mostly need none of it.
    import http.client  # noqa: PLC0415
    import ssl  # noqa: PLC0415
    import urllib.error  # noqa: PLC0415
    import urllib.parse  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """Redirects are rejected: they could lead to plain HTTP or to another host."""

        def redirect_request(self, *_: Any) -> None:
            return None

    if urllib.parse.urlsplit(url).scheme != "https":
        raise FetchError(f"{url} is not an https:// URL")
    context = ssl.create_default_context(cadata=ca or None)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), NoRedirect)
    body = None if fields is None else urllib.parse.urlencode(fields).encode()
    try:
        try:
            reply = opener.open(url, body, timeout=FETCH_SECONDS)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            return int(reply.status or 0), _body(url, reply)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FetchError(f"{url} cannot be fetched: {getattr(error, 'reason', error)}") from None


def _body(url: str, reply: Any) -> bytes:
    # A piece at a time: a peer that drips keeps the socket's own timeout from ever coming.
    end = time.monotonic() + FETCH_SECONDS
    data = b""
    while piece := reply.read1(16 * 1024):
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise FetchError(f"{url} gave more than {MAX_BODY_BYTES // 1024} KiB")
        if time.monotonic() > end:
            raise FetchError(f"{url} takes longer than {FETCH_SECONDS:g} s")
    return data
