"""One daemon has a board alone; commands share it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.boards.claim import BoardTakenError, exclusive_claim, shared_claim

Clock = trio.testing.MockClock


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks of a test are."""
    path = tmp_path / "locks"
    path.mkdir()
    monkeypatch.setattr(claim, "FOLDERS", (path,))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rpi4.yaml"
    path.touch()
    return path


def refusal(file: Path) -> str:
    with pytest.raises(BoardTakenError) as caught, shared_claim(file):
        pass
    assert caught.value.exit_code is ExitCode.DENIED
    return str(caught.value)


async def test_commands_share_a_board_and_leave_nothing(file: Path, folder: Path) -> None:
    with shared_claim(file):
        with shared_claim(file):
            assert len(list(folder.iterdir())) == 1
        with shared_claim(file):
            pass
    assert list(folder.iterdir()) == []


async def test_everybody_sees_the_lock_of_a_service_with_a_strict_umask(file: Path, folder: Path) -> None:
    before = os.umask(0o077)
    try:
        async with exclusive_claim(file):
            assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o644]
    finally:
        os.umask(before)


async def test_a_command_is_told_who_serves_the_board_and_how_it_is_reached(file: Path, folder: Path) -> None:
    async with exclusive_claim(file, socket="/run/x.sock"):
        assert refusal(file).endswith(" on this host; use that: --host /run/x.sock")
        link = file.with_name("other.yaml")
        link.symlink_to(file)
        assert "is served by process" in refusal(link)
        with shared_claim(file.with_name("rock.yaml")):
            pass
    async with exclusive_claim(file, endpoint="lab:8082", exporter="pi-7"):
        assert "for the leases of lab:8082; lease it from there" in refusal(file)
        assert "`jumpstarter shell --exporter-name pi-7`" in refusal(file)
    async with exclusive_claim(file, endpoint="lab:8082", socket="/run/x.sock"):
        said = refusal(file)
        assert said.endswith("--exporter-name rpi4`, or use it between leases: --host /run/x.sock")
        held = claim.claim_holder(file)
        assert held is not None
        assert (held.process, held.error.socket) == (str(os.getpid()), "/run/x.sock")
    with shared_claim(file):
        assert claim.claim_holder(file) is None
    assert claim.claim_holder(file) is None
    assert list(folder.iterdir()) == []


async def test_nobody_else_is_trusted_about_where_a_board_is_served(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exclusive_claim(file, endpoint="lab:8082", socket="/run/x.sock"):
        (lock,) = folder.iterdir()
        if os.getuid() == 0:
            os.chown(lock, 4711, -1)
        else:
            monkeypatch.setattr(os, "getuid", lambda: 4711)
        assert refusal(file).endswith("is served by another exporter on this host; use or stop that")
        held = claim.claim_holder(file)
        assert held is not None
        assert (held.process, held.error.socket) == ("", "")


async def test_a_daemon_waits_for_commands_to_end(file: Path, autojump_clock: Clock) -> None:
    began = trio.Event()

    async def serve() -> None:
        async with exclusive_claim(file):
            began.set()

    async with trio.open_nursery() as nursery:
        with shared_claim(file):
            nursery.start_soon(serve)
            await trio.sleep(claim.WAIT_SECONDS / 2)
            assert not began.is_set()
        with trio.fail_after(1):
            await began.wait()


async def test_a_daemon_does_not_wait_for_ever_and_takes_the_board_when_they_have_ended(
    file: Path, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with ExitStack() as command:
        command.enter_context(shared_claim(file))
        async with exclusive_claim(file):
            assert trio.current_time() >= claim.WAIT_SECONDS
            assert "using the board of" in caplog.text
            command.close()
            await trio.sleep(1)
            refusal(file)


async def test_two_daemons_are_one_too_many(file: Path, autojump_clock: Clock) -> None:
    async with exclusive_claim(file, socket="/run/x.sock"):
        with pytest.raises(BoardTakenError, match="served by process"):
            async with exclusive_claim(file):
                pass
        refusal(file)


async def test_a_command_is_not_taken_for_the_daemon_that_was_killed_before_it(
    file: Path, folder: Path, autojump_clock: Clock
) -> None:
    async with exclusive_claim(file, socket="/run/x.sock"):
        (lock,) = folder.iterdir()
        left = lock.read_bytes()
    lock.write_bytes(left)
    with shared_claim(file):
        async with exclusive_claim(file):
            assert trio.current_time() >= claim.WAIT_SECONDS


async def test_a_process_that_is_killed_leaves_no_lock(file: Path, folder: Path) -> None:
    code = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from jumpstarter_exporter.boards import claim\n"
        "claim.FOLDERS = (Path(sys.argv[1]),)\n"
        "async def main():\n"
        "    async with claim.exclusive_claim(Path(sys.argv[2])):\n"
        "        print('taken', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder, file], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert f"is served by process {process.pid} on this host" in refusal(file)
        process.kill()
        process.wait()
    with shared_claim(file):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"process": 3, "socket": ["x"]}', "\udcff", "x" * 10_000])
async def test_what_another_has_written_there_says_less_and_breaks_nothing(
    file: Path, folder: Path, text: str
) -> None:
    async with exclusive_claim(file):
        (lock,) = folder.iterdir()
        lock.write_bytes(text.encode(errors="surrogateescape"))
        assert "is served by another exporter on this host" in refusal(file)


async def test_what_killed_processes_leave_is_removed_and_what_is_held_stays(
    folder: Path, file: Path
) -> None:
    (folder / "jumpstarter-board-0").touch()
    (folder / "other").touch()
    with shared_claim(file):
        (held,) = set(folder.glob("jumpstarter-*")) - {folder / "jumpstarter-board-0"}
        claim.remove_stale_claims()
        assert set(folder.iterdir()) == {held, folder / "other"}


async def test_what_another_user_has_left_is_theirs_to_remove(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = folder / "jumpstarter-board-0"
    left.touch()
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    claim.remove_stale_claims()
    assert left.exists()
    monkeypatch.undo()
    monkeypatch.setattr(claim, "FOLDERS", (folder,))
    claim.remove_stale_claims()
    assert not left.exists()


@pytest.mark.parametrize("kind", ["a pipe", "a link", "a loop of links", "a hard link"])
async def test_what_somebody_puts_there_instead_keeps_nobody_from_their_board(
    file: Path, folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with shared_claim(file):
        (path,) = folder.iterdir()
    target = folder / "target"
    if kind in ("a link", "a hard link"):
        target.write_text("mine")
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a hard link":
        path.hardlink_to(target)
    else:
        path.symlink_to(path if "loop" in kind else target)
    with trio.fail_after(10):
        async with exclusive_claim(file, socket="/run/x.sock"):
            pass
        with shared_claim(file):
            pass
    assert not target.exists() or target.read_text() == "mine", "nothing is written through a link"
    assert ("is not a lock file" in caplog.text) == (kind in ("a link", "a loop of links"))
