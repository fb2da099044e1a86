"""Files that appear, change, break and go, while boards are served and used."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import Channel, RpcError
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.serve.board import LocalBoard
from jumpstarter_exporter.serve.boards import Boards
from jumpstarter_exporter.serve.host_server import BOARD, BoardRegistry
from jumpstarter_exporter.session.logs import NameBoard
from tests.support.served_host import POWER, ServedHost, channel, listed, reload

TWO = "export: {power: {type: power.MockPower}, spare: {type: power.MockPower}}"


async def devices(door: Channel, board: str | None = None) -> dict[str, str]:
    """The UUIDs of a board's devices, by name."""
    metadata = [] if board is None else [(BOARD, board)]
    told = await ExporterServiceStub(door).GetReport(empty_pb2.Empty(), metadata=metadata)
    return {one.labels["jumpstarter.dev/name"]: one.uuid for one in told.reports if one.parent_uuid}


async def switch(door: Channel, board: str | None = None) -> None:
    """Use the board."""
    metadata = [] if board is None else [(BOARD, board)]
    uuid = (await devices(door, board))["power"]
    request = jumpstarter_pb2.DriverCallRequest(uuid=uuid, method="on")
    await ExporterServiceStub(door).DriverCall(request, metadata=metadata)


async def test_files_that_appear_change_and_go_are_taken_up_and_no_other_board_is_touched(
    host: ServedHost,
) -> None:
    for name in ("stays", "changes", "goes"):
        host.write(name)
    async with host.running() as door:
        before = await devices(door, "changes")
        async with channel(host.door.parent / "boards" / "stays.sock") as user:
            await switch(user)
            host.write("changes", TWO)
            host.write("comes")
            (host.folder / "goes.yaml").unlink()
            assert await reload(door) == {
                "changes": "restarted",
                "comes": "served",
                "goes": "its file is gone; it is not served any more",
                "stays": "unchanged",
            }
            await switch(user)  # on the connection that it had
        after = await devices(door, "changes")
        assert set(after) == {"power", "spare"}
        assert after["power"] == before["power"]
        assert set(await listed(door)) == {"changes", "comes", "stays"}
        assert not (host.door.parent / "boards" / "goes.sock").exists()
        assert set((await reload(door)).values()) == {"unchanged"}


async def test_a_board_that_is_used_changes_when_its_users_have_left(
    host: ServedHost, users_leave_at_once: None
) -> None:
    host.write("rpi4")
    host.write("rock")
    async with host.running() as door:
        async with channel(host.door) as user:
            await switch(user, "rpi4")
            host.write("rpi4", "motdd: hello\n" + TWO)
            said = (await reload(door))["rpi4"]
            assert said.startswith("changes after local use by ")
            assert ", and ignores " in said
            assert "'motdd'" in said
            assert (await listed(door))["rpi4"].change == "its file has changed"
            await switch(user, "rpi4")
            assert set(await devices(door, "rpi4")) == {"power"}
        while (board := (await listed(door))["rpi4"]).change or board.problem:
            await trio.sleep(0.01)
        assert set(await devices(door, "rpi4")) == {"power", "spare"}


async def test_a_board_that_gets_a_process_of_its_own_leaves_this_one_after_its_user(
    host: ServedHost, users_leave_at_once: None
) -> None:
    file = host.write("rpi4")
    host.write("rock")
    async with host.running(leads=True) as door:
        async with channel(host.door) as user:
            await switch(user, "rpi4")
            host.write("rpi4", f"ownProcess: true\n{POWER}")
            assert (await reload(door))["rpi4"].startswith("changes after local use by ")
            await switch(user, "rpi4")
            held = claim.claim_holder(file)
            assert held is not None
            assert held.process == str(os.getpid())
        while not (problem := (await listed(door))["rpi4"].problem).startswith("its own process"):
            await trio.sleep(0.01)
        assert "jumpstarter-exporter run --board rpi4" in problem
        assert claim.claim_holder(file) is None, "its process can have it"
        assert not (host.door.parent / "boards" / "rpi4.sock").exists()
        assert await reload(door) == {"rock": "unchanged", "rpi4": "runs in its own process"}


async def test_a_hook_is_told_its_board_and_where_its_host_is(host: ServedHost, tmp_path: Path) -> None:
    for name in ("rpi4", "rock"):
        script = f'echo "$JUMPSTARTER_BOARD at $JUMPSTARTER_HOST" > {tmp_path}/{name}'
        host.write(name, f"{POWER}\nhooks: {{beforeLease: {{script: {script!r}}}}}")
    async with host.running():
        for name in ("rpi4", "rock"):
            while not (tmp_path / name).exists() or not (tmp_path / name).read_text():
                await trio.sleep(0.01)
            said, _, where = (tmp_path / name).read_text().strip().partition(" at ")
            assert said == name
            async with channel(Path(where)) as as_a_hook:
                assert set(await devices(as_a_hook, said)) == {"power"}


async def test_a_change_that_is_taken_back_while_it_waits_is_none(host: ServedHost) -> None:
    host.write("rpi4")
    host.write("rock")
    async with host.running() as door, channel(host.door) as user:
        await switch(user, "rpi4")
        host.write("rpi4", TWO)
        assert "changes after" in (await reload(door))["rpi4"]
        host.write("rpi4")
        assert (await reload(door))["rpi4"] == "unchanged"
        assert (await listed(door))["rpi4"].change == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("export: [", "rpi4.yaml"),
        ("export: {power: {ref: nobody}}", "names nothing"),
        ("export: {}\nkind: ClientConfig", "ExporterConfig"),
    ],
)
async def test_a_board_whose_file_breaks_goes_on_as_it_was_and_says_so(
    host: ServedHost, text: str, why: str
) -> None:
    host.write("rpi4")
    host.write("rock")
    async with host.running() as door:
        before = await devices(door, "rpi4")
        host.write("rpi4", text)
        said = (await reload(door))["rpi4"]
        assert said.startswith("stays as it was: ")
        assert why in said
        assert why in (await listed(door))["rpi4"].change
        assert await devices(door, "rpi4") == before
        host.write("rpi4", TWO)
        assert (await reload(door))["rpi4"] == "restarted"
        assert (await listed(door))["rpi4"].change == ""


ONE_BAD = "export: {power: {type: power.MockPower}, spare: {type: power.MokPower}}"


async def test_a_leased_board_whose_file_breaks_is_said_to_be_the_exporter_that_it_is(
    host: ServedHost,
) -> None:
    host.write("rpi4", f"endpoint: 127.0.0.1:1\ntoken: x\nmetadata: {{namespace: lab, name: rpi4}}\n{POWER}")
    async with host.running() as door:
        before = (await listed(door))["rpi4"].exporter
        assert before.startswith("exporter lab/rpi4 of ")
        host.write("rpi4", "export: [")
        await reload(door)
        assert (await listed(door))["rpi4"].exporter == before


async def test_a_typo_in_one_device_takes_nothing_from_a_board_that_works(host: ServedHost) -> None:
    host.write("rpi4", TWO)
    async with host.running() as door:
        before = await devices(door)
        host.write("rpi4", ONE_BAD)
        done = await HostServiceStub(door).Reload(host_pb2.ReloadRequest())
        assert [one.outcome for one in done.boards] == [host_pb2.ReloadedBoard.OUTCOME_BROKEN]
        assert done.boards[0].text.startswith("stays as it was: ")
        assert "did you mean 'power.MockPower'?" in done.boards[0].text
        assert await devices(door) == before


async def test_a_key_that_is_ignored_is_named_to_who_reloads(host: ServedHost) -> None:
    host.write("rpi4")
    async with host.running() as door:
        host.write("rpi4", "hooks: {beforLease: {script: 'true'}}\nmotdd: hello\n" + TWO)
        said = (await reload(door))["rpi4"]
        assert said.startswith("restarted, and ignores "), said
        assert "beforLease'; did you mean 'beforeLease'?" in said
        assert "motdd" in said
        assert (await reload(door))["rpi4"] == "unchanged"
        host.write("rock", "export: {power: {type: power.MockPower, wahr: 1}}")
        assert (await reload(door))["rock"].startswith("served, and ignores ")
        host.write("rpi4", "".join(f"key{number}: 1\n" for number in range(7)) + TWO)
        said = (await reload(door))["rpi4"]
        assert said.endswith("; and 2 more")
        assert "'key4'" in said
        assert "'key5'" not in said


async def test_a_device_that_was_broken_before_keeps_no_change_from_its_board(host: ServedHost) -> None:
    host.write("rpi4", ONE_BAD)
    async with host.running() as door:
        host.write("rpi4", ONE_BAD.replace("}}", "}, third: {type: power.MockPower}}"))
        said = (await reload(door))["rpi4"]
        assert said.startswith("restarted, but for what has a mistake: ")
        assert "export.spare.type" in said
        assert "third" in await devices(door)


async def test_a_new_file_with_a_typo_in_one_device_is_served_and_said_to_be_broken(host: ServedHost) -> None:
    host.write("rpi4")
    async with host.running() as door:
        host.write("rock", ONE_BAD)
        done = await HostServiceStub(door).Reload(host_pb2.ReloadRequest())
        (rock,) = (one for one in done.boards if one.name == "rock")
        assert rock.outcome == host_pb2.ReloadedBoard.OUTCOME_BROKEN
        assert rock.text.startswith("served, but for what has a mistake: ")
        assert "export.spare.type" in rock.text


async def test_what_is_wrong_with_a_board_is_logged_once_and_again_when_it_is_something_else(
    host: ServedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.write("goes-on")
    host.write("never", "export: {power: {type: power.Nope}}")

    def said(word: str) -> int:
        faults = (one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)
        return sum(word in text for text in faults)

    async with host.running() as door:
        host.write("goes-on", "export: [")
        for _ in range(3):
            await reload(door)
        assert said("goes-on") == said("never") == 1
        host.write("goes-on", "export: {power: {type: power.Nope}}")
        host.write("never", "export: [")
        for _ in range(2):
            await reload(door)
        assert said("goes-on") == said("never") == 2
        host.write("goes-on")
        host.write("never")
        assert await reload(door) == {"goes-on": "unchanged", "never": "served"}
        assert said("goes-on") == said("never") == 2


async def test_a_second_file_of_one_name_and_one_that_cannot_be_read_disturb_nobody(host: ServedHost) -> None:
    host.write("rpi4")
    async with host.running() as door:
        host.write("twin", "metadata: {name: rpi4}\n" + POWER)
        (host.folder / "odd.yaml").mkdir()
        said = await reload(door)
        assert said["rpi4"] == "unchanged"
        assert said["twin"].startswith("not served: ")
        assert "it is named rpi4, as" in said["twin"]
        assert "the file cannot be read: Is a directory" in said["odd"]
        assert (await listed(door))["odd"].problem


async def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(host: ServedHost) -> None:
    """Nobody writes into it, so whoever opens it to read waits for ever: a reload, and then the exporter's end."""
    host.write("rpi4")
    host.write("rock")
    async with host.running() as door:
        os.mkfifo(host.folder / "odd.yaml")
        (host.folder / "rock.yaml").unlink()
        os.mkfifo(host.folder / "rock.yaml")
        said = await reload(door)
        assert said["rpi4"] == "unchanged"
        assert said["odd"].endswith("it is a pipe, a socket or a device, not a file")
        assert said["rock"].startswith("stays as it was: ")
        await switch(door, "rock")


async def test_a_file_that_gives_its_board_another_name_makes_another_board_of_it(host: ServedHost) -> None:
    host.write("a")
    host.write("b")
    async with host.running() as door, channel(host.door) as user:
        await switch(user, "a")
        host.write("a", "metadata: {name: new}\n" + POWER)
        said = await reload(door)
        assert said["a"].startswith("its file is gone; it ends after local use by ")
        assert said["new"].startswith("begins after local use by ")
        assert said["new"].endswith(" of a")


async def test_who_came_to_the_only_board_goes_on_with_it_when_there_are_others(host: ServedHost) -> None:
    host.write("rpi4")
    async with host.running() as door, channel(host.door) as user:
        await switch(user)
        host.write("rock")
        assert await reload(door) == {"rock": "served", "rpi4": "unchanged"}
        await switch(user)
        async with channel(host.door.parent / "boards" / "rpi4.sock") as own:
            assert set(await devices(own)) == {"power"}
        async with channel(host.door) as other:
            with pytest.raises(RpcError, match="choose one"):
                await devices(other)


async def test_a_board_that_does_not_start_anew_says_so_and_the_next_reload_tries_again(
    host: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("rpi4")
    host.write("rock")
    whole, full = LocalBoard.run, True

    async def run(self: LocalBoard, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        await whole(self, task_status=task_status)

    async with host.running() as door:
        monkeypatch.setattr(LocalBoard, "run", run)
        host.write("rpi4", TWO)
        assert (await reload(door))["rpi4"] == "not served: [Errno 28] No space left on device"
        assert "No space left" in (await listed(door))["rpi4"].problem
        assert set(await devices(door, "rock")) == {"power"}
        full = False
        assert (await reload(door))["rpi4"] == "served"
        assert set(await devices(door, "rpi4")) == {"power", "spare"}


async def test_reloads_at_the_same_time_come_one_after_the_other(host: ServedHost) -> None:
    host.write("rpi4")
    host.write("rock")
    async with host.running() as door:
        answers: list[dict[str, str]] = []

        async def ask() -> None:
            answers.append(await reload(door))

        host.write("rpi4", TWO)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert sorted(answer["rpi4"] for answer in answers) == ["restarted", "unchanged", "unchanged"]


async def test_a_reload_whose_caller_leaves_while_devices_are_looked_at_is_done_all_the_same(
    host: ServedHost,
) -> None:
    host.write("stays")
    registry = BoardRegistry()
    boards = Boards(registry, host.door, host.read)
    looking, looked = trio.Event(), trio.Event()

    async def rediscover(files: Mapping[str, BoardFile]) -> Sequence[ConfigError]:
        looking.set()
        await looked.wait()
        return ()

    boards.rediscover = rediscover
    async with trio.open_nursery() as served, trio.open_nursery() as nursery:
        await boards.start(host.read({}), served, nursery)
        host.write("comes")

        async def leave() -> None:
            await looking.wait()
            scope.cancel()
            looked.set()

        with trio.fail_after(20), trio.CancelScope() as scope:
            nursery.start_soon(leave)
            await boards.reload()
        assert scope.cancelled_caught
        assert set(boards.files) == {"comes", "stays"}
        with trio.fail_after(20):
            while set(registry.served) != {"comes", "stays"}:
                await trio.sleep(0.01)
            await boards.finish()
            await boards.close()
        nursery.cancel_scope.cancel()


async def test_a_reading_that_fails_changes_nothing(
    host: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("rpi4")

    class GoneError(JumpstarterError):
        status = "NOT_FOUND"

    whole, is_gone = host.read, False

    def read(before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        if is_gone:
            raise GoneError("there is no exporter configuration")
        return whole(before)

    monkeypatch.setattr(host, "read", read)
    async with host.running() as door:
        is_gone = True
        with pytest.raises(RpcError, match="there is no exporter configuration"):
            await reload(door)
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep(0.1)
        assert set(await devices(door)) == {"power"}


async def test_a_board_that_stopped_is_started_again_by_resume_and_by_a_reload(host: ServedHost) -> None:
    host.write("rock")
    fail = host.folder / "fail"
    fail.touch()
    hook = f"hooks: {{beforeLease: {{script: 'test ! -e {fail}', onFailure: exit}}}}"
    host.write("rpi4", f"{POWER}\n{hook}")

    async def stopped() -> None:
        while not (await listed(door))["rpi4"].problem.startswith("one of its hooks has failed"):
            await trio.sleep(0.01)

    async with host.running() as door:
        await stopped()
        with pytest.raises(RpcError, match="`jumpstarter-exporter resume rpi4` starts it again"):
            await devices(door, "rpi4")
        await HostServiceStub(door).Resume(host_pb2.ResumeRequest(board="rpi4"))
        await stopped()
        assert (await reload(door))["rpi4"] == "served"
        await stopped()
        fail.unlink()
        resumed = await HostServiceStub(door).Resume(host_pb2.ResumeRequest(board="rpi4"))
        assert list(resumed.started) == ["rpi4"]
        await switch(door, "rpi4")


async def test_a_board_that_is_just_stopping_is_started_again_by_a_reload(
    host: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("rock")
    fail = host.folder / "fail"
    fail.touch()
    hook = f"hooks: {{beforeLease: {{script: 'test ! -e {fail}', onFailure: exit}}}}"
    host.write("rpi4", f"{POWER}\n{hook}")
    stopping, go_on = trio.Event(), trio.Event()
    finish = LocalBoard.finish

    async def slowly(board: LocalBoard) -> None:
        if board.name == "rpi4":
            stopping.set()
            await go_on.wait()
        await finish(board)

    monkeypatch.setattr(LocalBoard, "finish", slowly)
    read = host.read

    def noticed(before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        files = read(before)
        if stopping.is_set():
            trio.from_thread.run_sync(go_on.set)
        return files

    monkeypatch.setattr(host, "read", noticed)
    async with host.running() as door:
        await stopping.wait()
        fail.unlink()
        assert (await reload(door))["rpi4"] in ("restarted", "served")
        await switch(door, "rpi4")


async def test_what_the_host_says_of_boards_that_begin_anew_is_in_no_boards_log(
    host: ServedHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(NameBoard())
    for name in ("one", "two"):
        host.write(name)
    async with host.running() as door:
        for name in ("one", "two"):
            host.write(name, TWO)
        await reload(door)
    said = {record.getMessage(): getattr(record, "board", "") for record in caplog.records}
    assert said["the board one is served with its new configuration"] == ""
    assert said["the board two is served with its new configuration"] == ""


@pytest.mark.parametrize("words", ["resume rpi4", "reload"])
async def test_a_hook_that_asks_for_what_waits_for_it_is_told_so(
    host: ServedHost, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.serve.host_server.CALL_FROM_HOOK_SECONDS", 0.2)
    answer, again = host.home / "answer", host.home / "again"
    command = (
        f"{sys.executable} -c 'from jumpstarter_exporter import cli; cli.main()' {words} --socket {host.door}"
    )
    script = f"{command} 2> {answer}; echo $? >> {answer}; touch {again}"
    hooks = f"hooks: {{afterLease: {{script: {json.dumps(f'test -e {again} || ({script})')}}}}}\n"
    host.write("rpi4", f"{hooks}{POWER}")
    host.write("rock")
    async with host.running() as door:
        host.write("rpi4", f"{hooks}{TWO}")
        assert (await reload(door))["rpi4"] == "restarted"
    said, code = answer.read_text().splitlines()
    assert said.startswith(
        "jumpstarter-exporter: a hook cannot wait for this, because the exporter waits for the hook"
    )
    assert code == str(ExitCode.FAILED.value)


async def test_a_board_that_is_being_started_when_the_exporter_is_to_leave_does_not_keep_it(
    host: ServedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("stays")
    boards = Boards(BoardRegistry(), host.door, host.read)
    make = boards._make

    def make_late(entry: Any, config: Any, before: Any = None) -> Any:
        if entry.name == "comes":
            boards.leave()
        return make(entry, config, before)

    monkeypatch.setattr(boards, "_make", make_late)
    async with trio.open_nursery() as served, trio.open_nursery() as nursery:
        await boards.start(host.read({}), served, nursery)
        boards.begin()
        host.write("comes")
        with trio.fail_after(20):
            await boards.reload()
            await boards.ended.wait()
        nursery.cancel_scope.cancel()
