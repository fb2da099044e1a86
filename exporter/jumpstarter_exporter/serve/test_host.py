"""The daemon as a process of its own, from its first line to its end."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trustme
from google.protobuf import empty_pb2
from jumpstarter_proto import process
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import (
    Channel,
    RpcError,
    StatusCode,
    client_ssl_context,
    connect_tcp,
    connect_unix,
    open_channel,
)
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.value import to_value

from jumpstarter_exporter.config.folder import boards_of, read_file
from jumpstarter_exporter.conftest import User
from jumpstarter_exporter.serve import host
from jumpstarter_exporter.serve.board import ServedBoard
from jumpstarter_exporter.serve.host import status_text
from jumpstarter_exporter.serve.host_server import BoardRegistry
from jumpstarter_exporter.serve.network import Network

LIMIT = 30.0

DRIVER = """
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
import pathlib
import trio
from jumpstarter_exporter.driver import Driver, export, export_stream

@dataclass(kw_only=True, eq=False)
class Slow(Driver):
    client = "example.Client"
    closed: str
    stuck: bool = False

    async def close(self) -> None:
        if self.stuck:
            await trio.to_thread.run_sync(time.sleep, 600)
        pathlib.Path(self.closed).write_text("closed")

    @export
    async def wait(self) -> None:
        await trio.sleep_forever()

    @export
    def block(self, seconds: float) -> None:
        time.sleep(seconds)

    @export
    async def tick(self) -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    @export
    async def read(self, handle: dict[str, object]) -> None:
        async with self.read_resource(handle) as source:
            async for _ in source:
                pass

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.Stream]:
        yield Forever()

class Forever:
    async def receive_some(self, max_bytes=None) -> bytes:
        await trio.sleep_forever()

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None: ...
"""


class Daemon:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "exporter.sock"
        self.end_seconds = 30.0
        self.boards: tuple[str | Path, ...] = ("--config", folder / "lab.yaml")
        """Which it serves."""
        (folder / "slow_driver.py").write_text(DRIVER)
        self.config = folder / "lab.yaml"
        self.config.write_text(
            f"metadata: {{name: lab}}\nexport: {{slow: {{type: slow_driver.Slow, config: {{closed: {self.closed}}}}}}}"
        )

    @property
    def closed(self) -> Path:
        return self.folder / "closed"

    def command(self, *words: str | Path) -> list[str]:
        program = (
            "from jumpstarter_exporter import cli\n"
            "from jumpstarter_exporter.serve import host\n"
            f"host.END_SECONDS = {self.end_seconds}\n"
            "cli.main()\n"
        )
        return [sys.executable, "-c", program, *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": str(self.folder), "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        return {name: value for name, value in os.environ.items() if not name.startswith("JMP_")} | ours

    @contextmanager
    def running(self, *words: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        command = self.command("run", *self.boards, "--socket", self.socket, *words)
        with subprocess.Popen(
            command,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                yield process, process.stdout.readline().strip()
            finally:
                process.kill()

    def fails(self, *words: str | Path, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            self.command(*words),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.returncode, done.stderr

    @asynccontextmanager
    async def user(self) -> AsyncIterator[tuple[Channel, str]]:
        """A channel, and the UUID of the slow device."""
        async with open_channel(await connect_unix(self.socket)) as channel:
            report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
            assert report.labels["jumpstarter.dev/name"] == "lab"
            yield channel, report.reports[1].uuid


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


def ended(process: subprocess.Popen[str]) -> int:
    return process.wait(LIMIT)


async def test_first_line_socket_mode_and_sigterm(daemon: Daemon) -> None:
    with daemon.running() as (process, line):
        assert line == f"Listening on {daemon.socket}"
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
        async with daemon.user():
            pass
        process.terminate()
        assert ended(process) == 0
    assert not daemon.socket.exists()


def test_an_interrupt_ends_it(daemon: Daemon) -> None:
    with daemon.running() as (process, _):
        process.send_signal(signal.SIGINT)
        assert ended(process) == ExitCode.INTERRUPTED


def test_a_second_instance_is_refused_and_the_first_goes_on(daemon: Daemon) -> None:
    with daemon.running() as (process, _):
        code, said = daemon.fails("run", "--config", daemon.config, "--socket", daemon.socket)
        assert code == 1
        assert said == (
            f"jumpstarter-exporter: another exporter (process {process.pid}) listens on {daemon.socket}; "
            "stop it, or choose another path with --socket\n"
        )
        trio.run(_connect, daemon)


async def _connect(daemon: Daemon) -> None:
    async with daemon.user():
        pass


def test_a_killed_daemons_socket_is_replaced(daemon: Daemon) -> None:
    with daemon.running() as (process, _):
        process.kill()
        ended(process)
    assert daemon.socket.exists()
    with daemon.running() as (_, line):
        assert str(daemon.socket) in line
        trio.run(_connect, daemon)


# Kinds of call that are under way when the daemon ends.


async def unary(user: User, started: trio.Event) -> None:
    await user.call("slow", "block", 0)  # it is open
    started.set()
    await user.call("slow", "wait")


async def blocking(user: User, started: trio.Event) -> None:
    await user.call("slow", "block", 0)
    started.set()
    await user.call("slow", "block", 1.5)
    await user.call("slow", "wait")


async def streaming(user: User, started: trio.Event) -> None:
    async with user.results("slow", "tick") as results:
        async for _ in results:
            started.set()


async def driver_stream(user: User, started: trio.Event) -> None:
    async with user.stream("slow") as stream:
        started.set()
        try:
            await stream.receive_some()
        except trio.BrokenResourceError as error:
            raise error.__cause__ or error from None


async def upload(user: User, started: trio.Event) -> None:
    async with user.resource("slow") as (stream, handle, _):
        await stream.send_all(b"the beginning")
        started.set()
        await user.call("slow", "read", handle)


async def log_stream(user: User, started: trio.Event) -> None:
    async with user.exporter.LogStream(empty_pb2.Empty()) as call:
        await call.initial_metadata()
        started.set()
        async for _ in call:
            pass


class Remote(User):
    """A user of a session in another process."""

    def __init__(self, channel: Channel, uuid: str) -> None:
        super().__init__(None, channel)  # type: ignore[arg-type]
        self._uuid = uuid

    def uuid(self, path: str) -> str:
        return self._uuid


CALLS = [unary, blocking, streaming, driver_stream, upload, log_stream]
Kind = Callable[[User, trio.Event], Awaitable[None]]


async def outcome(daemon: Daemon, kind: Kind, end: Callable[[], None], within: float) -> RpcError:
    caught: list[RpcError] = []
    started, failed = trio.Event(), trio.Event()

    async def use() -> None:
        try:
            async with daemon.user() as (channel, uuid):
                await kind(Remote(channel, uuid), started)
        except* RpcError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, RpcError)
            caught.append(error)
        failed.set()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await started.wait()
            # The exporter answers while the call runs, which by now has therefore reached it.
            async with daemon.user():
                end()
                with trio.fail_after(within):
                    await failed.wait()
    return caught[0]


@pytest.mark.parametrize("kind", CALLS)
async def test_killing_it_fails_every_kind_of_call_within_a_second(daemon: Daemon, kind: Kind) -> None:
    with daemon.running() as (process, _):
        error = await outcome(daemon, kind, process.kill, within=1.0)
    assert error.code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", CALLS)
async def test_sigterm_ends_every_kind_of_call_and_closes_devices(daemon: Daemon, kind: Kind) -> None:
    with daemon.running() as (process, _):
        error = await outcome(daemon, kind, process.terminate, within=10.0)
        assert await trio.to_thread.run_sync(ended, process) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert error.code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
    if kind is not log_stream:
        assert daemon.closed.read_text() == "closed"


async def test_a_device_whose_close_blocks_does_not_keep_the_daemon(daemon: Daemon) -> None:
    daemon.end_seconds = 1.0
    daemon.config.write_text(daemon.config.read_text().replace("config: {", "config: {stuck: true, "))
    with daemon.running() as (process, _):
        async with daemon.user() as (channel, uuid):
            await Remote(channel, uuid).call("slow", "block", 0)
        process.terminate()
        _, said = await trio.to_thread.run_sync(lambda: process.communicate(timeout=LIMIT))
    assert process.returncode == 1
    assert "the device slow did not close within 1 s" in said


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path, str]:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    chain, key = tmp_path / "lab.crt", tmp_path / "lab.key"
    issued.private_key_pem.write_to_path(key)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    return chain, key, ca.cert_pem.bytes().decode()


async def status(channel: Channel, *metadata: tuple[str, str]) -> Any:
    return await ExporterServiceStub(channel).GetStatus(jumpstarter_pb2.GetStatusRequest(), metadata=metadata)


async def test_tls_with_a_passphrase(
    daemon: Daemon, certificate: tuple[Path, Path, str], tmp_path: Path
) -> None:
    chain, key, ca = certificate
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    words: list[str | Path] = [
        "--listen",
        "localhost:0",
        "--tls-cert",
        chain,
        "--tls-key",
        key,
        "--passphrase-file",
        secret,
    ]
    with daemon.running(*words) as (_, line):
        assert line.startswith(f"Listening on {daemon.socket} and localhost:")
        assert line.endswith(" (TLS, passphrase)")
        port = int(line.rpartition(":")[2].split()[0])
        stream = await connect_tcp("localhost", port, ssl_context=client_ssl_context(ca=ca))
        async with open_channel(stream) as channel:
            with pytest.raises(RpcError, match="invalid or missing passphrase"):
                await status(channel)
            await status(channel, ("x-jumpstarter-passphrase", "open sesame"))
        with pytest.raises(RpcError):
            await connect_tcp("localhost", port, ssl_context=client_ssl_context())
        # On the socket its permissions are what counts.
        async with open_channel(await connect_unix(daemon.socket)) as channel:
            await status(channel)


async def test_a_hangup_has_a_new_certificate_read_and_disturbs_nobody(
    daemon: Daemon, certificate: tuple[Path, Path, str]
) -> None:
    chain, key, ca = certificate
    words: list[str | Path] = ["--listen", "localhost:0", "--tls-cert", chain, "--tls-key", key]
    with daemon.running(*words, JMP_GRPC_PASSPHRASE="x") as (process, line):
        port = int(line.rpartition(":")[2].split()[0])
        stream = await connect_tcp("localhost", port, ssl_context=client_ssl_context(ca=ca))
        async with open_channel(stream) as channel:
            other = trustme.CA()
            issued = other.issue_cert("localhost")
            issued.private_key_pem.write_to_path(key)
            issued.cert_chain_pems[0].write_to_path(chain)
            process.send_signal(signal.SIGHUP)
            context = client_ssl_context(ca=other.cert_pem.bytes().decode())
            with trio.fail_after(LIMIT):
                while True:
                    try:
                        await trio.aclose_forcefully(
                            await connect_tcp("localhost", port, ssl_context=context)
                        )
                        break
                    except RpcError:
                        await trio.sleep(0.05)
            await status(channel, ("x-jumpstarter-passphrase", "x"))


ATTACKER = "127.0.0.66"


async def test_guesses_from_one_address_do_not_lock_out_another(daemon: Daemon) -> None:
    answers = []
    with daemon.running("--listen", "127.0.0.1:0", "--insecure", JMP_GRPC_PASSPHRASE="x") as (process, line):
        port = int(line.rpartition(":")[2].split()[0])
        for number in range(200):
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=ATTACKER)
            async with open_channel(stream) as channel:
                with pytest.raises(RpcError) as caught:
                    await status(channel, ("x-jumpstarter-passphrase", f"guess {number}"))
                answers.append(caught.value.code)
        async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
            await status(channel, ("x-jumpstarter-passphrase", "x"))
        process.terminate()
        _, said = process.communicate(timeout=LIMIT)
    assert set(answers) == {StatusCode.UNAUTHENTICATED, StatusCode.RESOURCE_EXHAUSTED}
    assert answers.count(StatusCode.UNAUTHENTICATED) <= 12
    assert 0 < said.count("refused: ") < 30
    assert "127.0.0.66" in said


async def test_of_one_address_a_few_connections_are_let_in_until_they_authenticate(daemon: Daemon) -> None:
    with daemon.running("--listen", "127.0.0.1:0", "--insecure", JMP_GRPC_PASSPHRASE="x") as (_, line):
        port = int(line.rpartition(":")[2].split()[0])
        silent = [
            socket.create_connection(("127.0.0.1", port), source_address=(ATTACKER, 0)) for _ in range(30)
        ]
        answered, unanswered = silent[:16], silent[16:]
        for one in answered:
            one.settimeout(LIMIT)
            assert one.recv(100), "its settings"
        async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
            await status(channel, ("x-jumpstarter-passphrase", "x"))
        for one in unanswered:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(100)
        for one in silent:
            one.close()


@pytest.mark.parametrize("passphrase", ["x", None])
async def test_thousands_of_silent_connections_do_not_lock_out_another_address(
    daemon: Daemon, certificate: tuple[Path, Path, str], passphrase: str | None
) -> None:
    chain, key, ca = certificate
    words: list[str | Path] = ["--listen", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key]
    variables = {} if passphrase is None else {"JMP_GRPC_PASSPHRASE": passphrase}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    silent: list[socket.socket] = []
    try:
        with daemon.running(*words, **variables) as (process, line):
            port = int(line.rpartition(":")[2].split()[0])
            silent += [
                socket.create_connection(("127.0.0.1", port), source_address=(ATTACKER, 0))
                for _ in range(2000)
            ]
            start = trio.current_time()
            stream = await connect_tcp(
                "127.0.0.1", port, ssl_context=client_ssl_context(ca=ca), server_hostname="localhost"
            )
            async with open_channel(stream) as channel:
                await status(channel, ("x-jumpstarter-passphrase", "x"))
            assert trio.current_time() - start < 5, "one second on a machine that does nothing else"
            process.terminate()
            _, said = process.communicate(timeout=LIMIT)
    finally:
        for one in silent:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(said.splitlines()) < 40


async def test_debugging_tells_no_secrets(daemon: Daemon) -> None:
    words = ["--listen", "127.0.0.1:0", "--insecure", "--log-level", "debug"]
    with daemon.running(*words, JMP_GRPC_PASSPHRASE="open sesame") as (process, line):
        port = int(line.rpartition(":")[2].split()[0])
        async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
            await status(channel, ("x-jumpstarter-passphrase", "open sesame"))
        process.terminate()
        _, said = process.communicate(timeout=LIMIT)
    assert "SIGTERM: ending" in said
    assert "open sesame" not in said


async def test_insecure_says_so(daemon: Daemon) -> None:
    with daemon.running("--listen", "127.0.0.1:0", "--insecure", JMP_GRPC_PASSPHRASE="x") as (process, line):
        assert line.endswith(" (plaintext, passphrase)")
        port = int(line.rpartition(":")[2].split()[0])
        async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
            await status(channel, ("x-jumpstarter-passphrase", "x"))
        process.terminate()
        _, said = process.communicate(timeout=LIMIT)
    assert "without TLS everybody on the way can read the passphrase" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--listen", "localhost:1"], "either --tls-cert and --tls-key, or --insecure"),
        (["--listen", "localhost:1", "--tls-cert", "x"], "belong together"),
        (["--listen", "localhost:1", "--tls-cert", "x", "--insecure"], "either --tls-cert"),
        (["--listen", "localhost", "--insecure"], "it has no port; write [HOST]:PORT"),
        (["--listen", "http://localhost:1", "--insecure"], "leave out http://; write [HOST]:PORT"),
        (["--listen", "localhost:99999", "--insecure"], "'99999' is not a port"),
        (["--insecure"], "are for --listen"),
        (["--listen", "localhost:0", "--insecure", "--passphrase-file", "none"], "cannot be read"),
        (["--log-level", "loud"], "loud"),
        (["--confg", "x"], "--config"),
    ],
)
def test_invalid_options(daemon: Daemon, words: list[str], complaint: str) -> None:
    code, said = daemon.fails("run", "--config", daemon.config, "--socket", daemon.socket, *words)
    assert code == 2
    assert complaint in said
    assert said.count("\n") == 1


def test_an_address_that_is_taken(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        words: list[str | Path] = ["--config", daemon.config, "--socket", daemon.socket]
        code, said = daemon.fails("run", *words, "--listen", where, "--insecure")
    assert code == 1
    assert f"cannot listen on {where}: Address already in use; choose another address with --listen" in said


def test_tls_files_that_are_none(daemon: Daemon) -> None:
    words: list[str | Path] = [
        "--config",
        daemon.config,
        "--socket",
        daemon.socket,
        "--listen",
        "127.0.0.1:0",
    ]
    code, said = daemon.fails("run", *words, "--tls-cert", daemon.config, "--tls-key", daemon.config)
    assert code == 1
    # Which words OpenSSL has for it depends on its version.
    assert re.search(r"cannot be used for TLS: [\w ]+; give a PEM certificate chain and its key", said)


def test_no_configuration_says_what_to_do(daemon: Daemon) -> None:
    daemon.config.unlink()
    code, said = daemon.fails("run", JMP_CLIENT_CONFIG_HOME=str(daemon.folder))
    assert code == 3
    assert "there is no exporter configuration; put one as NAME.yaml into" in said
    daemon.config.write_text("export:\n")
    code, said = daemon.fails("run", "--config", daemon.config)
    assert code == 2
    assert "nothing is exported; add a device below `export:`" in said


def test_systemd_is_told_of_start_reload_and_end(daemon: Daemon) -> None:
    where = daemon.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(where))
        notify.settimeout(LIMIT)
        with daemon.running(NOTIFY_SOCKET=str(where), WATCHDOG_USEC="3600000000") as (process, _):
            assert notify.recv(100) == b"WATCHDOG=1"
            assert notify.recv(100) == b"READY=1\nSTATUS=1 board: lab free"
            process.send_signal(signal.SIGHUP)
            assert notify.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notify.recv(100) == b"READY=1"
            process.terminate()
            assert notify.recv(100) == b"STOPPING=1"


def test_systemd_is_told_why_something_new_is_not_taken_up(
    daemon: Daemon, certificate: tuple[Path, Path, str]
) -> None:
    chain, key, _ = certificate
    where = daemon.folder / "notify"
    words: list[str | Path] = ["--listen", "localhost:0", "--tls-cert", chain, "--tls-key", key]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(where))
        notify.settimeout(LIMIT)
        with daemon.running(*words, NOTIFY_SOCKET=str(where), JMP_GRPC_PASSPHRASE="x") as (process, _):
            assert notify.recv(4096) == b"READY=1\nSTATUS=1 board: lab free"
            chain.write_text("no certificate")
            process.send_signal(signal.SIGHUP)
            assert notify.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            told = notify.recv(4096).decode()
            assert told.startswith(f"READY=1\nSTATUS=1 board: lab free; {chain} and {key} cannot be used (")
            process.terminate()


def test_systemd_is_told_why_files_were_not_read_again_until_they_are(daemon: Daemon) -> None:
    exporters, aside = daemon.folder / "jumpstarter" / "exporters", daemon.folder / "aside"
    exporters.mkdir(parents=True)
    daemon.config.rename(exporters / "lab.yaml")
    daemon.boards = ()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(daemon.folder / "notify"))
        notify.settimeout(LIMIT)
        with daemon.running(NOTIFY_SOCKET=str(daemon.folder / "notify")) as (process, _):
            assert notify.recv(4096) == b"READY=1\nSTATUS=1 board: lab free"

            def reloaded() -> str:
                process.send_signal(signal.SIGHUP)
                assert notify.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                return notify.recv(4096).decode()

            exporters.rename(aside)
            exporters.symlink_to(exporters)  # a folder that not even root can read
            assert reloaded().startswith(
                f"READY=1\nSTATUS=1 board: lab free; reload failed: {exporters} cannot be read"
            )
            exporters.unlink()
            aside.rename(exporters)
            assert reloaded() == "READY=1\nSTATUS=1 board: lab free"
            process.terminate()


def test_the_log_says_what_it_was_doing_when_a_watchdog_ends_it(daemon: Daemon) -> None:
    with daemon.running(WATCHDOG_USEC="3600000000") as (process, _):
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        process.send_signal(signal.SIGABRT)
        assert ended(process) == -signal.SIGABRT
        assert process.stderr is not None
        assert "Fatal Python error: Aborted" in process.stderr.read()


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""As systemd starts a service: its own process number is the service's, and the socket is number 3."""


async def test_a_user_who_connects_while_it_starts_again_waits_in_systemds_socket(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as systemd:
        systemd.bind(str(daemon.socket))
        systemd.listen()

        def start(*words: str | Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", ACTIVATE, str(systemd.fileno())]
            command += daemon.command("run", "--config", daemon.config, *words)
            return subprocess.Popen(
                command,
                env=daemon.environment | {"LISTEN_FDS": "1"},
                pass_fds=[systemd.fileno()],
                stdout=subprocess.PIPE,
                text=True,
            )

        for options in ((), ("--socket", daemon.socket)):
            stream = await connect_unix(daemon.socket)
            with start(*options) as process:
                try:
                    async with open_channel(stream) as channel:
                        report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
                        assert report.labels["jumpstarter.dev/name"] == "lab"
                    assert process.stdout is not None
                    assert process.stdout.readline() == f"Listening on {daemon.socket}\n"
                    process.terminate()
                    assert ended(process) == 0
                finally:
                    process.kill()
            assert daemon.socket.is_socket()


def test_the_status_names_boards_in_trouble_or_in_use_first() -> None:
    @dataclass
    class Used:
        use: str

    served = {f"free-{number}": Used("") for number in range(7)} | {"rpi4": Used("leased by ann")}
    registry = BoardRegistry(
        served=cast("dict[str, ServedBoard]", served),
        problems={"vf2": "its file says\nMAINPID=1"},
        elsewhere={"own": Path("own.yaml")},
    )
    assert status_text(registry) == (
        "10 boards: own in its own process; rpi4 leased by ann; vf2 not served: its file says\\nMAINPID=1; "
        "free-0 free; free-1 free; free-2 free; 4 more"
    )
    assert status_text(BoardRegistry()) == "no boards"


def test_check(daemon: Daemon) -> None:
    with daemon.config.open("a") as file:
        file.write("\nhooks: {beforeLease: {script: echo}}\n")
    done = subprocess.run(
        daemon.command("check", daemon.config),
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{daemon.config} is right.", "└─ slow: slow_driver.Slow"]
    assert lines[2].startswith("Identity: none")
    assert not daemon.closed.exists()


async def read_url(channel: Channel) -> str:
    """What the exporter says when it shall fetch a URL of its own host, where nobody listens."""
    exporter = ExporterServiceStub(channel)
    [_, slow] = (await exporter.GetReport(empty_pb2.Empty())).reports
    handle = {"kind": "presigned_request", "url": "http://127.0.0.1:1/x", "method": "GET"}
    request = jumpstarter_pb2.DriverCallRequest(uuid=slow.uuid, method="read", args=[to_value(handle)])
    with pytest.raises(RpcError) as failed:
        await exporter.DriverCall(request)
    return f"{failed.value.code.name}: {failed.value}"


@pytest.mark.parametrize("allowed", [False, True])
async def test_users_of_the_network_do_not_reach_the_host_by_a_url(daemon: Daemon, allowed: bool) -> None:
    if allowed:
        daemon.config.write_text(daemon.config.read_text() + "\nfetch: {allow: [127.0.0.1]}\n")
    with daemon.running("--listen", "127.0.0.1:0", "--insecure") as (_, line):
        port = int(line.rpartition(":")[2].split()[0])
        async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
            said = await read_url(channel)
        assert ("refused" in said) == allowed, said
        assert ("PERMISSION_DENIED" in said) != allowed, said
        async with open_channel(await connect_unix(daemon.socket)) as channel:
            assert "Connection refused" in await read_url(channel)


def test_configuration_that_allows_what_is_not_a_host_is_rejected(daemon: Daemon) -> None:
    daemon.config.write_text(daemon.config.read_text() + '\nfetch: {allow: ["http://x"]}\n')
    code, said = daemon.fails("run", "--config", daemon.config, "--socket", daemon.socket)
    assert code == ExitCode.USAGE
    assert "not an address, network or host name" in said


async def test_a_board_that_ends_after_a_sighup_is_not_ended_by_that(tmp_path: Path) -> None:
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    made = trustme.CA().issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    file = tmp_path / "one.yaml"
    file.write_text("export: {power: {type: power.MockPower}}")

    async def hang_up_and_end() -> AsyncGenerator[int, None]:
        yield signal.SIGHUP
        exporter._boards.ended.set()
        await trio.sleep_forever()

    async with aclosing(hang_up_and_end()) as signals:
        daemon = process.Daemon(signals)
        exporter = host._Host(
            daemon,
            tmp_path / "socket",
            Network(None, 0, certificate, key),
            lambda _: boards_of([read_file(file)]),
        )
        with trio.fail_after(10):
            assert await exporter._wait_for_stop() is None
