"""A session with hooks, as its users see it."""

from __future__ import annotations

import os
import pty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.hook_times import usual_seconds
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config.model import Hook, Hooks
from jumpstarter_exporter.hooks.session_hooks import HookSeconds, SessionHooks
from jumpstarter_exporter.session.session import Session


@asynccontextmanager
async def living(
    hooks: Hooks, *, lease: str = "l", client: str = "", seconds: HookSeconds | None = None
) -> AsyncIterator[tuple[Session, SessionHooks]]:
    async with (
        Session(Composite(), motd="Welcome.", begins_ready=False) as session,
        trio.open_nursery() as nursery,
    ):
        yield (
            session,
            SessionHooks(
                session, hooks, nursery, host="/socket", lease=lease, client=client, seconds=seconds
            ),
        )
        nursery.cancel_scope.cancel()


async def until(session: Session, status: ExporterStatus) -> None:
    with trio.fail_after(20):
        while session.status.report.status is not status:
            await trio.sleep(0.01)


async def test_what_a_hook_prints_and_its_message_of_the_day_reach_users() -> None:
    script = 'echo "for $CLIENT_NAME at $JUMPSTARTER_HOST"; echo "Mind the fan." > "$JMP_MOTD_FILE"'
    async with living(Hooks(before_lease=Hook(script=script)), client="someone") as (session, life):
        with session.log.reader() as entries:
            life.begin()
            async for entry in entries:
                if entry.source == common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK:
                    assert entry.message == "for someone at /socket"
                    break
        await until(session, ExporterStatus.LEASE_READY)
        assert session.motd == "Welcome.\nMind the fan."
        await life.end()
        life.leave()
        assert session.status.report.status is ExporterStatus.AVAILABLE, "no hook has made the exporter end"


async def test_users_hear_how_long_the_hook_took_for_the_one_before(
    mock_clock: trio.testing.MockClock,
) -> None:
    seconds = HookSeconds()
    said = []
    for script in ("read -r _", "exit 3", "true"):
        hooks = Hooks(before_lease=Hook(script=script, timeout=3600))
        async with living(hooks, seconds=seconds) as (session, life):
            life.begin()
            said.append(session.status.report.message)
            if script.startswith("read"):
                seconds.before_lease = 41.6
            while session.status.report.status is ExporterStatus.BEFORE_LEASE_HOOK and not script.startswith(
                "read"
            ):
                await trio.sleep(0)
    assert [usual_seconds(message) for message in said] == [None, 42, 42], "a hook that fails says nothing"
    assert seconds.before_lease == 0, "by a clock that stands"


async def test_a_message_that_is_not_a_file_or_too_long_is_not_a_message() -> None:
    script = 'ln -s /etc/passwd "$JMP_MOTD_FILE"'
    async with living(Hooks(before_lease=Hook(script=script))) as (session, life):
        life.begin()
        await until(session, ExporterStatus.LEASE_READY)
        assert session.motd == "Welcome."
    script = 'head -c 200000 /dev/zero | tr "\\0" x > "$JMP_MOTD_FILE"'
    async with living(Hooks(before_lease=Hook(script=script))) as (session, life):
        life.begin()
        await until(session, ExporterStatus.LEASE_READY)
        assert len(session.motd) == len("Welcome.\n") + 64 * 1024


async def test_a_hook_that_cannot_be_run_has_failed() -> None:
    hooks = Hooks(before_lease=Hook(script="true", exec="/no/such/shell", on_failure="endLease"))
    async with living(hooks) as (session, life):
        life.begin()
        await until(session, ExporterStatus.BEFORE_LEASE_HOOK_FAILED)
        assert "Hook could not be started" in session.status.report.message
        await life.end()  # it is at rest: there is nothing to wait for


async def test_a_hook_that_fails_in_a_way_nobody_foresaw_has_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pty, "openpty", lambda: os.openpty.missing)  # type: ignore[attr-defined]
    async with living(Hooks(before_lease=Hook(script="true", on_failure="exit"))) as (session, life):
        life.begin()
        with trio.fail_after(20):
            await life.exiting.wait()
        await life.end()
        failed = session.status.report
        life.leave()
        life.leave()
        left = session.status.report
    assert failed.status is ExporterStatus.BEFORE_LEASE_HOOK_FAILED, "who is there sees why first"
    assert "Hook could not be run" in failed.message
    assert (left.status, left.previous) == (ExporterStatus.OFFLINE, failed.status), "once"
    assert "Traceback" in caplog.text


async def test_a_board_that_a_hook_refuses_is_to_be_given_back() -> None:
    hook = Hook(script="exit 3", on_failure="endLease")
    async with living(Hooks(before_lease=hook)) as (_, life):
        life.begin()
        with trio.fail_after(20):
            await life.releasing.wait()
        assert not life.exiting.is_set()


async def test_what_an_after_lease_hook_writes_for_users_goes_nowhere() -> None:
    hook = Hook(script='echo "file: $JMP_MOTD_FILE"')
    async with living(Hooks(after_lease=hook)) as (session, life):
        with session.log.reader() as entries:
            life.begin()
            await life.end()
            async for entry in entries:
                if entry.source == common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK:
                    assert entry.message == "file: "
                    break


async def test_ending_twice_runs_the_hook_once(tmp_path: object) -> None:
    hooks = Hooks(after_lease=Hook(script=f"echo once >> {tmp_path}/ran"))
    async with living(hooks) as (session, life):
        life.begin()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(life.end)
                nursery.start_soon(life.end)
        assert session.status.report.status is ExporterStatus.AVAILABLE
    from pathlib import Path

    assert Path(f"{tmp_path}/ran").read_text() == "once\n"


@pytest.mark.parametrize("how", ["begin", "end"])
async def test_cancelling_in_the_middle_of_a_hook_ends_it(how: str) -> None:
    endless = Hook(script="sleep 1000")
    hooks = Hooks(before_lease=endless) if how == "begin" else Hooks(after_lease=endless)
    with trio.fail_after(20):
        async with living(hooks) as (session, life):
            life.begin()
            if how == "end":
                with trio.move_on_after(0.2):
                    await life.end()
            else:
                await until(session, ExporterStatus.BEFORE_LEASE_HOOK)
