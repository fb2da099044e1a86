"""A child that misbehaves: each is a small program in the place of the interpreter."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from trio.testing import wait_all_tasks_blocked

from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_exporter.hosting import driver, learning, process
from jumpstarter_exporter.hosting.child_messages import Ready
from jumpstarter_exporter.hosting.driver import HostedDriver, hosted_kind
from jumpstarter_exporter.hosting.groups import HostedGroup
from jumpstarter_exporter.hosting.process import ChildProcess

UUID = "6b8a1f2e-8a4e-4a3c-9d54-6f1b7a3e0a01"
REPORT = json.dumps({"kind": "ready", "devices": [{"path": "can", "uuid": UUID, "client": "lab.CanClient"}]})
Script = Callable[[str], HostedGroup]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A group whose interpreter is a shell script."""
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(learning, "_known", {})

    def made(text: str) -> HostedGroup:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{text}\n")
        python.chmod(0o755)
        return HostedGroup(str(python), '{"can": {"type": "lab.Can"}}')

    return made


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A pipe to the test."""
    path = tmp_path / "told"
    os.mkfifo(path)
    return path


async def heard(told: Path) -> str:
    with trio.fail_after(30):
        return await trio.to_thread.run_sync(told.read_text, abandon_on_cancel=True)


async def run(group: HostedGroup) -> ChildProcess:
    child = ChildProcess(group, {})
    with trio.fail_after(30):
        await child.run()
    assert child.ended.is_set()
    assert child.settled.is_set()
    return child


async def until_gone(pid: int) -> None:
    with suppress(ProcessLookupError), trio.fail_after(30):
        watched = os.pidfd_open(pid)
        try:
            await trio.lowlevel.wait_readable(watched)
        finally:
            os.close(watched)


async def test_one_that_is_not_ready_in_time_is_ended(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.1)
    child = await run(script("exec sleep 1000"))
    assert "the process for can was not ready within 0.1 s" in child.life.reason


async def test_one_that_ignores_sigterm_is_killed_with_what_it_has_started(
    script: Script, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.1)
    child = ChildProcess(script(f"trap '' TERM; sleep 1000 & echo $! > {told}; wait; wait"), {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.run)
        started = int(await heard(told))
        child.end()
        with trio.fail_after(30):
            await child.ended.wait()
    await until_gone(started)
    assert child.life.was_expected


async def test_one_that_the_kernel_does_not_let_go_is_left_and_said(
    script: Script, told: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.1)

    async def never(_: object) -> None:  # as for a process that waits for a device in the kernel
        await trio.sleep_forever()

    monkeypatch.setattr(process, "_wait", never)
    child = ChildProcess(script(f"echo $$ > {told}; exec sleep 1000"), {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.run)
        pid = int(await heard(told))
        child.end()
        with trio.fail_after(30):
            await child.ended.wait()
    assert f"(process {pid}) was killed and does not end" in caplog.text
    assert child._process is not None
    child._process.wait()


async def test_what_it_has_started_does_not_outlive_it(script: Script, told: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, script(f"sleep 1000 & echo $! > {told}; exit 3"))
        started = int(await heard(told))
    await until_gone(started)


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
async def test_cancelling_ends_the_process(
    script: Script, told: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ChildProcess(script(f"{trap}echo $$ > {told}; exec sleep 1000"), {}).run)
        pid = int(await heard(told))
        nursery.cancel_scope.cancel()
    await until_gone(pid)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 5", "ended with the exit code 5 before it was ready"),
        ("echo no numpy >&2; exit 1", "ended with the exit code 1 before it was ready: no numpy"),
        ("kill -SEGV $$", "was ended by SIGSEGV before it was ready"),
        ("exec yes", "sends what cannot be read"),
        ('exec yes \'{"kind": "ready", "devices": 5}\'', "sends what cannot be read"),
        (f"echo '{REPORT}'; exec sleep 1000", "closed its connection"),
    ],
)
async def test_why_it_cannot_be_used(
    script: Script, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "EXIT_SECONDS", 0.2)
    lost: list[str] = []
    child = ChildProcess(script(text), {}, on_lost=lost.append)
    with trio.fail_after(30):
        await child.run()
    assert reason in child.life.reason
    assert lost == [child.life.reason], "its users are told once"


async def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    child = await run(HostedGroup(str(tmp_path / "none"), "{}"))
    assert (
        child.life.reason == f"{tmp_path}/none cannot be started: No such file or directory; check `python`"
    )


async def test_output_without_end_is_bounded(script: Script) -> None:
    child = await run(script("head -c 3000000 /dev/zero; exit 4"))
    assert "exit code 4" in child.life.reason


async def test_it_gets_few_variables_and_no_descriptors(
    script: Script, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMP_TOKEN", "secret")
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, script(f"(env; ls -l /proc/$$/fd) > {told}"))
            text = await heard(told)
    finally:
        os.close(inherited)
    assert "secret" not in text
    assert "/dev/null" not in text
    assert "PATH=" in text


async def test_a_report_is_learned_once_for_an_environment_and_a_configuration(
    script: Script, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    group = script(f"echo once >> {count}; echo '{REPORT}'")
    for _ in range(2):
        await learning.learn([group], again=True)
        learning._known.clear()  # as in another process
        report = learning.learned(group)
        assert report is not None
        assert not isinstance(report, str)
        assert report.devices[0].client == "lab.CanClient"
    assert count.read_text() == "once\n"
    await learning.learn([HostedGroup(group.python, '{"can": {"type": "lab.Other"}}')])
    assert count.read_text() == "once\nonce\n"
    learning.forget(group)
    assert learning.learned(group) is None


async def test_a_report_is_learned_from_a_child_that_does_not_end(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.1)
    group = script(f"echo '{REPORT}'; exec sleep 1000")
    with trio.fail_after(30):
        await learning.learn([group])
    assert isinstance(learning.learned(group), Ready)


async def test_what_failed_is_learned_again_at_the_next_load(script: Script, tmp_path: Path) -> None:
    count = tmp_path / "count"
    group = script(f"echo once >> {count}; exit 6")
    await learning.learn([group])
    reason = learning.learned(group)
    assert isinstance(reason, str)
    assert "exit code 6" in reason
    await learning.learn([group])
    assert count.read_text() == "once\n"
    await learning.learn([group], again=True)
    assert count.read_text() == "once\nonce\n"
    assert not list(tmp_path.glob("state/hosted/*"))


async def test_a_report_that_is_broken_on_disk_is_learned_again(script: Script, tmp_path: Path) -> None:
    count = tmp_path / "count"
    group = script(f"echo once >> {count}; echo '{REPORT}'")
    await learning.learn([group])
    [file] = tmp_path.glob("state/hosted/*")
    file.write_text("{")
    learning._known.clear()
    await learning.learn([group])
    assert count.read_text() == "once\nonce\n"


SERVER = f"""
import json, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
served = socket.socket(socket.AF_UNIX)
served.bind(json.loads(sys.stdin.readline())["socket"])
served.listen()
print({REPORT!r}, flush=True)
connection = served.accept()[0]
while connection.recv(4096):
    pass
signal.pause()
"""
"""Serves nothing, but is connected, and ends only when it is killed."""


@pytest.fixture
def device(script: Script, tmp_path: Path) -> HostedDriver:
    """Its child serves the first time. After that it is not ready in time."""
    (tmp_path / "server.py").write_text(SERVER)
    group = script(
        f"[ -e {tmp_path}/begun ] && exec sleep 1000; touch {tmp_path}/begun\n"
        f"exec {sys.executable} -I -S {tmp_path}/server.py"
    )
    return hosted_kind("lab.CanClient")(group=group, path="can", uuid=uuid.UUID(UUID))


async def test_a_reset_that_is_cancelled_while_the_old_child_ends_fails_the_device(
    device: HostedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(device, "failed", reasons.append)
    with trio.fail_after(30):
        async with trio.open_nursery() as session:
            device.attach_session(session)
            await device.open()
            old = device._child
            assert old is not None
            assert old._process is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(device.reset)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert "the reset of the process for can was cancelled" in reasons[0]
            with pytest.raises(DeviceFailed, match="can is not open, or is being reset; try again"):
                await device.forward_call("send", [])
            old._process.kill()
            await device.close()


async def test_a_reset_that_is_cancelled_while_the_new_child_starts_leaves_none_behind(
    device: HostedDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.1)
    with trio.fail_after(30):
        async with trio.open_nursery() as session:
            device.attach_session(session)
            await device.open()
            old = device._child
            assert old is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(device.reset)
                await old.ended.wait()
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            with pytest.raises(DeviceFailed, match="can is not open, or is being reset; try again"):
                await device.forward_call("send", [])
            await device.close()


async def test_a_lost_connection_is_said_with_the_devices_also_before_the_process_has_ended(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "EXIT_SECONDS", 0.01)
    child = ChildProcess(script("exec sleep 1000"), {})
    error = await driver._explained(RpcError(StatusCode.UNAVAILABLE, "the peer closed the connection"), child)
    assert isinstance(error, DeviceFailed)
    assert (
        str(error) == "the process for can closed its connection (the peer closed the connection); try again"
    )


async def test_a_line_of_a_log_is_bounded(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    line = json.dumps({"kind": "log", "level": "ERROR", "logger": "driver.can", "text": "x" * 500_000})
    (Path(script("").python).parent / "line").write_text(f"{line}\n")
    await run(script('cat "$(dirname "$0")/line"'))
    assert [len(one.getMessage()) for one in caplog.records if one.name == "driver.can"] == [16 * 1024]
