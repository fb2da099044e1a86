"""Serial consoles for the user: a console in the terminal, a pipe for scripts, pexpect for tests."""

from __future__ import annotations

import re
import sys
from base64 import b64decode
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import trio
from jumpstarter_client.adapters import PexpectAdapter
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from jumpstarter_client.twin import twin, twin_context, twin_iter
from jumpstarter_client.verb import verb
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.serial.history import HistoryRecord, Lines, parse_since, show
from jumpstarter_drivers.serial.terminal import CLOSED, raw_terminal, read_stdin, say, write_all

if TYPE_CHECKING:
    from cyclopts import Parameter
    from jumpstarter_client.console import ConsoleSession, Result
    from jumpstarter_proto.duration_parameter import Seconds
    from pexpect.fdpexpect import fdspawn

__all__ = ["PySerialClient"]

_QUIET_OPEN_SECONDS = 0.3
"""Seconds that a console may take to open before that is a wait."""
_MAX_REASON_LENGTH = 400
LOADER_PROMPT = "jumpstarter.dev/loader-prompt"
"""The device's label that has its `loader_prompt`."""


class OutputError(JumpstarterError):
    """The file that the console goes to cannot be written."""


class PipeUsageError(JumpstarterError):
    """Options of `pipe` that do not go together."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class PySerialClient(DriverClient):
    """Reads and writes a board's serial console."""

    interface: ClassVar[str] = "serial"

    @property
    def loader_prompt(self) -> str | None:
        """The boot loader's prompt, if the exporter's configuration has it."""
        return self.node.labels.get(LOADER_PROMPT)

    @verb
    def start_console(self, *, last: Annotated[int, Parameter(name=["--last", "-n"])] = 0) -> None:
        """Open the console in this terminal; Ctrl-B three times leaves.

        Ctrl-] h shows the keys, such as Ctrl-] p to power-cycle the board.

        Parameters
        ----------
        last
            Begin with this number of earlier lines.
        """
        with raw_terminal():
            ended = self.portal.call(self._console, last)
        say(ended)

    @twin_iter
    async def history(
        self, *, since: float | None = None, lines: int | None = None, follow: bool = False
    ) -> AsyncIterator[HistoryRecord]:
        """What the exporter recorded of the console: from a time (seconds since 1970) or the last lines on.

        With `follow` it goes on with what comes. An exporter of Jumpstarter 0.9 records nothing.
        """
        async with aclosing(self.streamingcall_async("log", since, lines, follow)) as batches:
            async for batch in batches:
                for record in cast("list[dict[str, str]]", batch):
                    yield HistoryRecord(float(record["time"]), record["kind"], b64decode(record["data"]))

    async def _exporters_now(self) -> datetime:
        """Return the exporter's time in the local time zone; the local time if the exporter does not report it."""
        try:
            return datetime.fromtimestamp(float(cast("float", await self.call_async("clock")))).astimezone()
        except (DriverMethodNotImplemented, ValueError, TypeError, OverflowError, OSError):
            return datetime.now().astimezone()

    @twin
    async def mark(self, text: str = "") -> None:
        """Put a bookmark into the recording."""
        await self.call_async("mark", text)

    @verb
    def log(
        self,
        *,
        follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
        since: str | None = None,
        grep: str | None = None,
        lines: Annotated[int | None, Parameter(name=["--lines", "-n"])] = None,
        timestamps: Annotated[bool, Parameter(name=["--timestamps", "-t"], negative="")] = False,
    ) -> None:
        """Print the recorded output of the console.

        Control characters are not sent to a terminal.

        Parameters
        ----------
        follow
            Print new output as it arrives, until Ctrl-C.
        since
            An age such as 10m (s, m, h, d), or a time of the exporter such as 14:30 or 2026-11-24T14:30.
        grep
            Only lines that match this regular expression.
        lines
            Only the last lines.
        timestamps
            Print the time of each line.
        """
        try:
            start = None if since is None else parse_since(since, self.portal.call(self._exporters_now))
            wanted = None if grep is None else re.compile(grep)
        except re.error as error:
            raise ValueError(f"{grep!r} is not a valid regular expression: {error}") from None
        harmless = sys.stdout.isatty()
        raw = wanted is None and not timestamps and not harmless
        split = Lines()
        # Of the lines that match, the last ones: which these are shows at the end, if there is one.
        matches = deque[bytes](maxlen=lines) if wanted and lines and not follow else None
        put = self._write if matches is None else matches.append
        try:
            for record in self.history(since=start, lines=None if wanted else lines, follow=follow):
                if raw and record.kind == "data":
                    put(record.data)
                    continue
                if raw:  # a pipe or a file gets the console's bytes and nothing else
                    print_error_line(f"[jumpstarter: {record.data.decode('utf-8', 'replace')}]")
                    continue
                for line in split.feed(record):
                    if text := show(line, wanted=wanted, timestamps=timestamps, harmless=harmless):
                        put(text)
            for line in split.rest():
                if text := show(line, wanted=wanted, timestamps=timestamps, harmless=harmless):
                    put(text)
            for text in matches or ():
                self._write(text)
        except KeyboardInterrupt:
            if not follow:
                raise

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    @verb
    def pipe(
        self,
        *,
        output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
        input: Annotated[  # noqa: A002 - the option's name
            bool | None, Parameter(name=["--input", "-i"], negative="--no-input")
        ] = None,
        append: Annotated[bool, Parameter(name=["--append", "-a"], negative="")] = False,
        no_output: Annotated[bool, Parameter(name="--no-output", negative="")] = False,
    ) -> None:
        """Write the console to stdout or a file, and stdin to the console when something is piped in.

        Runs until Ctrl-C, also after the end of stdin.

        Parameters
        ----------
        output
            Write to this file instead of stdout.
        input
            Send stdin to the console; default: if stdin is not a terminal.
        append
            Append to the file.
        no_output
            Only send stdin, and end when all of it was sent.
        """
        if no_output and output is not None:
            raise PipeUsageError("--no-output and --output do not go together; leave one out")
        if append and output is None:
            raise PipeUsageError("--append needs the file to append to; add --output FILE")
        with_input = not sys.stdin.isatty() if input is None else input
        if no_output and not with_input:
            raise PipeUsageError("--no-output only sends stdin; pipe something in, or add --input")
        try:
            if no_output:
                self.portal.call(self._send_stdin)
            elif output is None:
                self.portal.call(self._pipe, sys.stdout.fileno(), with_input)
            else:
                self._pipe_to_file(output, append, with_input)
        except BrokenPipeError:
            return  # in a program of a user's; in one of ours it is a StandardOutputError
        except KeyboardInterrupt:
            print_error_line("")  # the documented way to end

    @asynccontextmanager
    async def attach_async(self) -> AsyncIterator[RouterStream]:
        """The console from now on, also while its port is not there, such as that of a board without power."""
        async with AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(super().stream_async("connect_early"))
            except DriverError as error:
                if error.code not in (StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED):
                    raise
                stream = await stack.enter_async_context(super().stream_async("connect"))  # Jumpstarter 0.9
            yield stream

    async def watch_async(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield the console's output from now on, each piece with the position behind it; see `position_async`.

        Raises NotImplementedError where the exporter does not know this, as that of Jumpstarter 0.9.
        """
        try:
            async with aclosing(self.streamingcall_async("watch")) as pieces:
                async for piece in pieces:
                    known = cast("dict[str, str]", piece)
                    yield int(known["position"]), b64decode(known["data"])
        except DriverError as error:
            if error.code not in (StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED):
                raise
            raise NotImplementedError(error.details) from None

    async def position_async(self) -> int:
        """Return how many bytes the console has printed. A watcher at this position has received all of them."""
        return int(cast("float", await self.call_async("position")))

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """A byte stream to the driver; see `DriverClient.stream_async`. A wait for the port is said on the terminal."""
        said = trio.CancelScope()

        async def say_what_it_waits_for() -> None:
            with said:
                await trio.sleep(_QUIET_OPEN_SECONDS)
                if why := await self.waits_for_async():
                    say(f"Waiting for the port of {self.path or 'the console'}: {why}")

        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say_what_it_waits_for)
                async with super().stream_async(method) as stream:
                    said.cancel()
                    yield stream

    async def waits_for_async(self) -> str:
        """Why the port is not there now, in a sentence; empty when it is, or when the exporter does not say."""
        try:
            return shown(str(await self.call_async("waits_for")), _MAX_REASON_LENGTH)
        except DriverError:
            return ""

    @twin_context
    async def console(
        self, *, on_data: Callable[[bytes], None] | None = None
    ) -> AsyncIterator[ConsoleSession]:
        """The console from now on: wait for text, type, log in, run commands.

        `on_data` gets what is read, as it comes.
        """
        from jumpstarter_client.console import ConsoleSession  # noqa: PLC0415 - a pipe needs none of it

        async with self.stream_async("connect") as stream:
            yield ConsoleSession(stream, self.portal, on_data=on_data, loader_prompt=self.loader_prompt)

    @twin
    async def run(
        self,
        command: str,
        *,
        user: str | None = "root",
        password: str | None = None,
        new_password: str | None = None,
        timeout: float = 60.0,
        login_timeout: float = 60.0,
    ) -> Result:
        """Get to a shell on the console, log in there if it asks, and run a command.

        With `user=None` a shell is expected to be there. `new_password` is for a board that wants another one. Errors
        are those of `Shell.login` and `Shell.run`.
        """
        async with self.console.aio() as console:
            if user is not None:
                await console.shell.login(user, password, new_password=new_password, timeout=login_timeout)
            return await console.shell.run(command, timeout=timeout)

    @verb(name="run")
    def run_verb(
        self,
        *command: str,
        user: Annotated[str, Parameter(name=["--user", "-u"])] = "root",
        password_file: Path | None = None,
        ask_password: Annotated[bool, Parameter(name="--ask-password", negative="")] = False,
        new_password_file: Path | None = None,
        timeout: Seconds = 60.0,
        login_timeout: Seconds = 60.0,
    ) -> None:
        """Run a command on the board's console and end with its exit code: `run rpi4 -- uname -a`.

        Logs in if the board asks for it, and waits while the board boots. Kernel messages are written to stderr.
        One word is a line for the board's shell; several words are a program and its arguments.

        Parameters
        ----------
        user
            User name for the login.
        password_file
            File with the password; without it, JUMPSTARTER_CONSOLE_PASSWORD.
        ask_password
            Ask for the password.
        new_password_file
            File with the new password, if the board requires one; without it, JUMPSTARTER_CONSOLE_NEW_PASSWORD.
        timeout
            Seconds for the command.
        login_timeout
            Seconds until there is a shell, including the boot.
        """
        from jumpstarter_drivers.serial.command_line import (  # noqa: PLC0415
            line_of,
            new_password_of,
            password_of,
            show_output,
        )

        line, password = line_of(command), password_of(password_file, ask_password)
        new_password = new_password_of(new_password_file)

        async def run() -> int:
            async with self.console.aio() as console:
                await console.shell.login(user, password, new_password=new_password, timeout=login_timeout)
                return (await console.shell.run(line, timeout=timeout, on_output=show_output)).exit_code

        if code := self.portal.call(run):
            raise SystemExit(code)

    @contextmanager
    def pexpect(self) -> Iterator[fdspawn[bytes]]:
        """A pexpect session on the console, for the length of a `with` block."""
        with PexpectAdapter(client=self) as session:
            yield session

    def open(self) -> fdspawn[bytes]:
        """A pexpect session on the console that lasts until the client is closed."""
        return self.stack.enter_context(self.pexpect())

    @verb
    @twin
    async def set_dtr(self, value: bool, /) -> None:
        """Set Data Terminal Ready: true or false."""
        await self.call_async("set_dtr", value)

    @verb
    @twin
    async def set_rts(self, value: bool, /) -> None:
        """Set Request To Send: true or false."""
        await self.call_async("set_rts", value)

    @verb
    @twin
    async def force_close(self) -> None:
        """End the streams of all users and close the port; the next use opens it again."""
        await self.call_async("close")

    def _pipe_to_file(self, output: Path, append: bool, with_input: bool) -> None:
        try:
            with output.open("ab" if append else "wb", buffering=0) as file:
                self.portal.call(self._pipe, file.fileno(), with_input)
        except OSError as error:
            raise OutputError(f"cannot write {output}: {error.strerror}; choose another file") from error

    async def _console(self, last: int) -> str:
        from jumpstarter_drivers.serial.console_session import converse  # noqa: PLC0415 - a pipe needs none of it

        with _broken():
            return await converse(self, last)

    async def _pipe(self, target: int, with_input: bool) -> None:
        with _broken():
            await self._pipe_until_end(target, with_input)

    async def _pipe_until_end(self, target: int, with_input: bool) -> None:
        async with self.stream_async("connect") as stream, trio.open_nursery() as nursery:
            print_error_line("Ctrl-C ends.")
            if with_input:
                nursery.start_soon(_forward_stdin, stream)
            while data := await stream.receive_some():
                await write_all(target, data)
            raise DriverError(CLOSED, code=StatusCode.UNAVAILABLE)

    async def _send_stdin(self) -> None:
        with _broken():
            await self._send_stdin_whole()

    async def _send_stdin_whole(self) -> None:
        try:
            async with self.stream_async("input") as stream:
                await _forward_stdin(stream)
                # It ends when everything has left the port.
                while await stream.receive_some():
                    pass
        except DriverError as error:
            if error.code is not StatusCode.NOT_FOUND:
                raise
            # Jumpstarter 0.9's exporters have no such stream, and no way to tell when they are done.
            async with self.stream_async("connect") as stream:
                await _forward_stdin(stream)


async def _forward_stdin(stream: trio.abc.HalfCloseableStream) -> None:
    while data := await read_stdin():
        await stream.send_all(data)
    await stream.send_eof()


@contextmanager
def _broken() -> Iterator[None]:
    """Say in one sentence that the connection went away, however many tasks noticed."""
    try:
        with collapsed():
            yield
    except trio.BrokenResourceError as error:
        raise DriverError(
            f"the console broke off: {error.__cause__ or error}; connect again", code=StatusCode.UNAVAILABLE
        ) from error
