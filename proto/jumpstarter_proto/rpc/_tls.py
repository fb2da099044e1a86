"""TLS over a socket. Reads and writes in large pieces, and without waking another task where nothing has to wait.

trio's own TLS stream gives one record (16 KiB) a time, with several checkpoints for each, and writes only by
waiting. A router that carries a stream does that four times for each byte.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from jumpstarter_proto.rpc._byte_transport import SocketReader, descriptor_of
from jumpstarter_proto.rpc._send_buffer import SendBuffer

__all__ = ["TlsListener", "TlsStream"]

MAX_PIECE_BYTES = 256 * 1024
"""Most that is encrypted or read at a time. Frames of 64 KiB fit, heads and all."""
OPENSSL_STEP_BYTES = 72 * 1024
"""So much of it goes through OpenSSL's buffers at a time: they grow to what is in them, and never shrink again. A frame
of 64 KiB goes in one."""
TLS_RECORD_BYTES = 16 * 1024
"""Most bytes of one record."""


class TlsStream(trio.abc.Stream):
    """TLS over a connected socket; `do_handshake` comes first. Closing sends no close_notify.

    One task may send while another receives. An end without close_notify is a normal end, because HTTP/2 itself marks
    what is complete.
    """

    is_whole: Final = True

    def __init__(
        self, socket: trio.SocketStream, context: ssl.SSLContext, *, server_hostname: str | None = None
    ) -> None:
        """Without a `server_hostname` it is the server's end."""
        self.transport_stream = socket
        self._fileno = descriptor_of(socket)
        self._reader = SocketReader(self._fileno, MAX_PIECE_BYTES)
        self._context, self._server_hostname = context, server_hostname
        self._encrypted = memoryview(b"")
        self._received = b""
        self._ended = False
        self._failure: ssl.SSLError | None = None

    async def do_handshake(self) -> None:
        """Do the TLS handshake, and verify the peer as configured in the context.

        Raises:
            trio.BrokenResourceError: the handshake failed; the cause has the reason.
        """
        # Not before: a connection that waits for its turn holds a socket and little else.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=self._server_hostname is None,
            server_hostname=self._server_hostname,
        )
        self._reader.most = TLS_RECORD_BYTES
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._write_encrypted()
                if not (data := await self._read()):
                    raise trio.BrokenResourceError("the peer closed the connection") from None
                self._incoming.write(data)
            except (ssl.SSLError, ssl.CertificateError) as error:
                with suppress(OSError):
                    self._write_encrypted_now()  # the alert that tells the peer
                raise trio.BrokenResourceError from error
            else:
                await self._write_encrypted()
                # The peer's first words may have come with the end of its handshake.
                self._received = self._decrypt()
                self._reader.most = MAX_PIECE_BYTES
                return

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that both ends agreed on."""
        return self._tls.selected_alpn_protocol()

    def getpeercert(self) -> bytes | None:
        """The peer's certificate in DER."""
        return self._tls.getpeercert(binary_form=True)

    # --- trio's interface

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; b"" at the end."""
        data = await self.receive()
        if max_bytes is not None and len(data) > max_bytes:
            data, self._received = data[:max_bytes], data[max_bytes:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, behind what was promised before."""
        await self._write_encrypted()
        view = memoryview(data)
        for start in range(0, len(view), MAX_PIECE_BYTES):
            self._encrypt(view[start : start + MAX_PIECE_BYTES])
            await self._write_encrypted()

    async def wait_send_all_might_not_block(self) -> None:
        """The socket's."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the socket."""
        await self.transport_stream.aclose()

    # --- a connection's (see `ByteTransport`)

    def read_at_most(self, size: int) -> None:
        """Read so many encrypted bytes at a time."""
        self._reader.most = size

    def byte_transport(self) -> TlsStream:
        """This is one."""
        return self

    @property
    def pending(self) -> int:
        """Encrypted, and not written yet."""
        return len(self._encrypted) + self._outgoing.pending

    async def receive(self) -> bytes:
        """What has come; b"" at the end.

        Raises:
            trio.BrokenResourceError: what came is not what the peer sent.
        """
        if self._received:
            await trio.lowlevel.checkpoint_if_cancelled()
            data, self._received = self._received, b""
            return data
        while self._failure is None and not self._ended and (data := await self._read()):
            pieces = []
            view = memoryview(data)
            for start in range(0, len(view), OPENSSL_STEP_BYTES):
                self._incoming.write(view[start : start + OPENSSL_STEP_BYTES])
                if piece := self._decrypt():
                    pieces.append(piece)
            if pieces:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._failure is not None:
            raise trio.BrokenResourceError from self._failure
        self._ended = True
        return b""

    async def _read(self) -> bytes:
        """Wait for bytes of the peer; b"" at their end."""
        try:
            return await self._reader.read()
        except OSError as error:
            raise trio.BrokenResourceError from error

    def _decrypt(self) -> bytes:
        """All that has come in whole records."""
        pieces = []
        read, incoming = self._tls.read, self._incoming
        try:
            while True:
                piece = read(TLS_RECORD_BYTES)
                if not piece:
                    self._ended = True  # said in TLS's own way
                    break
                pieces.append(piece)
                if not incoming.pending:
                    break  # a record is read whole, so asking once more would only raise
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._failure = error  # behind what came before it
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write_now(self, send_buffer: SendBuffer) -> None:
        """As much as goes without waiting, in the order in which it was encrypted."""
        while self._write_encrypted_now() and send_buffer.size:
            self._encrypt(send_buffer.take(MAX_PIECE_BYTES))

    async def write(self, send_buffer: SendBuffer) -> None:
        """Wait until something can be written, and write it."""
        await trio.lowlevel.wait_writable(self._fileno())
        self.write_now(send_buffer)

    def _encrypt(self, data: bytes | memoryview) -> None:
        pieces = [self._encrypted] if self._encrypted else []
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[:OPENSSL_STEP_BYTES]) :]
            pieces.append(memoryview(self._outgoing.read()))
        self._encrypted = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def _write_encrypted_now(self) -> bool:
        """Whether all of it is on its way. OSError when the connection is broken."""
        while True:
            if not self._encrypted:
                if not self._outgoing.pending:
                    return True
                self._encrypted = memoryview(self._outgoing.read())
            try:
                count = os.write(self._fileno(), self._encrypted)
            except BlockingIOError:
                return False
            self._encrypted = self._encrypted[count:]

    async def _write_encrypted(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            while not self._write_encrypted_now():
                await trio.lowlevel.wait_writable(self._fileno())
        except OSError as error:
            raise trio.BrokenResourceError from error


class TlsListener(trio.abc.Listener[TlsStream]):
    """Accepts TLS connections; the handshake follows later."""

    def __init__(self, listener: trio.SocketListener, context: Callable[[], ssl.SSLContext]) -> None:
        """`context` gives that of each connection."""
        self.transport_listener = listener
        self._context = context

    async def accept(self) -> TlsStream:
        """The next connection."""
        return TlsStream(await self.transport_listener.accept(), self._context())

    async def aclose(self) -> None:
        """Close the socket."""
        await self.transport_listener.aclose()
