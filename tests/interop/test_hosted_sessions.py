"""Hosted devices in a session: what becomes of calls, streams, files, and of the child."""

from __future__ import annotations

import gzip
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_exporter.conftest import User
from jumpstarter_exporter.hosting import process
from jumpstarter_exporter.serve.embedded import open_exporter
from jumpstarter_proto.rpc import RpcError, StatusCode, open_channel
from jumpstarter_proto.v1 import jumpstarter_pb2

from tests.interop import exporters, hosting
from tests.support.peers import Environment

CONFIG = """\
metadata: {{name: hosted}}
python: {python}
export:
  greeter: {{type: lab_drivers.Greeter, config: {{note: {note}}}}}
  board: {{children: {{other: {{type: lab_drivers.Greeter}}}}}}
  again: {{ref: greeter}}
"""


@pytest.fixture(scope="module")
def lab_environment(upstream: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return hosting.lab_environment(upstream, tmp_path_factory.mktemp("lab"))


class Lab:
    """A configuration, and what its driver has noted."""

    def __init__(self, file: Path, note: Path) -> None:
        self.file = file
        self.note = note
        self._read = 0

    def notes(self) -> list[str]:
        """New since the last time."""
        words = [line.split()[0] for line in self.note.read_text().splitlines()] if self.note.exists() else []
        new, self._read = words[self._read :], len(words)
        return new

    @asynccontextmanager
    async def user(self) -> AsyncIterator[User]:
        async with open_exporter(self.file) as exporter, open_channel(await exporter.connect()) as channel:
            yield User(exporter.session, channel)


@pytest.fixture
def lab(lab_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    # One state for all tests of the module: what is learned of a configuration is learned once.
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(lab_environment.path / "state"))
    note = lab_environment.path / "note"
    note.unlink(missing_ok=True)
    file = tmp_path / "lab.yaml"
    file.write_text(CONFIG.format(python=lab_environment.python, note=note))
    return Lab(file, note)


async def until_gone(pid: Any) -> None:
    with suppress(ProcessLookupError), trio.fail_after(30):
        watched = os.pidfd_open(int(pid))
        try:
            await trio.lowlevel.wait_readable(watched)
        finally:
            os.close(watched)


async def test_a_session_is_a_child_from_its_first_use_to_its_end(lab: Lab) -> None:
    async with lab.user() as user:
        lab.notes()  # of learning
        await user.report()
        assert lab.notes() == [], "a report starts nothing"
        pid = await user.call("greeter", "pid")
        assert await user.call("board.other", "pid") == pid
        assert lab.notes() == ["made", "reset"]
    assert lab.notes() == ["closed"]
    await until_gone(pid)
    async with lab.user() as user:
        assert lab.notes() == [], "it is learned once"
        second = await user.call("greeter", "pid")
        assert second == await user.call("board.other", "pid") != pid
        await user.exporter.Reset(jumpstarter_pb2.ResetRequest())
        assert lab.notes() == ["made", "reset", "closed", "made", "reset"], "a reset is a new child"
        third = [await user.call(name, "pid") for name in ("greeter", "board.other")]
        assert third[0] == third[1] != second


async def test_a_cancelled_call_is_cancelled_in_the_child_and_disturbs_nobody(lab: Lab) -> None:
    async with lab.user() as user:
        pid = await user.call("greeter", "pid")
        with pytest.raises(RpcError) as failed:
            await user.call("greeter", "sleep", timeout=0.3)
        assert failed.value.code is StatusCode.DEADLINE_EXCEEDED
        async with user.results("greeter", "count", 1e9) as results:
            assert await anext(results) == 0
        with trio.fail_after(30):
            while "counted" not in (seen := lab.note.read_text()) or "woken" not in seen:
                await user.call("greeter", "pid")
        assert await user.call("board.other", "pid") == pid


async def test_a_call_that_never_returns_does_not_keep_the_session(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.5)
    async with lab.user() as user, trio.open_nursery() as nursery:
        pid = await user.call("greeter", "pid")

        async def block() -> None:
            with suppress(RpcError):
                await user.call("greeter", "block")

        nursery.start_soon(block)
        with trio.fail_after(30):
            while "blocking" not in lab.note.read_text():
                assert await user.call("board.other", "greet", "you") == "hello you"
        nursery.cancel_scope.cancel()
    await until_gone(pid)


async def test_a_crash_ends_calls_and_streams_with_the_reason(lab: Lab) -> None:
    async with lab.user() as user:
        async with user.stream("greeter") as stream:
            await stream.send_all(b"loud")
            assert await stream.receive_some() == b"LOUD"
            with pytest.raises(RpcError, match="ended with the exit code 7; it starts again at the next use"):
                await user.call("board.other", "crash")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        states = {
            one.labels.get("jumpstarter.dev/name"): one.labels["jumpstarter.dev/state"]
            for one in (await user.report()).reports
        }
        assert states["greeter"] == states["other"] == "failed"
        assert await user.call("greeter", "greet", "again") == "hello again"


@pytest.mark.parametrize(
    ("call", "code", "complaint"),
    [
        (("fail", "RuntimeError", "x" * 200_000), StatusCode.UNKNOWN, "^x{4000}"),
        (("fail", "OSError", "no file ?"), StatusCode.UNKNOWN, r"^no file \\udc80$"),
        (("fail", "RuntimeError", "cannot open: "), StatusCode.UNKNOWN, "^cannot open: $"),
        (
            ("fail", "RuntimeError", ""),
            StatusCode.UNKNOWN,
            r"^fail\(\) of board.other failed without saying why; see",
        ),
        (
            ("fail", "NotImplementedError", ""),
            StatusCode.UNIMPLEMENTED,
            r"fail\(\) of board.other failed without",
        ),
        (
            ("fail", "SystemExit", "3"),
            StatusCode.UNKNOWN,
            r"fail\(\) of board.other raised SystemExit, which a driver",
        ),
        (("fail", "KeyboardInterrupt", ""), StatusCode.UNKNOWN, r"raised KeyboardInterrupt, which a driver"),
        (
            ("cancel_itself",),
            StatusCode.UNKNOWN,
            r"cancel_itself\(\) of board.other raised CancelledError, which a",
        ),
    ],
)
async def test_whatever_a_driver_raises_ends_its_call_and_nothing_else(
    lab: Lab, call: tuple[str, ...], code: StatusCode, complaint: str
) -> None:
    async with lab.user() as user:
        pid = await user.call("greeter", "pid")
        with trio.fail_after(60), pytest.raises(RpcError) as failed:
            await user.call("board.other", *call)
        assert failed.value.code is code
        assert re.search(complaint, failed.value.details)
        assert await user.call("greeter", "pid") == pid


async def test_a_stream_of_results_that_exits_ends_only_itself(lab: Lab) -> None:
    async with lab.user() as user:
        pid = await user.call("greeter", "pid")
        complaint = r"fail_later\(\) of greeter raised SystemExit, which"
        async with user.results("greeter", "fail_later", "SystemExit") as results:
            assert await anext(results) == 1
            with trio.fail_after(60), pytest.raises(RpcError, match=complaint):
                await anext(results)
        assert await user.call("greeter", "pid") == pid


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("WrongClient", r"its client\(\) returns 'os;system'; it takes the path of a class"),
        ("WrongLabels", "surrogates not allowed"),
    ],
)
async def test_a_driver_that_cannot_be_described_is_the_only_one_that_fails(
    lab: Lab, kind: str, complaint: str
) -> None:
    lab.file.write_text(f"{lab.file.read_text()}  wrong: {{type: lab_drivers.{kind}}}\n")
    async with lab.user() as user:
        with pytest.raises(RpcError, match=complaint):
            await user.call("wrong", "pid")
        assert await user.call("greeter", "greet", "you") == "hello you"


async def test_files_logs_and_second_names(lab: Lab) -> None:
    data = os.urandom(1_000_000)
    async with lab.user() as user:
        for encoding in (None, "gzip"):
            async with user.resource("greeter", encoding) as (stream, handle, headers):
                assert set(headers) <= {"resource", "x_jmp_accept_encoding"}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send, stream, gzip.compress(data, 1) if encoding else data)
                    assert await user.call("greeter", "length", handle) == len(data)
        async with user.resource("greeter") as (stream, handle, _):
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(user.call, "greeter", "fill", handle, 300_000)
                while len(received) < 300_000:
                    received += await stream.receive_some()
            assert received == b"x" * 300_000
        with user.session.log.reader() as log, trio.fail_after(30):
            await user.call("greeter", "greet", "you")
            found: dict[str, tuple[str, str]] = {}
            while len(found) < 2:
                entry = await anext(log)
                if entry.message in ("greeting you", "printed for you"):
                    found[entry.message] = (entry.driver_type, entry.severity)
        assert found == {"greeting you": ("Greeter", "INFO"), "printed for you": ("hosted", "INFO")}
        uuids = {one.labels.get("jumpstarter.dev/name"): one.uuid for one in (await user.report()).reports}
        assert uuids["again"] == uuids["greeter"]


async def _send(stream: trio.abc.HalfCloseableStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


async def test_a_child_does_not_outlive_an_exporter_that_is_killed(lab: Lab) -> None:
    inside = "jumpstarter call greeter start_program; jumpstarter call greeter pid; kill -9 $PPID"
    shell = [exporters.scripts() / "jumpstarter", "shell", "--config", lab.file, "--", "sh", "-c", inside]
    with tempfile.TemporaryDirectory() as home, trio.fail_after(60):
        variables = exporters.clean_environment(Path(home))
        variables["PATH"] = f"{exporters.scripts()}:{variables['PATH']}"
        done = await trio.run_process(shell, capture_stdout=True, check=False, env=variables)
        assert done.returncode == -signal.SIGKILL
        pids = [int(pid) for pid in done.stdout.split()]
        assert len(pids) == 2
        for pid in pids:
            await until_gone(pid)


async def test_a_driver_that_changes_its_client_is_refused_and_learned_again(lab: Lab) -> None:
    from jumpstarter_exporter.hosting import learning

    async with lab.user() as user:
        node = next(node for node in user.session.tree.nodes if node.path == "greeter")
        type(node.driver).client = "lab_clients.Other"  # as it was learned before an update of the package
        try:
            with pytest.raises(RpcError, match="has another client class than before"):
                await user.call("greeter", "pid")
            assert learning.learned(node.driver.group) is None
        finally:
            type(node.driver).client = "lab_clients.GreeterClient"
