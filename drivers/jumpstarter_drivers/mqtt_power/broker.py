"""A short connection to an MQTT broker under trio: paho's client without a thread of its own.

Each question has a connection of its own. No state gets stale, a restart of the broker has no effect, and an exporter
with fifty outlets keeps no connection open between uses.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import trio
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["Broker", "BrokerConnection", "MqttMessage", "visit"]

MAX_MESSAGE_BYTES = 64 * 1024
MAX_RECEIVED_BYTES = 1024 * 1024
"""Of one connection, which is for one question: paho keeps all of a message, and what the broker never completes."""
_MAX_UNREAD_MESSAGES = 256
_TICK_SECONDS = 1.0
_KEEPALIVE_SECONDS = 15
_CREDENTIALS_REFUSED = frozenset({4, 5, 134, 135})
"""CONNACK of MQTT 3.1.1 and 5: bad user name or password, not authorised."""

InThread = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Broker:
    """Address of the broker, and the credentials."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str = ""
    transport: Literal["tcp", "websockets", "unix"] = "tcp"

    def __str__(self) -> str:
        return self.host if self.transport == "unix" else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class MqttMessage:
    """A message from the broker."""

    topic: str
    text: str
    is_retained: bool
    """Whether the broker had stored it: it may be old."""


class BrokerConnection:
    """A connection while it is open."""

    def __init__(self, client: Client, broker: Broker) -> None:
        self._client = client
        self._broker = broker
        self._sender, self.messages = trio.open_memory_channel[MqttMessage](_MAX_UNREAD_MESSAGES)
        self._connected = trio.Event()
        self._acknowledged: dict[int, trio.Event] = {}
        self._refused = False
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe

    async def connected(self) -> None:
        """Wait until the broker has accepted the connection."""
        await self._connected.wait()

    async def subscribe(self, *topics: str) -> None:
        """Subscribe; returns when the broker has acknowledged it."""
        _, number = self._client.subscribe([(topic, 0) for topic in topics])
        await self._acknowledgement(number)
        if self._refused:
            raise OutletRefused(
                f"the broker {self._broker} does not let this user read {shown(', '.join(topics))}; change its rules"
            )

    async def publish(self, topic: str, text: str) -> None:
        """Publish; returns when the broker has acknowledged it."""
        await self._acknowledgement(self._client.publish(topic, text, qos=1).mid)

    def received(self) -> Iterator[MqttMessage]:
        """Iterate over the messages that were received and not read yet."""
        with suppress(trio.WouldBlock):
            while True:
                yield self.messages.receive_nowait()

    async def pump(self) -> None:
        """Read from and write to the connection until it ends."""
        while True:
            connection = self._client.socket()
            if connection is None:
                raise OutletUnreachable(f"the broker {self._broker} closed the connection; see its log")
            await _ready(connection, is_writing=self._client.want_write())
            if self._client.socket() is connection:
                self._client.loop_read()
                self._client.loop_write()
                self._client.loop_misc()

    async def _acknowledgement(self, number: int | None) -> None:
        if number is None:
            raise OutletUnreachable(f"the broker {self._broker} is gone; check it")
        await self._acknowledged.setdefault(number, trio.Event()).wait()

    def _on_connect(
        self, client: Client, data: object, flags: object, reason: Any, properties: object
    ) -> None:
        if reason.is_failure:
            said = shown(str(reason))
            if reason.value in _CREDENTIALS_REFUSED:
                raise OutletRefused(
                    f"the broker {self._broker} does not accept the user and the password ({said}); correct them"
                )
            raise OutletUnreachable(
                f"the broker {self._broker} rejected the connection ({said}); see its log"
            )
        self._connected.set()

    def _on_message(self, client: Client, data: object, message: Any) -> None:
        try:
            topic = str(message.topic)
        except UnicodeDecodeError:
            return  # none that was subscribed to
        if len(message.payload) <= MAX_MESSAGE_BYTES:
            text = message.payload.decode("utf-8", "replace")
            with suppress(trio.WouldBlock):  # a device that talks faster than it is read is asked again
                self._sender.send_nowait(MqttMessage(topic, text, bool(message.retain)))

    def _on_publish(self, client: Client, data: object, number: int, reason: Any, properties: object) -> None:
        self._acknowledged.setdefault(number, trio.Event()).set()

    def _on_subscribe(
        self, client: Client, data: object, number: int, reasons: Any, properties: object
    ) -> None:
        self._refused = any(reason.is_failure for reason in reasons)
        self._acknowledged.setdefault(number, trio.Event()).set()


@asynccontextmanager
async def visit(broker: Broker, in_thread: InThread, seconds: float) -> AsyncIterator[BrokerConnection]:
    """A connection for a block, which has so many seconds to come about.

    Raises:
        OutletUnreachable: the broker is not there, or goes away.
        OutletRefused: it rejects this user.
    """
    from paho.mqtt.client import Client  # noqa: PLC0415 - for whoever switches by it
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: PLC0415

    limit = _ConnectLimit(seconds)
    left = MAX_RECEIVED_BYTES

    class BoundedClient(Client):
        def _sock_recv(self, count: int) -> bytes:
            nonlocal left
            if count > left:  # paho asks for a whole message, however long it claims to be
                raise OutletUnreachable(
                    f"the broker {broker} sends more than {MAX_RECEIVED_BYTES // 1024} KiB at a time; check `topic`, "
                    "and what else is published there"
                )
            data = bytes(super()._sock_recv(count))
            left -= len(data)
            return data

        def _create_socket_connection(self) -> socket.socket:
            connection = super()._create_socket_connection()
            limit.add(connection)
            return connection

    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=broker.client_id,
        transport=broker.transport,
        protocol=MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = seconds
    if broker.tls is not None:
        broker.tls.sslsocket_class = _ClosingSocket
        client.tls_set_context(broker.tls)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    opened = BrokerConnection(client, broker)
    with collapsed():
        try:
            await in_thread(_connect, client, broker, limit)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opened.pump)
                try:
                    with trio.fail_after(seconds):
                        await opened.connected()
                except trio.TooSlowError:
                    raise OutletUnreachable(
                        f"the broker {broker} does not answer within {seconds:g} s; check it"
                    ) from None
                yield opened
                nursery.cancel_scope.cancel()
        finally:
            client.disconnect()
            client.loop_write()  # what fits; a broker notices a closed connection, too
            if (connection := client.socket()) is not None:
                connection.close()


class _ClosingSocket(ssl.SSLSocket):
    """Closes itself if the broker is not trusted; paho only forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class _ConnectLimit:
    """Cuts connections when the time is over: paho bounds each read of a handshake, not all of them together."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def add(self, connection: socket.socket) -> None:
        """Cut this one, too. A copy is kept, because TLS takes the descriptor over."""
        self._connections.append((connection, connection.dup()))
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        self.is_over = True
        for _, copy in self._connections:
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._timer.cancel()
        self._timer.join()
        for connection, copy in self._connections:
            copy.close()
            if error is not None:
                connection.close()  # paho forgets it


def _connect(client: Client, broker: Broker, limit: _ConnectLimit) -> None:
    try:
        with limit:
            client.connect(broker.host, broker.port, keepalive=_KEEPALIVE_SECONDS)
    except ssl.SSLCertVerificationError as error:
        raise OutletRefused(
            f"the certificate of the broker {broker} is not trusted ({error.verify_message}); "
            "name its authority in `ca`"
        ) from None
    except (OSError, ValueError) as error:
        if limit.is_over:
            raise OutletUnreachable(f"the broker {broker} does not answer in time; check it") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OutletUnreachable(
            f"the broker {broker} cannot be reached ({shown(reason)}); check its address, `port` and `tls`"
        ) from None


async def _ready(connection: Any, *, is_writing: bool) -> None:
    if getattr(connection, "pending", int)():
        return  # what TLS has read already
    with trio.move_on_after(_TICK_SECONDS):
        async with trio.open_nursery() as nursery:

            async def until(wait: Callable[[Any], Awaitable[None]]) -> None:
                await wait(connection)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until, trio.lowlevel.wait_readable)
            if is_writing:
                nursery.start_soon(until, trio.lowlevel.wait_writable)
