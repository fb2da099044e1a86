"""A minimal HTTP server for scrapers and probes: GET of a few fixed paths, one request for each connection."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import trio

__all__ = ["Page", "serve_http"]

MAX_HEAD_BYTES = 16 * 1024
CONNECTION_SECONDS = 10.0
"""The time limit of a connection."""
MAX_CONNECTIONS = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


async def serve_http(
    listeners: Sequence[trio.abc.Listener[Any]],
    pages: Mapping[str, Callable[[], Awaitable[Page]]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `pages`, by path, until cancelled. Closes the listeners."""
    slots = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def handle(stream: trio.abc.Stream) -> None:
        # `serve_listeners` closes the stream when this returns.
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            with trio.move_on_after(CONNECTION_SECONDS):
                await _answer(stream, pages)
        except (OSError, trio.BrokenResourceError) as error:
            _log.debug("a scraper has left: %s", error)
        finally:
            slots.release()

    task_status.started()
    await trio.serve_listeners(handle, list(listeners))


async def _answer(stream: trio.abc.Stream, pages: Mapping[str, Callable[[], Awaitable[Page]]]) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(4096)
        head += data
        if not data or len(head) > MAX_HEAD_BYTES:
            return
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
    method, path = words[:2] if len(words) == 3 else ("", "")
    page = await _page(method, path.partition("?")[0], pages)
    lines = [
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Connection: close",
    ]
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    await stream.send_all("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else page.body))


async def _page(method: str, path: str, pages: Mapping[str, Callable[[], Awaitable[Page]]]) -> Page:
    if not method:
        return Page(b"this is no HTTP request\n", status=HTTPStatus.BAD_REQUEST)
    if method not in {"GET", "HEAD"}:
        return Page(b"only GET and HEAD are answered here\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
    make = pages.get(path)
    if make is None:
        return Page(f"only {', '.join(pages)} are here\n".encode(), status=HTTPStatus.NOT_FOUND)
    return await make()
