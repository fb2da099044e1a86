"""QEMU's machine protocol, QMP: messages as JSON objects, one a line. Parsing and numbering are without I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import trio
from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.texts import shown
from jumpstarter_proto.value import JSON

__all__ = ["QmpConnection", "QmpMessages"]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
REPLY_SECONDS = 10.0
EVENT_SECONDS = 30.0


class QmpMessages:
    """Bytes of QEMU become messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, JSON]]:
        """The complete messages. ValueError for what is none."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        if len(rest) > MAX_MESSAGE_BYTES:
            raise ValueError("a message is too long")
        self._buffer = bytearray(rest)
        found = [parse_json(line.decode("utf-8")) for line in lines if line.strip()]
        if not all(isinstance(message, dict) for message in found):
            raise ValueError("a message is no JSON object")
        return found


class QmpConnection:
    """Commands for one machine, one at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._messages = QmpMessages()
        self._received: list[dict[str, JSON]] = []
        self._lock = trio.Lock()
        self._number = 0

    async def start(self) -> None:
        """Wait for QEMU's greeting, and begin with commands. DeviceFailed if there is none."""
        async with self._lock:
            try:
                with trio.fail_after(REPLY_SECONDS):
                    while "QMP" not in await self._next():
                        pass
            except (trio.BrokenResourceError, trio.TooSlowError, ValueError, EOFError) as error:
                raise DeviceFailed("QEMU does not respond; switch the machine off and on") from error
        await self.execute("qmp_capabilities")

    async def execute(self, command: str, **arguments: JSON) -> JSON:
        """Run a command and return its result. Events that come before it are dropped.

        Raises:
            DeviceFailed: QEMU refuses it, does not answer, or has ended.
        """
        async with self._lock:
            self._number += 1
            request: dict[str, JSON] = {"execute": command, "id": self._number, "arguments": arguments}
            try:
                with trio.fail_after(REPLY_SECONDS):
                    await self._stream.send_all(json.dumps(request).encode() + b"\n")
                    while (reply := await self._next()).get("id") != self._number:
                        pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError, EOFError) as error:
                raise DeviceFailed("the machine has ended; switch it on again") from error
            except trio.TooSlowError:
                raise DeviceFailed(
                    f"QEMU does not answer {command} within {REPLY_SECONDS:g} s; switch the machine off and on"
                ) from None
        fault = reply.get("error")
        if isinstance(fault, Mapping):
            raise DeviceFailed(f"QEMU refuses {command}: {shown(str(fault.get('desc', '')))}")
        return reply.get("return")

    async def drop_events(self) -> None:
        """Read what QEMU reports now and then, so that it does not keep it, until it is cancelled."""
        while True:
            await trio.sleep(EVENT_SECONDS)
            with suppress(DeviceFailed):  # a machine that is slow, or has ended
                await self.execute("query-status")

    async def _next(self) -> dict[str, JSON]:
        while not self._received:
            data = await self._stream.receive_some()
            if not data:
                raise EOFError
            self._received += self._messages.feed(bytes(data))
        return self._received.pop(0)
